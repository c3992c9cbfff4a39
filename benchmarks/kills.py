"""SIGKILL at twenty instants of every phase that writes, a disk that is full at ten sizes: whether the next call ends as an unbroken one.

python -m benchmarks.kills --out benchmarks/results/kills.json
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import _phases
from benchmarks._kills import FINISHED, NO_SPACE, Phase, instants, killed, leftovers, without_space
from benchmarks._timing import arguments, report
from cm2 import load_cohort
from cm2.progress import quiet_libraries
from data_prep import prepare_synthetic

TASK, SETTINGS = "in_hospital_mortality", {"modalities": ["series", "note"]}


def swept(phase: Phase, place: Path, kills: int, sizes: int) -> list[dict[str, Any]]:
    """The lines of a phase: kills, kills that cut the file being written, full disks."""
    whole = phase.fresh(place / "whole")
    phase.call(whole)
    expected, number = phase.content(whole), instants(phase, place / "counted")
    already = phase.before or place / "nothing"
    written = [path for path in whole.rglob("*") if path.is_file() and not (already / path.relative_to(whole)).exists()]
    largest = max(path.stat().st_size for path in written)
    lines = []
    for what in ("killed", "killed, file cut in half"):
        found: Counter[str] = Counter()
        for at in np.unique(np.linspace(1, number, kills).round().astype(int)):
            folder = place / f"{what} {at}"
            found["hit"] += killed(phase, folder, int(at), torn=what != "killed")
            found.update(_called_again(phase, folder, expected))
        lines.append({"phase": phase.name, "what": what, "instants": number, **_counts(found)})
    found = Counter()
    for size in np.unique(np.linspace(0, largest, sizes + 1).astype(int))[:-1]:
        folder = place / f"full {size}"
        code = without_space(phase, folder, int(size))
        found["hit"] += code == NO_SPACE
        found["other error"] += code not in (FINISHED, NO_SPACE)
        found.update(_called_again(phase, folder, expected))
    return [*lines, {"phase": phase.name, "what": f"no file above a size, 0 to {largest:,} bytes", "instants": sizes, **_counts(found)}]


def _called_again(phase: Phase, folder: Path, expected: Any) -> list[str]:
    try:
        phase.call(folder)
        found = ["equal" if _phases.equal(phase.content(folder), expected) else "different"]
        return found + (["leftovers"] if leftovers(folder) else [])
    except Exception as error:  # counted, and the sweep goes on
        print(f"{phase.name}, {folder.name}: {type(error).__name__}: {error}")
        return ["failed"]
    finally:
        shutil.rmtree(folder)


def _counts(found: Counter[str]) -> dict[str, int]:
    return {name: found[name] for name in ("hit", "equal", "different", "failed", "leftovers", "other error")}


def main() -> None:
    """Prints the table."""
    parser = arguments(__doc__.splitlines()[0], repeats=1)
    parser.add_argument("--kills", type=int, default=20, help="instants of every phase (default %(default)s)")
    parser.add_argument("--sizes", type=int, default=10, help="sizes at which the disk is full (default %(default)s)")
    parser.add_argument("--phase", nargs="+", default=["preparation", "training", "table", "book"], help="only these")
    parser.add_argument("--place", type=Path, help="folder on the file system to write to; default: that of temporary files")
    options = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)  # a process is forked safely only while torch has no threads
    lines = []
    with tempfile.TemporaryDirectory(dir=options.place) as name:
        place = Path(name)
        cohort = load_cohort(prepare_synthetic(place / "cohort", stays=200, image_size=32, dim=4))
        made = {
            "preparation": lambda: _phases.preparation(lambda out: prepare_synthetic(out, stays=40, image_size=32, dim=4)),
            "training": lambda: _phases.training(cohort, TASK, SETTINGS),
            "table": lambda: _phases.table(cohort, place / "before", TASK, SETTINGS),
            "book": _phases.book,
        }
        for phase in options.phase:
            lines += swept(made[phase](), place / phase, options.kills, options.sizes)
    other = options.place and os.stat(options.place).st_dev != os.stat(tempfile.gettempdir()).st_dev
    note = f"Temporary files on {'another' if other else 'the same'} file system."
    report("Interrupted writing: the next call", lines, options, note)


if __name__ == "__main__":
    main()
