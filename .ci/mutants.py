"""Change the code a little and see whether a test notices: ``make mutants``, or ``.venv/bin/python .ci/mutants.py --help``.

Cosmic Ray makes the mutants, in a copy of the checkout and an environment of its own. Of the many that it could make a sample is drawn
from those that a slip could make too: a plus for a minus, a comparison that is off by one, a number that is another, a condition the
other way round. Survivors that change nothing anybody could notice stand in ``mutants.toml`` with the reason.
"""

import argparse
import json
import math
import os
import random
import re
import shlex
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from portable import checkout

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "_build" / "mutants"
TARGETS = {
    "copulas": ("cm2/copulas", ["tests/copulas"]),
    "marginals": ("cm2/marginals", ["tests/marginals", "tests/joint"]),
    "joint": ("cm2/joint", ["tests/joint"]),
    "cm2": ("cm2/methods/cm2.py", ["tests/methods/test_cm2.py", "tests/methods/test_cm2_variants.py", "tests/config"]),
    "runs": ("cm2/runs", ["tests/runs", "tests/config/test_wiring.py"]),
    "mimic": ("data_prep/mimic", ["tests/data_prep/mimic"]),
}
"""What is mutated, and the tests that have to notice."""
UNLIKELY = re.compile(r"_(RShift|LShift|Pow|Mod|FloorDiv|Bit\w+)$|BinaryOperator_Bit|USub_(UAdd|Not|Invert)$|Operator_(?!Is)\w+_Is(Not)?$")
"""Mutations that nobody makes by mistake, or of annotations: nearly all would be noticed, and the share of survivors would flatter."""
AIM = 0.85


@dataclass(frozen=True)
class Mutant:
    """One change, and whether a test noticed it."""

    place: str
    operator: str
    survived: bool
    diff: str

    @property
    def line(self) -> str:
        """The line as it is without the change."""
        return next((text[1:].strip() for text in self.diff.splitlines() if re.match(r"-(?!--)", text)), "")


def tool() -> Path:
    """The environment that Cosmic Ray has to itself: its requirements are not the project's."""
    folder = FOLDER / "tool"
    if not (folder / "bin" / "cosmic-ray").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", "cosmic-ray>=8.4,<9"], check=True)
    return folder / "bin" / "cosmic-ray"


def mutate(name: str, sample: int, seed: int, timeout: float) -> list[Mutant]:
    """Try a sample of a target's mutants; those that were tried by an earlier call are not tried again."""
    path, tests = TARGETS[name]
    copy, program = FOLDER / name, tool()
    session, settings = FOLDER / f"{name}.sqlite", FOLDER / f"{name}.toml"
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *tests]
    told = {"module-path": path, "timeout": timeout, "excluded-modules": [], "test-command": shlex.join(command)}
    lines = ["[cosmic-ray]", *(f"{key} = {json.dumps(value)}" for key, value in told.items()), "[cosmic-ray.distributor]", 'name = "local"']
    settings.write_text("\n".join(lines) + "\n", encoding="utf-8")
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(copy)}
    if not session.is_file():
        checkout(copy)
        if subprocess.run(command, cwd=copy, env=environment, stdout=subprocess.DEVNULL).returncode:
            raise SystemExit(f"mutants: {shlex.join(command)} fails without any mutation; mend that first")
        subprocess.run([str(program), "init", str(settings), str(session)], cwd=copy, check=True)
        draw(session, sample, seed)
    subprocess.run([str(program), "exec", str(settings), str(session)], cwd=copy, check=True, env=environment)
    return outcomes(session)


def draw(session: Path, sample: int, seed: int) -> None:
    """Leave a random sample of the likely mutants in a session."""
    with sqlite3.connect(session) as base:
        made = sorted(
            base.execute("SELECT module_path, start_pos_row, start_pos_col, operator_name, occurrence, job_id FROM mutation_specs")
        )
        likely = [each[-1] for each in made if not UNLIKELY.search(each[3])]
        chosen = set(random.Random(seed).sample(likely, min(sample, len(likely))))
        others = [(each[-1],) for each in made if each[-1] not in chosen]
        for table in ("mutation_specs", "work_items"):
            base.executemany(f"DELETE FROM {table} WHERE job_id = ?", others)


def outcomes(session: Path) -> list[Mutant]:
    """What was tried and came to an end."""
    asked = """SELECT module_path, start_pos_row, operator_name, test_outcome, diff FROM mutation_specs
               JOIN work_results USING (job_id) ORDER BY module_path, start_pos_row"""
    with sqlite3.connect(session) as base:
        rows = base.execute(asked).fetchall()
    return [
        Mutant(f"{path}:{row}", kind.removeprefix("core/"), outcome == "SURVIVED", diff or "") for path, row, kind, outcome, diff in rows
    ]


def report(found: dict[str, list[Mutant]], reasons: Sequence[dict[str, str]]) -> str:
    """A table of the shares that were noticed, with 95 % Wilson intervals; under it the survivors, with the reason where one is known."""

    def reason(mutant: Mutant) -> str:
        known = (r["reason"] for r in reasons if mutant.place.startswith(r["file"]) and r["line"] == mutant.line)
        return next(known, "")

    lines = ["| mutated | mutants | noticed | 95 % interval | survivors without a reason |", "| --- | --- | --- | --- | --- |"]
    for name, mutants in [*found.items(), ("all", [mutant for each in found.values() for mutant in each])]:
        open_ones = sum(m.survived and not reason(m) for m in mutants)
        n, killed = len(mutants), sum(not m.survived for m in mutants)
        lines.append(
            f"| {name} | {n} | {killed / max(n, 1):.0%} | {' to '.join(f'{end:.0%}' for end in wilson(killed, n))} | {open_ones} |"
        )
    for mutants in found.values():
        for mutant in (m for m in mutants if m.survived):
            changed = "\n".join(text for text in mutant.diff.splitlines() if re.match(r"[-+](?![-+]{2})", text))
            lines += ["", f"{mutant.place} {mutant.operator}: {reason(mutant) or 'NO REASON KNOWN'}", "", "```diff", changed, "```"]
    return "\n".join(lines) + "\n"


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    if not n:
        return 0.0, 1.0
    z, share = 1.96, successes / n
    centre, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def main() -> int:
    """Try the targets and print the table; 1 where less than the aim was noticed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; all of them without")
    parser.add_argument("--sample", type=int, default=40, help="mutants of each target")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=2, help="targets at the same time")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for the tests of one mutant; a mutant that runs on is noticed")
    options = parser.parse_args()
    if stray := set(options.targets) - set(TARGETS):
        parser.error(f"unknown target {sorted(stray)[0]!r}; choose from {', '.join(TARGETS)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    tool()
    names = options.targets or list(TARGETS)
    with ThreadPoolExecutor(options.jobs) as pool:
        tried = pool.map(lambda name: mutate(name, options.sample, options.seed, options.timeout), names)
        found = dict(zip(names, tried, strict=True))
    reasons = tomllib.loads((Path(__file__).parent / "mutants.toml").read_text(encoding="utf-8")).get("survivor", [])
    text = report(found, reasons)
    (FOLDER / "report.md").write_text(text, encoding="utf-8")
    print(text + f"\n{FOLDER / 'report.md'}; remove {FOLDER} to begin anew")
    everything = [mutant for mutants in found.values() for mutant in mutants]
    return int(sum(not m.survived for m in everything) < AIM * len(everything))


if __name__ == "__main__":
    sys.exit(main())
