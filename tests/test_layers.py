"""Imports point down the floors, without a cycle, and the core needs nothing but the training stack."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ROOMS = (
    *(
        "errors",
        "escape",
        "numerics",
        "environment",
        "containers",
        "durable",
        "progress",
        "config",
        "parts",
        "batch",
        "results",
        "metrics",
        "uncertainty",
        "calibration",
        "tasks",
    ),
    *("copulas", "marginals", "joint"),
    *("networks", "kinds", "cohorts", "methods"),
    *("runs", "estimators", "evaluation"),
    *("paper", "tables", "plots", "figures"),
    *("book", "cli", "__main__"),
)
"""Every room of cm2, from the ground up: a module imports from its own room and from rooms before it."""
OPEN_TO_PREPARATION = ROOMS[: ROOMS.index("joint") + 1]
LOOSE = {"batch", "containers", "durable", "errors", "escape", "estimators", "figures", "metrics", "results", "uncertainty"}
"""Modules at the top of cm2/ beside its rooms and the front door."""

CORE = {
    *("torch", "torchvision", "lightning", "transformers", "numpy", "scipy", "sklearn"),
    *("pandas", "pyarrow", "safetensors", "typer"),
    *("filelock", "joblib", "tqdm", "tokenizers", "huggingface_hub"),  # what those depend on themselves
}
DRAWING = ("cm2.plots", "cm2.figures")
EXTRAS = ("duckdb", "optuna", "dask", "papermill", "jupyter_book", "sphinx", "nbclient", "IPython", "pyvinecopulib", "pytest")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for package in ("cm2", "data_prep") for path in sorted((ROOT / package).rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in SOURCES.items()}

PACKAGE = [name for name in SOURCES if name.split(".")[0] == "cm2"]


def room(module: str) -> str:
    """The part of a module's name behind ``cm2.``; empty for the front door."""
    return module.split(".")[1] if "." in module else ""


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def import_statements(node: ast.AST, lazy: bool, types: bool = False) -> list[ast.Import | ast.ImportFrom]:
    """Imports that run, and with ``types`` those for the type checker too; those inside functions only when ``lazy``."""
    found = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            found.append(child)
        elif is_type_checking(child) and not types:
            found += [s for branch in child.orelse for s in import_statements(branch, lazy)]
        elif lazy or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            found += import_statements(child, lazy, types)
    return found


def imported(module: str, lazy: bool = True, types: bool = False) -> set[str]:
    """Absolute names of the modules a module imports."""
    names = set()
    for statement in import_statements(TREES[module], lazy, types):
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
            continue
        base = statement.module or ""
        if statement.level:
            package = module.split(".") if SOURCES[module].name == "__init__.py" else module.split(".")[:-1]
            base = ".".join([*package[: len(package) - statement.level + 1], *([base] if base else [])])
        submodules = {f"{base}.{alias.name}" for alias in statement.names} & set(SOURCES)
        names |= submodules
        if len(submodules) < len(statement.names):
            names.add(base)
    return names


def of(package: str, names: set[str]) -> set[str]:
    return {name for name in names if name == package or name.startswith(f"{package}.")}


def test_every_room_has_its_place():
    there = {room(module) for module in PACKAGE if "." in module}
    assert there == set(ROOMS), "put the room where it belongs in ROOMS"
    assert {path.stem for path in (ROOT / "cm2").glob("*.py")} - {"__init__", "__main__"} == LOOSE


def test_imports_point_down():
    def above(module):
        names = of("cm2", imported(module, types=True))
        return {name for name in names if "." in name and ROOMS.index(room(name)) > ROOMS.index(room(module))}

    assert {module: names for module in PACKAGE if "." in module and (names := above(module))} == {}, "imports from a room above"


def test_no_cycle():
    graph = {module: {name for name in imported(module, types=True) if name in SOURCES and name != module} for module in SOURCES}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"import cycle: {' <- '.join(error.args[1])}")


def names_data_prep(node: ast.AST) -> bool:
    """A call with data_prep among its arguments, as of importlib's import_module."""
    arguments = node.args if isinstance(node, ast.Call) else []
    return any(isinstance(a, ast.Constant) and str(a.value).split(".")[0] == "data_prep" for a in arguments)


def test_the_package_knows_nothing_of_data_preparation():
    assert [module for module in PACKAGE if of("data_prep", imported(module))] == []
    found_at_run_time = {module for module in PACKAGE if any(map(names_data_prep, ast.walk(TREES[module])))}
    allowed = {"cm2.cli.data", "cm2.cohorts.simulated"}
    assert found_at_run_time <= allowed, "only the command line and the book's embedded cohort may find data_prep at run time"


def test_data_preparation_uses_what_lies_below_the_networks():
    allowed = {*OPEN_TO_PREPARATION, "kinds", "cohorts"}  # of cohorts the format and the writer

    def other(module):
        return {name for name in of("cm2", imported(module)) if room(name) not in allowed} - {"cm2"}

    assert {module: names for module in SOURCES if module not in PACKAGE and (names := other(module))} == {}
    shared = {f"cm2.cohorts.{name}" for name in ("disclosure", "format", "missingness", "workplace", "writing")}
    readers = {module: of("cm2.cohorts", imported(module)) - shared for module in SOURCES}
    assert {module: names for module, names in readers.items() if module not in PACKAGE and names} == {}


def test_the_core_needs_only_the_training_stack():
    def other(module):
        allowed = CORE | {"cm2"} | ({"matplotlib"} if module.startswith(DRAWING) else set())
        return {name.split(".")[0] for name in imported(module, lazy=False)} - allowed - sys.stdlib_module_names

    assert {module: names for module in PACKAGE if (names := other(module))} == {}, "import it where it is used"


def test_importing_the_core_imports_no_extra():
    modules = [m for m in SOURCES if m.split(".")[0] == "cm2" and not m.startswith(DRAWING) and not m.endswith("__main__")]
    code = f"import sys, {', '.join(modules)}\nprint(*sorted({set(EXTRAS)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_importing_the_package_is_cheap():
    code = "import sys, cm2\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.stdout.strip() == "False", done.stderr


def test_the_rules_see_what_they_should():
    """A rule that reads no import would pass on anything."""
    assert "cm2.networks.encoders" in imported("cm2.networks.fusion")
    assert "torchvision.models" in imported("cm2.networks.encoders.image") - imported("cm2.networks.encoders.image", lazy=False)
    pretrained = "cm2.networks.encoders.pretrained"
    assert "transformers" in imported(pretrained, lazy=False, types=True) - imported(pretrained, lazy=False)
    assert [room(m) for m in ("cm2.batch", "cm2.copulas.vine.law", "cm2")] == ["batch", "copulas", ""]
