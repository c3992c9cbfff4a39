"""Try the project as other processors would compute it: ``make portable``, or ``.venv/bin/python .ci/portable.py --help``.

torch, oneDNN, OpenBLAS, MKL and NumPy choose their kernels by the processor they find, and each has a variable that makes it choose
others. One machine can therefore stand for many: the numerical tests and all chapters run in a copy of the checkout under each
environment, and a table shows what failed and which numbers moved. What no variable reaches: other architectures, operating systems and
mathematical libraries, which the hosted CI has.
"""

import argparse
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy

from cm2.book.cache import commit
from cm2.book.runner import execute
from cm2.book.spread import numbers, spread
from cm2.environment.machine import cores

ROOT = Path(__file__).resolve().parents[1]
NUMERICAL = (
    *("numerics", "copulas", "marginals", "joint", "truth", "networks", "methods", "runs", "evaluation", "tables", "test_metrics.py"),
    *("data_prep/test_synthetic.py", "data_prep/test_physionet2012.py"),
)
SHORT = (
    *("numerics", "marginals", "joint", "copulas/test_oracles.py", "copulas/test_fast_path.py", "test_metrics.py"),
    "methods/test_cm2.py",
)


def numpy_features(*names: str) -> str:
    """Instruction sets whose names begin so and for which NumPy has kernels that it would use here: it warns of any other."""
    found = numpy.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return " ".join(feature for feature in found if feature.startswith(names))


THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# every kernel that a variable reaches, at the level named
ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    "as chosen": {},
    "SSE": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENBLAS_CORETYPE": "Nehalem",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "NPY_DISABLE_CPU_FEATURES": numpy_features(""),
    },
    "AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "NPY_DISABLE_CPU_FEATURES": numpy_features("X86_V4", "AVX512"),
    },
    "AVX-512": {
        "ATEN_CPU_CAPABILITY": "avx512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "OPENBLAS_CORETYPE": "SkylakeX",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
    "two threads": dict.fromkeys(THREADS, "2"),
    "no oneDNN": {"PYTHONPATH": str(ROOT / ".ci" / "without_onednn")},
}


@dataclass
class Outcome:
    """What one environment gave."""

    machine: Mapping[str, Any]
    tests: str = ""
    failed: list[str] = field(default_factory=list)
    chapters: list[str] = field(default_factory=list)
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)


def main() -> int:
    """Exit status: 0 if every test passed and every chapter executed everywhere."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(ENVIRONMENTS), help="this environment (repeat for more); default: all")
    parser.add_argument("--profile", default="smoke", help="of the chapters")
    parser.add_argument("--tests", default="all", choices=["all", "short", "none"], help="all numerical tests, a few, or none")
    parser.add_argument("--short", action="store_true", help="the environment least like this machine's own, and a few tests")
    parser.add_argument("--jobs", type=int, default=min(2, cores()), help="processes at a time")
    parser.add_argument("--record", action="store_true", help="keep the numbers in results/portability.json")
    parser.add_argument("--chapters", help=argparse.SUPPRESS)  # in a copy: execute its chapters, write what came out to this file
    options = parser.parse_args()
    if options.short:
        options.only, options.tests = [name for name in ("SSE", "no oneDNN") if name in possible()][:1], "short"
    if options.chapters:
        return execute_chapters(Path(options.chapters), options.profile, options.jobs)
    outcomes = {}
    for name in options.only or possible():
        outcomes[name] = run(name, options)
        print(
            f"{name}: {outcomes[name].tests or 'no tests'}; chapters that failed: {', '.join(outcomes[name].chapters) or 'none'}",
            flush=True,
        )
    print(report(outcomes))
    if options.record:
        record(outcomes, options.profile)
    return int(any(outcome.failed or outcome.chapters for outcome in outcomes.values()))


def possible() -> list[str]:
    """Environments that this machine can be made to stand for."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else "avx2"
    wanted = {"SSE": "", "AVX2": "avx2", "AVX-512": "avx512bw"}
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    cannot = {name for name, flag in wanted.items() if not x86 or flag not in flags}
    cannot |= {"two threads"} if cores() < 2 else set()
    return [name for name in ENVIRONMENTS if name not in cannot]


def run(name: str, options: argparse.Namespace) -> Outcome:
    """Test and execute a copy of the checkout under an environment."""
    copy = checkout(ROOT / "_build" / "portable" / name.replace(" ", "-"))
    environment = dict(os.environ) | dict.fromkeys(THREADS, "1") | {"CM2_HOME": str(copy / ".cm2")} | ENVIRONMENTS[name]
    facts = subprocess.run(
        [sys.executable, "-m", "cm2.environment.machine"], cwd=copy, env=environment, capture_output=True, text=True, check=True
    )
    outcome = Outcome(json.loads(facts.stdout))
    if options.tests != "none":
        test(outcome, copy, environment, NUMERICAL if options.tests == "all" else SHORT, options.jobs)
    found = copy / "numbers.json"
    command = [sys.executable, ".ci/portable.py", "--chapters", str(found), "--profile", options.profile, "--jobs", str(options.jobs)]
    subprocess.run(
        command, cwd=copy, env=environment | {"PYTHONPATH": f"{copy}{os.pathsep}{environment.get('PYTHONPATH', '')}"}, check=True
    )
    content = json.loads(found.read_text(encoding="utf-8"))
    outcome.chapters, outcome.numbers = content["failed"], content["numbers"]
    return outcome


def checkout(folder: Path) -> Path:
    """A copy of what git tracks or would, with a cache and a run store of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in filter(None, subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for beside in (ROOT / "shared", ROOT.parent / "shared"):
        if beside.is_dir() and not (folder / "shared").exists():
            (folder / "shared").symlink_to(beside)
    return folder


def test(outcome: Outcome, copy: Path, environment: Mapping[str, str], tests: tuple[str, ...], jobs: int) -> None:
    """Run tests in the copy."""
    command = [sys.executable, "-m", "pytest", "-n", str(jobs), "-p", "no:cacheprovider", *(f"tests/{name}" for name in tests)]
    said = subprocess.run(command, cwd=copy, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    (copy / "pytest.log").write_text(said, encoding="utf-8")
    outcome.failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
    counts = re.findall(r"\d+ (?:passed|failed|skipped|errors?)\b", said.strip().splitlines()[-1] if said.strip() else "")
    outcome.tests = ", ".join(counts) or "pytest did not finish"
    if not counts:
        outcome.failed.append(f"pytest did not finish: {(copy / 'pytest.log').relative_to(ROOT)}")


def execute_chapters(target: Path, profile: str, jobs: int) -> int:
    """Execute all chapters of the checkout this runs in; write their numbers and the names of those that failed."""
    done, failures = execute([], None, profile, jobs, Path.cwd(), lambda line: print(f"  {line}", flush=True))
    for failure in failures.values():
        print(failure, flush=True)
    content = {"failed": sorted(failures), "numbers": {name: numbers(execution) for name, execution in sorted(done.items())}}
    target.write_text(json.dumps(content), encoding="utf-8")
    return 0


def report(outcomes: Mapping[str, Outcome]) -> str:
    """A table: what failed, and how many numbers differ from those of the first environment, by their first differing digit."""
    first = next(iter(outcomes.values()))
    head = ["environment", "kernels of torch", "tests", "chapters that failed", "numbers", "moved", "in digit 6-4", "in digit 3-1"]
    lines = []
    for name, outcome in outcomes.items():
        pairs = [(n, v, outcome.numbers.get(c, {}).get(n)) for c, found in first.numbers.items() for n, v in found.items()]
        moved = [shift(a, b) for _, a, b in pairs if b is not None and a != b]
        cells = [name, outcome.machine["instructions"], outcome.tests, ", ".join(outcome.chapters) or "none", len(pairs), len(moved)]
        lines.append([*cells, sum(1e-7 <= m < 1e-3 for m in moved), sum(m >= 1e-3 for m in moved)])
    rows = [f"| {' | '.join(map(str, line))} |" for line in [head, ["---"] * len(head), *lines]]
    failed = [f"{name}: {test}" for name, outcome in outcomes.items() for test in outcome.failed]
    return "\n".join([*rows, *failed])


def shift(a: float, b: float) -> float:
    """Difference of two numbers relative to the larger."""
    return abs(a - b) / max(abs(a), abs(b)) if math.isfinite(a) and math.isfinite(b) else math.inf


def record(outcomes: Mapping[str, Outcome], profile: str) -> None:
    """Keep every number under every environment, for the page about it and for the digits that the book prints."""
    chapters = sorted(set().union(*(outcome.numbers for outcome in outcomes.values())))
    values: dict[str, dict[str, list[float | None]]] = {}
    for chapter in chapters:
        names = sorted(set().union(*(outcome.numbers.get(chapter, {}) for outcome in outcomes.values())))
        values[chapter] = {name: [outcome.numbers.get(chapter, {}).get(name) for outcome in outcomes.values()] for name in names}
        # numbers that are the same everywhere need no list
        values[chapter] = {
            name: found if spread(found) else [v for v in found if v is not None][:1] for name, found in values[chapter].items()
        }
    environments = [{"name": name, "machine": outcome.machine, "variables": dict(ENVIRONMENTS[name])} for name, outcome in outcomes.items()]
    for environment in environments:
        if environment["variables"].pop("PYTHONPATH", None):  # of this machine, and no more than the way to it
            environment["variables"]["torch.backends.mkldnn"] = "off"
    content = {"profile": profile, "date": datetime.now(UTC).strftime("%Y-%m-%d"), "commit": commit(ROOT), "environments": environments}
    target = ROOT / "results" / "portability.json"
    part = target.with_suffix(".part")
    part.write_text(json.dumps(content | {"numbers": values}, indent=0) + "\n", encoding="utf-8")
    part.replace(target)
    print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
