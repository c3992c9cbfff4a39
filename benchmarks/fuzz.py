"""Mutated inputs over every format with fresh seeds: how many are used, how many refused in one line, and every bare traceback.

``python -m benchmarks.fuzz --times 5`` tries five times as many as the tests do. It ends with exit code 1 after a bare traceback, which
is printed with the seed that gives it again: ``--seed SEED --only FORMAT``.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.fuzzing import FORMATS as FIRST
from tests.fuzzing import Ground
from tests.fuzzing_models import MORE

FORMATS = FIRST | MORE


def main() -> None:
    """Tries every format and prints a Markdown table."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    options.add_argument("--times", type=float, default=1.0, help="inputs of each format, as a multiple of those of the tests")
    options.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="default: a fresh one, which is printed")
    options.add_argument("--only", choices=sorted(FORMATS), help="one format")
    asked = options.parse_args()
    print(f"seed {asked.seed}\n\n| format | inputs | used | refused | bare tracebacks | seconds |\n|---|---|---|---|---|---|")
    faults, total = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        ground = Ground(Path(folder))
        for name, (_, number) in FORMATS.items():
            if asked.only in (None, name):
                tried, broken = one_format(name, max(1, round(number * asked.times)), asked.seed, ground)
                faults, total = faults + broken, total + tried
    print(f"\n{total} inputs, {faults} bare tracebacks")
    sys.exit(bool(faults))


def one_format(name: str, number: int, seed: int, ground: Ground) -> tuple[int, int]:
    """Tries inputs of a format and prints its row; returns their number and that of the faults."""
    case, refused, seen = FORMATS[name][0], 0, []
    begun = time.monotonic()
    for place in range(number):
        try:
            refused += bool(case(ground, random.Random(f"{seed} {name} {place}")))
        except AssertionError as fault:
            seen.append(f"{name}, input {place}: {fault}\n{''.join(traceback.format_exception(fault.__cause__ or fault)[-4:])}")
    took = time.monotonic() - begun
    print(f"| {name} | {number} | {number - refused - len(seen)} | {refused} | {len(seen)} | {took:.1f} |", flush=True)
    for text in seen:
        print(text, file=sys.stderr)
    return number, len(seen)


if __name__ == "__main__":
    main()
