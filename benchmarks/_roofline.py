"""Each module of the method against what a device can do at most: its arithmetic, and the bytes it moves for it.

References:
    Williams, Waterman, Patterson, Communications of the ACM 2009 (roofline model).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks._timing import interleaved
from cm2.plots.style import INK, style

Call = Callable[[], Tensor]


class Work(TorchDispatchMode):
    """Counts floating-point operations and the bytes that dispatched operations read and write.

    Products and convolutions count as in torch's counter, recurrent layers by the products of their weights, and every other operation
    one for each floating-point number that it writes, also where that number is an exponential. Bytes are those of the tensors that go
    in and come out, each operation by itself, as if nothing stayed in a cache; views move none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        """Counts one operation and runs it."""
        out = func(*args, **(kwargs or {}))
        if func.is_view or "empty" in func._schema.name:
            return out
        written = list(_tensors(out))
        self.bytes += sum(map(_size, (*_tensors(args), *written)))
        name, known = func._schema.name, flop_registry.get(func._overloadpacket)
        if known is not None:
            self.flops += int(known(*args, **(kwargs or {}), out_val=out))
        elif "rnn" in name:
            self.flops += _of_recurrence(name, args)
        else:
            self.flops += sum(x.numel() for x in written if x.is_floating_point())
        return out


def _of_recurrence(name: str, args: tuple) -> int:
    """Two operations for each weight, step and stay; twice as many again for both gradients."""
    steps, weights = args[0].shape[0] * args[0].shape[1], args[1] if isinstance(args[1], list | tuple) else args[1:3]
    return (4 if "backward" in name else 2) * steps * sum(w.numel() for w in weights if w.ndim == 2)


def _tensors(tree: Any) -> Iterable[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from _tensors(item)


def _size(x: Tensor) -> int:
    """An expanded tensor is read from fewer bytes than it has numbers."""
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())


def measure(parts: Mapping[str, tuple[nn.Module, Sequence[Tensor], Call]], repeats: int, device: str) -> list[dict[str, Any]]:
    """Work and time of the forward and backward pass of each part.

    Args:
        parts: module, inputs, and a call that gives a scalar to differentiate, by name.
        repeats: timed repetitions.
        device: where they are.

    Returns:
        For each: ``flops``; ``bytes`` moved operation by operation; ``least`` bytes, if every value between inputs and output stayed in
        a cache: inputs once, weights in both passes, gradients of weights written; ``seconds``.
    """
    calls = {name: _both_passes(module, call) for name, (module, _, call) in parts.items()}
    timings = interleaved(calls, repeats, warmup=2, device=device)
    rows = []
    for name, (module, inputs, _) in parts.items():
        with Work() as work:
            calls[name]()
        weights = sum(_size(p) for p in module.parameters())
        least = sum(map(_size, inputs)) + 3 * weights
        rows.append({"module": name, "flops": work.flops, "bytes": work.bytes, "least": least, "seconds": timings[name].median})
    return rows


def _both_passes(module: nn.Module, call: Call) -> Call:
    def run() -> Tensor:
        module.zero_grad()
        value = call()
        value.backward()
        return value

    return run


def bandwidth(device: str, repeats: int, size: int) -> float:
    """Bytes per second that a copy reads and writes."""
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * size / interleaved({"copy": lambda: target.copy_(source)}, repeats, warmup=2, device=device)["copy"].median


def table(rows: Sequence[Mapping[str, Any]], peak: float, wide: float) -> list[dict[str, Any]]:
    """What each module reaches of what its intensity allows.

    Args:
        rows: of `measure`.
        peak: operations per second.
        wide: bytes per second.
    """
    told = []
    for row in rows:
        intensity, reached = row["flops"] / row["bytes"], row["flops"] / row["seconds"]
        roof = min(peak, intensity * wide)
        told.append(
            {
                "module": row["module"],
                "GFLOP": row["flops"] / 1e9,
                "MB moved": row["bytes"] / 1e6,
                "FLOP/byte": intensity,
                "FLOP/byte at most": row["flops"] / row["least"],
                "held up by": "arithmetic" if intensity * wide > peak else "memory",
                "GFLOP/s": reached / 1e9,
                "roof GFLOP/s": roof / 1e9,
                "share of the roof": reached / roof,
            }
        )
    return told


def draw(rows: Sequence[Mapping[str, Any]], peak: float, wide: float, title: str, path: Path) -> None:
    """The roof and the modules below it, as SVG: a point where each is, a line to where it would be if nothing moved twice."""
    with style():
        figure, axes = plt.subplots(figsize=(6.4, 4.2))
        places = [(row["flops"] / row["bytes"], row["flops"] / row["least"], row["flops"] / row["seconds"]) for row in rows]
        ends = [min(0.05, *(p[0] / 2 for p in places)), max(2 * peak / wide, *(p[1] * 2 for p in places))]
        corner = peak / wide
        axes.plot([ends[0], corner, ends[1]], [ends[0] * wide, peak, peak], color=INK)
        for number, ((moved, most, reached), row) in enumerate(zip(places, rows, strict=True)):
            axes.plot([moved, max(moved, most)], [reached, reached], color=f"C{number}", alpha=0.4)
            axes.plot(moved, reached, "o", color=f"C{number}", label=row["module"])
        axes.set(xscale="log", yscale="log", xlabel="operations per byte moved", ylabel="operations per second", title=title)
        axes.set_ylim(min(p[2] for p in places) / 3, 10 ** math.ceil(math.log10(peak)))
        axes.legend(fontsize="small")
        figure.savefig(path, format="svg", metadata={"Date": None})
        plt.close(figure)
