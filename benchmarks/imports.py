"""What importing a part of the package costs, as a multiple of importing torch. Each import has a process of its own; they take turns."""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks._timing import arguments, report

PARTS = ("torch", "cm2.copulas", "cm2.marginals", "cm2.joint", "cm2", "cm2.cli")
CODE = "import time; start = time.process_time(); import {}; print(time.process_time() - start)"


def seconds(module: str) -> float:
    """Seconds of processor time that a new process spends on an import."""
    return float(subprocess.run([sys.executable, "-c", CODE.format(module)], capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Prints the table."""
    options = arguments(__doc__ or "", repeats=7).parse_args()
    measured: dict[str, list[float]] = {part: [] for part in PARTS}
    for _ in range(options.repeats):
        for part, found in measured.items():
            found.append(seconds(part))
    medians = {part: statistics.median(found) for part, found in measured.items()}
    rows = [{"import": part, "seconds": median, "times torch": median / medians["torch"]} for part, median in medians.items()]
    report("Imports", rows, options, note="Medians of processor time. `cm2` and `cm2.cli` do not import torch.")


if __name__ == "__main__":
    main()
