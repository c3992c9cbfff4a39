"""What each lever is worth in training at the paper's size on an accelerator: images per second, the share of its peak, and a roofline.

python -m benchmarks.accelerator --device cuda --out benchmarks/results/accelerator.json

The model is that of profile ``paper`` (a residual network of 34 layers at 224 pixels, a TinyBERT that starts at random, batch 32) on a
cohort of noise. Levers are those of training itself, applied one at a time and then together: lower precision, compiled encoders,
channels in the last place of memory, texts of like length in a batch, stays that lie on the device, images that travel as bytes. Without
an accelerator it says so and ends, unless ``--small`` asks for a try of every lever on small networks.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._roofline import Call, bandwidth, draw, measure, table
from benchmarks._timing import arguments, interleaved, markdown, report
from cm2 import Config, load_cohort
from cm2.batch import Batch
from cm2.cohorts import Cohort
from cm2.kinds import ready
from cm2.methods import build_method, tokenised
from cm2.methods.cm2 import CM2
from cm2.runs import speed
from cm2.runs.batches import Batches, loader_of, sampler_of
from cm2.runs.loops import TrainingLoop
from cm2.runs.resident import Resident
from data_prep.writer import PreparedCohort, PreparedModality, write_cohort

WORDS = (40, 400)
"""Fewest and most words of a text."""
STEPS, FEW = 4, 1
"""Batches of an epoch that is timed, and of a try on small networks."""
SMALL_BATCH = 8
"""Stays of a batch of a try, which is to end in a couple of minutes on a busy processor."""


@dataclass(frozen=True)
class Levers:
    """Which levers are pulled: settings of training, and how batches travel."""

    settings: tuple[tuple[str, Any], ...] = ()
    raw: bool = False
    """Images travel as bytes, as they always do in training; otherwise as numbers."""
    resident: bool = False


BF16, COMPILED, LAST = ("train.precision", "bf16-mixed"), ("train.compile", True), ("train.channels_last", True)
ALIKE = ("train.bucket", STEPS)
EACH = {
    "none": Levers(),
    "bf16": Levers((BF16,)),
    "compiled encoders": Levers((COMPILED,)),
    "channels last": Levers((LAST,)),
    "texts of like length": Levers((ALIKE,)),
    "images as bytes": Levers(raw=True),
    "stays on the device": Levers(raw=True, resident=True),
    "all": Levers((BF16, COMPILED, LAST, ALIKE), raw=True, resident=True),
}


class Epoch:
    """Epochs of a few steps with one set of levers, from stays in memory to updated weights, by the parts that training consists of."""

    def __init__(self, levers: Levers, small: bool, device: str, cohort: Cohort) -> None:
        self.config, self.device, where = config_of(small, dict(levers.settings)), torch.device(device), torch.device(device)
        cohort = tokenised(cohort, self.config)
        self.method, stays = build_method(self.config, cohort), cohort.split("train", "death")
        batches = Resident(stays, where) if levers.resident else Batches(stays, raw=levers.raw)
        self.loader = loader_of(batches, self.config.train, sampler_of(stays, self.config.train, 0))
        self.method.initialise(stays.batch(range(min(len(stays), 2 * self.config.train.batch_size))))
        speed.quicken(self.method, self.config.train, where)
        self.loop = TrainingLoop(self.method.to(where), self.config)
        self.optimiser = self.loop.configure_optimizers()

    def __call__(self) -> None:
        """One epoch."""
        for step, batch in enumerate(self.loader):
            here = self.loop.on_after_batch_transfer(self.loop.transfer_batch_to_device(batch, self.device, 0), 0)
            self.optimiser.zero_grad()  # type: ignore[no-untyped-call]  # torch's own
            lower = self.config.train.precision != "32-true"
            with torch.autocast(self.device.type, torch.bfloat16) if lower else contextlib.nullcontext():
                loss = self.loop.training_step(here, step)
            loss.backward()
            self.optimiser.step()

    def flops(self) -> int:
        """Floating-point operations of an epoch, as torch counts those of matrix products and convolutions."""
        with FlopCounterMode(display=False) as counter:
            self()
        return int(counter.get_total_flops())


def config_of(small: bool, settings: dict[str, Any]) -> Config:
    """Profile ``paper``, or ``quick`` with small batches and texts of up to 128 tokens."""
    base: dict[str, Any] = {"train.batch_size": SMALL_BATCH} if small else {}
    base |= {"method": "cm2", "encoder.text.max_length": 128 if small else 512, "encoder.text.pretrained": "", "train.workers": 0}
    return Config.from_profile("quick" if small else "paper", {"task": "death"} | base | settings)


def _steps(small: bool) -> int:
    return FEW if small else STEPS


def noise(folder: Path, small: bool) -> Cohort:
    """A cohort of noise: a series, an image and a text for every stay, enough for an epoch's batches."""
    rng, side = np.random.default_rng(0), 64 if small else 224
    n = _steps(small) * config_of(small, {}).train.batch_size
    lengths = np.linspace(*WORDS, n).astype(int) // (4 if small else 1)
    texts: list[str | None] = [" ".join(rng.choice([f"word{i}" for i in range(500)], size=k)) for k in rng.permutation(lengths)]
    everyone = np.ones(n + 8, dtype=bool)
    modalities = {
        "series": PreparedModality("series", rng.normal(size=(n + 8, 24, 76)), everyone),
        "image": PreparedModality("image", rng.integers(0, 256, size=(n + 8, side, side), dtype=np.uint8), everyone),
        "note": PreparedModality("text", [*texts, *texts[:8]], everyone),
    }
    split = np.where(np.arange(n + 8) < n, "train", np.where(np.arange(n + 8) % 2, "valid", "test"))
    stays = pd.DataFrame({"stay_id": np.arange(n + 8), "split": split, "death": np.arange(n + 8) // 2 % 2})
    made = PreparedCohort("noise", "noise", "1", {}, stays, modalities, {"death": "made up"}, [], {}, credentialed=False)
    return load_cohort(write_cohort(folder, made))


def graphs_only() -> None:
    """Encoders are taken as graphs and run as they are: a try need not wait for minutes of a compiler for processors."""
    speed.COMPILER.clear()
    speed.COMPILER["backend"] = "eager"


def peak(device: str, bf16: bool, repeats: int, side: int) -> float:
    """Floating-point operations per second of a large matrix product: what the machine reaches where nothing else holds it up."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16 if bf16 else torch.float32) for _ in range(2))
    timing = interleaved({"product": lambda: a @ b}, repeats, warmup=2, device=device)["product"]
    return 2 * side**3 / timing.median


def modules(options: argparse.Namespace, cohort: Cohort) -> list[dict[str, Any]]:
    """Work and time of the encoders, the joint distribution and the fusion, each by itself."""
    config = config_of(options.small, {})
    cohort = tokenised(cohort, config)
    method, stays = build_method(config, cohort), cohort.split("train", "death")
    assert isinstance(method, CM2)
    raw = stays.raw(range(config.train.batch_size))
    batch: Batch = ready(raw.to(options.device), cohort.modalities)
    method.initialise(ready(raw, cohort.modalities))
    method.to(options.device).train()
    z = method.embed(batch)[0].detach().requires_grad_()
    encoders = method.embeddings.encoders
    inputs = {name: list(v.values()) if isinstance(v, dict) else [v] for name, v in batch.values.items()}
    encode = lambda name: lambda: encoders[name](batch.values[name]).float().sum()
    parts: dict[str, tuple[torch.nn.Module, list[torch.Tensor], Call]] = {
        f"{what} encoder": (encoders[name], inputs[name], encode(name))
        for what, name in {"image": "image", "text": "note", "series": "series"}.items()
    }
    law = lambda: torch.stack([value for _, value in method._terms(z, z, batch.present).values()]).sum()
    parts["joint distribution"] = method.joint, [z, batch.present], law
    parts["fusion"] = method.fusion, [z, batch.present], lambda: method._logits(z[None], batch.present).sum()
    return measure(parts, options.repeats, options.device)


def levers(options: argparse.Namespace, cohort: Cohort, best: dict[bool, float]) -> list[dict[str, Any]]:
    """Epochs with each set of levers, timed in turn."""
    epochs: dict[str, Callable[[], Any]] = {}
    flops = {}
    for name in options.only or EACH:
        epochs[name] = epoch = Epoch(EACH[name], options.small, options.device, cohort)
        flops[name] = epoch.flops() if COMPILED not in EACH[name].settings else None  # a compiled graph is not counted
        stays = len(epoch.loader.dataset)  # type: ignore[arg-type]  # torch's type of a data set has no length
    timings = interleaved(epochs, options.repeats, warmup=1 if options.small else 2, device=options.device)
    same = {"compiled encoders": "none", "all": "texts of like length"}
    rows = []
    for name, timing in timings.items():
        counted, lower = flops[name] or flops.get(same.get(name, name)), BF16 in EACH[name].settings
        roof = None if lower and options.device == "cpu" else best[lower]  # processors without units for it have no peak worth the name
        rows.append(
            {
                "lever": name,
                "median s": timing.median,
                "images/s": stays / timing.median,
                "ratio to none": timings["none"].median / timing.median if "none" in timings else None,
                "GFLOP of a step": counted and counted / _steps(options.small) / 1e9,
                "share of the peak": counted / timing.median / roof if counted and roof else None,
            }
        )
    return rows


def main() -> None:
    """Prints the tables, or says that there is no accelerator."""
    parser = arguments(__doc__.splitlines()[0], repeats=10)
    parser.add_argument("--small", action="store_true", help="small networks, to try every lever where there is no accelerator")
    parser.add_argument("--only", nargs="*", choices=list(EACH), help="these sets of levers alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.small and options.device == "cpu":
        graphs_only()
    if options.device == "cpu" and not options.small:
        parser.exit(message="no accelerator was asked for; give --device cuda, or --small to try every lever on this processor\n")
    if options.device != "cpu" and not torch.accelerator.is_available():
        parser.exit(2, "this machine has no accelerator that torch can use; give --small to try every lever on its processor\n")
    best = {bf16: peak(options.device, bf16, options.repeats, 512 if options.small else 8192) for bf16 in (False, True)}
    wide = bandwidth(options.device, options.repeats, 2**28 if options.small else 2**32)
    with tempfile.TemporaryDirectory() as folder:
        cohort = noise(Path(folder) / "noise", options.small)
        rows, work = levers(options, cohort, best), modules(options, cohort)
    report("Levers of a training step", rows, options, note_of(options, best, wide), after=partial(page, work, best[False], wide, options))


def note_of(options: argparse.Namespace, best: dict[bool, float], wide: float) -> str:
    """What was measured, on what."""
    batch, tried = config_of(options.small, {}).train.batch_size, ""
    if options.device == "cpu":
        tried = (
            "No accelerator was available: these are small networks on a processor, to show that every lever works; encoders are taken as"
            " graphs but not compiled. The script is ready for an accelerator: --device cuda. "
        )
    profile, steps = "quick" if options.small else "paper", _steps(options.small)
    return (
        f"{tried}Profile {profile}, batch {batch}, an epoch of {steps} step(s). Peak: a product of two square matrices,"
        f" {best[False] / 1e12:.3g} TFLOP/s in float32 and {best[True] / 1e12:.3g} in bfloat16; a copy moves {wide / 1e9:.3g} GB/s; all on"
        " the same machine in the same run. A ratio is that of medians; texts of like length have fewer tokens to compute."
    )


def page(work: list[dict[str, Any]], best: float, wide: float, options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The roofline as Markdown, with its figure beside the record, and as a part of the record."""
    rows = table(work, best, wide)
    lines = ["### Roofline of the modules", markdown(rows)]
    lines.append(
        f"Forward and backward pass in float32. At {best / wide:.3g} operations per byte arithmetic and memory take equally long; below it"
        " memory holds a module up. Bytes are those that each operation reads and writes by itself, an upper bound where caches are large;"
        ' "at most" is the intensity if inputs, weights and their gradients alone were moved. Operations that are no products count one for'
        " each number that they write."
    )
    if options.out:
        figure = options.out.with_suffix(".svg")
        draw(work, best, wide, "Roofline" if options.device != "cpu" else "Roofline of a processor, small networks", figure)
        lines.append(f"![Modules below the roof of the device: operations per second over operations per byte.]({figure.name})")
    return "\n\n".join(lines), {"roofline": rows, "peak FLOP/s": best, "bytes/s": wide}


if __name__ == "__main__":
    main()
