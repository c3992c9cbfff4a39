"""Change the code a little and see whether a test notices: ``make mutants``, or ``.venv/bin/python .ci/mutants.py --help``.

Cosmic Ray makes the mutants, in a copy of the checkout and an environment of its own. Of the many that it could make a sample is drawn
from those that a slip could make too: a plus for a minus, a comparison that is off by one, a number that is another, a condition the
other way round. Survivors that change nothing anybody could notice stand in ``mutants.toml`` with the reason; the aim is for the others.
When there are new tests, ``--again`` tries the survivors once more.
"""

import argparse
import json
import math
import os
import random
import re
import shlex
import shutil
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
    "cm2": (
        "cm2/methods/cm2.py",
        ["tests/methods/test_cm2.py", "tests/methods/test_cm2_variants.py", "tests/methods/test_cm2_profile.py", "tests/config"],
    ),
    "runs": ("cm2/runs", ["tests/runs", "tests/config/test_wiring.py"]),
    "mimic": ("data_prep/mimic", ["tests/data_prep/mimic"]),
}
"""What is mutated, and the tests that have to notice."""
UNLIKELY = re.compile(r"_(RShift|LShift|Pow|Mod|FloorDiv|Bit\w+)$|BinaryOperator_Bit|USub_(UAdd|Not|Invert)$|Operator_(?!Is)\w+_Is(Not)?$")
"""Mutations that nobody makes by mistake, or of annotations: nearly all would be noticed, and the share of survivors would flatter."""
AIM = 0.85
"""Share of each target's mutants to be noticed, of those that somebody could notice."""


@dataclass(frozen=True)
class Mutant:
    """One change, and whether a test noticed it."""

    job: str
    path: str
    row: int
    operator: str
    survived: bool
    diff: str

    def lines(self, sign: str) -> list[str]:
        """The lines that it takes away (``-``) or puts in their place (``+``)."""
        return [text[1:] for text in self.diff.split("\n") if text.startswith(sign) and not text.startswith(sign * 3)]

    def applied(self, text: str) -> str | None:
        """The text of its file with the change, made where its line is nearest to where it was; None if the line is gone."""
        lines, old, new = text.split("\n"), self.lines("-"), self.lines("+")
        rows = [row for row in range(len(lines)) if lines[row : row + len(old)] == old]
        if not rows:
            return None
        row = min(rows, key=lambda row: abs(row - self.row))
        return "\n".join([*lines[:row], *new, *lines[row + len(old) :]])

    def reason(self, reasons: Sequence[dict[str, str]]) -> str:
        """Why nobody could notice it; empty if that is not known, or it was noticed."""
        about = {"file": self.path, "line": "\n".join(self.lines("-")).strip(), "operator": self.operator}
        fitting = (entry["reason"] for entry in reasons if all(entry.get(key, value) == value for key, value in about.items()))
        return next(fitting, "") if self.survived else ""


def tool() -> Path:
    """The environment that Cosmic Ray has to itself: its requirements are not the project's."""
    folder = FOLDER / "tool"
    if not (folder / "bin" / "cosmic-ray").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", "cosmic-ray>=8.4,<9"], check=True)
    return folder / "bin" / "cosmic-ray"


def mutate(name: str, sample: int, seed: int, timeout: float) -> list[Mutant]:
    """Try a sample of a target's mutants; those that were tried by an earlier call are not tried again."""
    copy, program = FOLDER / name, tool()
    session, settings = FOLDER / f"{name}.sqlite", FOLDER / f"{name}.toml"
    told = {"module-path": TARGETS[name][0], "timeout": timeout, "excluded-modules": [], "test-command": shlex.join(command(name))}
    lines = ["[cosmic-ray]", *(f"{key} = {json.dumps(value)}" for key, value in told.items()), "[cosmic-ray.distributor]", 'name = "local"']
    settings.write_text("\n".join(lines) + "\n", encoding="utf-8")
    code = FOLDER / f"{name}.tar"  # as it is without mutations, one of which an interrupted call may have left in the copy
    if session.is_file():
        shutil.unpack_archive(code, copy, filter="data")
    else:
        checkout_that_passes(name, timeout)
        shutil.make_archive(str(code.with_suffix("")), "tar", copy, TARGETS[name][0])
        subprocess.run([str(program), "init", str(settings), str(session)], cwd=copy, check=True)
        draw(session, sample, seed)
    subprocess.run([str(program), "exec", str(settings), str(session)], cwd=copy, check=True, env=environment(name))
    return outcomes(session)


def again(name: str, timeout: float, reasons: Sequence[dict[str, str]]) -> list[Mutant]:
    """Try a target's survivors without a reason with the code and the tests as they are now; one whose line is gone leaves the sample."""
    copy, session = FOLDER / name, FOLDER / f"{name}.sqlite"
    checkout_that_passes(name, timeout)
    for mutant in (each for each in outcomes(session) if each.survived and not each.reason(reasons)):
        file = copy / mutant.path
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        if (changed := mutant.applied(text)) is None:
            forget(session, [mutant.job])
            continue
        file.write_text(changed, encoding="utf-8")
        if fails(name, timeout):
            with sqlite3.connect(session) as base:
                base.execute("UPDATE work_results SET test_outcome = 'KILLED' WHERE job_id = ?", [mutant.job])
        file.write_text(text, encoding="utf-8")
    return outcomes(session)


def checkout_that_passes(name: str, timeout: float) -> None:
    """A new copy of the checkout for a target, in which its tests pass."""
    checkout(FOLDER / name)
    if fails(name, timeout):
        raise SystemExit(f"mutants: {shlex.join(command(name))} fails without any mutation; mend that first")


def fails(name: str, timeout: float) -> bool:
    """Whether a target's tests fail in its copy, or run on."""
    try:
        tests = subprocess.run(command(name), cwd=FOLDER / name, env=environment(name), stdout=subprocess.DEVNULL, timeout=timeout)
    except subprocess.TimeoutExpired:
        return True
    return tests.returncode != 0


def command(name: str) -> list[str]:
    """The tests of a target, as far as the first that fails."""
    return [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *TARGETS[name][1]]


def environment(name: str) -> dict[str, str]:
    """Variables of the tests, which import the target's copy as it is: nothing compiled before a change."""
    return dict(os.environ) | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER / name), "PYTHONDONTWRITEBYTECODE": "1"}


def draw(session: Path, sample: int, seed: int) -> None:
    """Leave a random sample of the likely mutants in a session."""
    with sqlite3.connect(session) as base:
        made = sorted(
            base.execute("SELECT module_path, start_pos_row, start_pos_col, operator_name, occurrence, job_id FROM mutation_specs")
        )
    likely = [each[-1] for each in made if not UNLIKELY.search(each[3])]
    chosen = set(random.Random(seed).sample(likely, min(sample, len(likely))))
    forget(session, [each[-1] for each in made if each[-1] not in chosen])


def forget(session: Path, jobs: Sequence[str]) -> None:
    """Take mutants out of a session."""
    with sqlite3.connect(session) as base:
        for table in ("work_results", "mutation_specs", "work_items"):
            base.executemany(f"DELETE FROM {table} WHERE job_id = ?", [(job,) for job in jobs])


def outcomes(session: Path) -> list[Mutant]:
    """What was tried and came to an end."""
    asked = """SELECT job_id, module_path, start_pos_row, operator_name, test_outcome, diff FROM mutation_specs
               JOIN work_results USING (job_id) ORDER BY module_path, start_pos_row"""
    with sqlite3.connect(session) as base:
        rows = base.execute(asked).fetchall()
    return [
        Mutant(job, path, row, kind.removeprefix("core/"), outcome == "SURVIVED", diff or "")
        for job, path, row, kind, outcome, diff in rows
    ]


def counts(mutants: Sequence[Mutant], reasons: Sequence[dict[str, str]]) -> tuple[int, int]:
    """How many of some mutants were noticed, and how many somebody could notice."""
    return sum(not mutant.survived for mutant in mutants), sum(not mutant.reason(reasons) for mutant in mutants)


def report(found: dict[str, list[Mutant]], reasons: Sequence[dict[str, str]]) -> str:
    """A table of the shares noticed: of all mutants, with 95 % Wilson intervals, and of those that could be; under it the survivors."""
    lines = ["| mutated | mutants | noticed | 95 % interval | could be noticed | noticed of these |", f"|{' --- |' * 6}"]
    for name, mutants in [*found.items(), ("all", [mutant for each in found.values() for mutant in each])]:
        noticed, possible = counts(mutants, reasons)
        interval = " to ".join(f"{end:.0%}" for end in wilson(noticed, len(mutants)))
        of_all, of_these = (f"{noticed / max(n, 1):.0%}" for n in (len(mutants), possible))
        lines.append(f"| {name} | {len(mutants)} | {of_all} | {interval} | {possible} | {of_these} |")
    for mutant in (mutant for mutants in found.values() for mutant in mutants if mutant.survived):
        told = f"{mutant.path}:{mutant.row} {mutant.operator}: {mutant.reason(reasons) or 'NO REASON KNOWN'}"
        changed = [sign + line for sign in "-+" for line in mutant.lines(sign)]
        lines += ["", told, "", "```diff", *changed, "```"]
    return "\n".join(lines) + "\n"


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    if not n:
        return 0.0, 1.0
    z, share = 1.96, successes / n
    centre, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def main() -> int:
    """Try the targets and print the table; 1 where less than the aim was noticed of one of them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; all of them without")
    parser.add_argument("--sample", type=int, default=40, help="mutants of each target")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=2, help="targets at the same time")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for the tests of one mutant; a mutant that runs on is noticed")
    parser.add_argument("--again", action="store_true", help="then try survivors with the code and the tests as they are now")
    options = parser.parse_args()
    if stray := set(options.targets) - set(TARGETS):
        parser.error(f"unknown target {sorted(stray)[0]!r}; choose from {', '.join(TARGETS)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    tool()
    names = options.targets or list(TARGETS)
    reasons = tomllib.loads((Path(__file__).parent / "mutants.toml").read_text(encoding="utf-8")).get("survivor", [])
    with ThreadPoolExecutor(options.jobs) as pool:
        tried = list(pool.map(lambda name: mutate(name, options.sample, options.seed, options.timeout), names))
        tried = list(pool.map(lambda name: again(name, options.timeout, reasons), names)) if options.again else tried
    found = dict(zip(names, tried, strict=True))
    text = report(found, reasons)
    (FOLDER / "report.md").write_text(text, encoding="utf-8")
    print(text + f"\n{FOLDER / 'report.md'}; remove {FOLDER} to begin anew")
    shares = (counts(mutants, reasons) for mutants in found.values())
    return int(any(noticed < AIM * possible for noticed, possible in shares))


if __name__ == "__main__":
    sys.exit(main())
