"""Medians of interleaved repetitions, a table, a record. Shared by the benchmarks beside it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cm2.environment.machine import cores, processor

PACKAGES = ("torch", "numpy", "pyvinecopulib", "statsmodels")
SYNCHRONISING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::is_nonzero", "aten::_unique2"}
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated calls."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """What a table shows."""
        return statistics.median(self.seconds)

    @property
    def fastest(self) -> float:
        """What an idle machine would show."""
        return min(self.seconds)


class OperationCount(TorchDispatchMode):
    """Counts dispatched operations, and among them those that make a program wait for its accelerator.

    An operation waits when its result's value or shape has to be known on the host: reading a scalar, ``nonzero``, indexing
    with a boolean mask. Views and ``detach`` are operations too, as they cost a dispatch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.synchronisations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        """Counts one operation and runs it."""
        self.operations += 1
        name = func._schema.name
        masks = name in INDEXING and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        self.synchronisations += masks or name in SYNCHRONISING
        return func(*args, **(kwargs or {}))


def arguments(description: str, repeats: int) -> argparse.ArgumentParser:
    """Options every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=repeats, help="timed repetitions (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="device of torch (default %(default)s)")
    parser.add_argument("--out", type=Path, help="also write a JSON record to this file, and the table beside it as Markdown")
    return parser


def interleaved(calls: Mapping[str, Callable[[], Any]], repeats: int, warmup: int, device: str = "cpu") -> dict[str, Timing]:
    """Times several calls in turn, so that another job on the machine slows all of them alike.

    Before each timed call the same call runs untimed: caches and the allocator's memory are then those of a loop of it, not what the call
    before it, another library's, has left.
    """
    for call in calls.values():
        for _ in range(warmup):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            call()
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(s)) for name, s in seconds.items()}


def _wait(device: str) -> None:
    if device != "cpu":
        torch.accelerator.synchronize()


def report(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    options: argparse.Namespace,
    note: str = "",
    after: Callable[[], tuple[str, dict[str, Any]]] | None = None,
) -> None:
    """Prints a Markdown table and, with ``--out``, writes the same rows with date, device and versions.

    ``after`` gives a further section of the page, and further entries of the record.
    """
    where = _where(options)
    section, entries = after() if after else ("", {})
    source = f"{where['date']}, {where['device']}, {options.threads} thread(s), load {where['load']}, torch {where['versions']['torch']}."
    text = "\n\n".join([f"### {title}", markdown(rows), note, source, *([section] if section else [])]) + "\n"
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.with_suffix(".md").write_text(text)
        options.out.write_text(
            json.dumps({"title": title, **where, "note": note, "rows": [dict(r) for r in rows], **entries}, indent=2) + "\n"
        )


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of rows with the same columns."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(c)) for c in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _where(options: argparse.Namespace) -> dict[str, Any]:
    device = _processor() if options.device == "cpu" else torch.cuda.get_device_name(options.device)
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items() if k != "out"}
    return {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "device": device, "load": load, "versions": versions, "settings": settings}


def _processor() -> str:
    return f"{processor()} ({torch.get_num_threads()} of {cores()} cores)"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
