"""What each lever is worth in a training step of the paper's size on an accelerator: images per second, and the share of its peak.

python -m benchmarks.accelerator --device cuda --out benchmarks/results/accelerator.json

The model is that of profile ``paper`` (a residual network of 34 layers at 224 pixels, a TinyBERT, batch 32) on stays of noise. Levers are
applied one at a time and then together: lower precision, compiled encoders, channels in the last place of memory, texts of like length
in a batch, values that are on the device already, images as bytes that become numbers there. Without an accelerator it says so and ends,
unless ``--small`` asks for a try of every lever on small networks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._timing import arguments, interleaved, report
from cm2.batch import Batch, Modality, Value
from cm2.config import Config
from cm2.methods import METHODS
from cm2.runs.loops import TrainingLoop

WORDS = (40, 400)
"""Shortest and longest text of a batch, in tokens."""


@dataclass(frozen=True)
class Levers:
    """Which levers are pulled."""

    bf16: bool = False
    compiled: bool = False
    channels_last: bool = False
    bucketed: bool = False
    """All texts of a batch have one length, the mean of a mixed batch's."""
    resident: bool = False
    """Values are on the device before the step."""
    bytes: bool = False
    """Images travel as bytes and become numbers on the device."""


EACH = {
    "none": Levers(),
    "bf16": Levers(bf16=True),
    "compiled encoders": Levers(compiled=True),
    "channels last": Levers(channels_last=True),
    "texts of like length": Levers(bucketed=True),
    "values on the device": Levers(resident=True),
    "images as bytes": Levers(bytes=True),
    "all": Levers(*[True] * 6),
}


class Step:
    """Training steps of one set of levers.

    Args:
        levers: those pulled.
        small: whether the networks are those of profile ``quick`` and the images of 64 pixels.
        device: where the method is.
    """

    def __init__(self, levers: Levers, small: bool, device: str) -> None:
        torch.manual_seed(0)
        self.levers, self.device = levers, device
        side, length = (64, 128) if small else (224, 512)
        config = Config.from_profile("quick" if small else "paper", {"method": "cm2", "encoder.text.max_length": length})
        series, image, text = (24, 76), (side, side), (length,)
        shapes = Modality("series", "series", series), Modality("image", "image", image), Modality("note", "text", text, 1000)
        self.size = config.train.batch_size
        self.method = METHODS["cm2"](config, shapes).to(device)
        self.batch = self._batch(side, length)
        self.method.initialise(self._on_device(self.batch))
        if levers.channels_last:
            self.method.embeddings.encoders["image"].to(memory_format=torch.channels_last)
        if levers.compiled:
            for name in ("image", "note"):  # a recurrent layer is one kernel already
                self.method.embeddings.encoders[name].compile()
        self.optimiser = TrainingLoop(self.method, config).configure_optimizers()
        self.waiting = self._on_device(self.batch) if levers.resident else self.batch
        self.image: Tensor = self.batch.values["image"]
        self.grey = (self.image * 255).to(torch.uint8)

    def __call__(self) -> None:
        """One step, from values in memory to updated weights."""
        self.optimiser.zero_grad()
        kind = torch.device(self.device).type
        with torch.autocast(kind, torch.bfloat16) if self.levers.bf16 else contextlib.nullcontext():
            loss = self.method.loss(self._arrived())["loss"]
        loss.backward()
        self.optimiser.step()

    def flops(self) -> int:
        """Floating-point operations of a step, as torch counts those of matrix products and convolutions."""
        with FlopCounterMode(display=False) as counter:
            self()
        return int(counter.get_total_flops())

    def _arrived(self) -> Batch:
        if not self.levers.bytes or self.levers.resident:
            return self._on_device(self.waiting)
        grey = self.grey.to(self.device, non_blocking=True).float().div_(255)
        moved = self._on_device(replace(self.batch, values={**self.batch.values, "image": self.image[:, :0]}))
        return replace(moved, values={**moved.values, "image": grey})

    def _on_device(self, batch: Batch) -> Batch:
        return batch.to(self.device, non_blocking=True)

    def _batch(self, side: int, length: int) -> Batch:
        shortest, longest = (min(words, length) for words in WORDS)
        lengths = torch.linspace(shortest, longest, self.size).long()
        if self.levers.bucketed:
            lengths = torch.full_like(lengths, int(lengths.float().mean()))
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        values: dict[str, Value] = {
            "series": torch.randn(self.size, 24, 76),
            "image": torch.rand(self.size, side, side),
            "note": {"input_ids": torch.randint(5, 1000, mask.shape) * mask, "attention_mask": mask},
        }
        label = (torch.arange(self.size) % 4 == 0).float()
        batch = Batch(values, torch.ones(self.size, 3, dtype=torch.bool), label, torch.arange(self.size))
        return batch.pin_memory() if torch.device(self.device).type == "cuda" else batch


def peak(device: str, bf16: bool, repeats: int, side: int = 8192) -> float:
    """Floating-point operations per second of a large matrix product: what the machine reaches where nothing else holds it up."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16 if bf16 else torch.float32) for _ in range(2))
    timing = interleaved({"product": lambda: a @ b}, repeats, warmup=2, device=device)["product"]
    return 2 * side**3 / timing.median


def main() -> None:
    """Prints the table, or says that there is no accelerator."""
    parser = arguments(__doc__.splitlines()[0], repeats=10)
    parser.add_argument("--small", action="store_true", help="small networks, to try every lever where there is no accelerator")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.device == "cpu" and not options.small:
        parser.exit(message="no accelerator was asked for; give --device cuda, or --small to try every lever on this processor\n")
    if options.device != "cpu" and not torch.accelerator.is_available():
        parser.exit(2, "this machine has no accelerator that torch can use; give --small to try every lever on its processor\n")
    steps: dict[str, Callable[[], Any]] = {}
    flops = {}
    for name, levers in EACH.items():
        step = Step(levers, options.small, options.device)
        steps[name], flops[name] = step, step.flops() if not levers.compiled else 0
        size = step.size
    flops["compiled encoders"], flops["all"] = flops["none"], flops["texts of like length"]  # a compiled graph is not counted
    timings = interleaved(steps, options.repeats, warmup=3, device=options.device)
    side = 512 if options.small else 8192
    best = {bf16: peak(options.device, bf16, options.repeats, side) for bf16 in (False, True)}
    rows = [
        {
            "lever": name,
            "median s": timings[name].median,
            "images/s": size / timings[name].median,
            "ratio to none": timings["none"].median / timings[name].median,
            "GFLOP of a step": flops[name] / 1e9,
            "share of the peak": flops[name] / timings[name].median / best[EACH[name].bf16],
        }
        for name in EACH
    ]
    note = (
        f"Profile {'quick' if options.small else 'paper'}, batch {size}. Peak: a product of two square matrices of side {side},"
        f" {best[False] / 1e12:.3g} TFLOP/s in float32 and {best[True] / 1e12:.3g} in bfloat16, on the same machine. A ratio is that of"
        " medians in the same run; texts of like length have fewer tokens to compute."
    )
    report("Levers of a training step", rows, options, note)


if __name__ == "__main__":
    main()
