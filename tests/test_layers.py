"""Imports point down the floors, without a cycle, and the core needs nothing but the training stack."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FLOORS = (
    {"numerics", "batch", "config", "metrics", "machine", "checks", "extras", "progress"},
    {"copulas", "marginals", "rosenblatt", "joint", "links"},
    {"encoders", "embedding", "fusion", "alignment", "released", "weights"},
    {"model", "baselines"},
)
TOP = len(FLOORS)

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


def floor(module: str) -> int:
    """Floor of a module of cm2; whatever is not listed, the package's front door included, is on the top floor."""
    part = module.split(".")[1] if "." in module else ""
    return next((n for n, names in enumerate(FLOORS) if part in names), TOP)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def import_statements(node: ast.AST, lazy: bool) -> list[ast.Import | ast.ImportFrom]:
    """Imports that run: not those for the type checker; those inside functions only when ``lazy``."""
    found = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            found.append(child)
        elif is_type_checking(child):
            found += [s for branch in child.orelse for s in import_statements(branch, lazy)]
        elif lazy or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            found += import_statements(child, lazy)
    return found


def imported(module: str, lazy: bool = True) -> set[str]:
    """Absolute names of the modules a module imports."""
    names = set()
    for statement in import_statements(TREES[module], lazy):
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


def test_imports_point_down():
    above = {module: {name for name in of("cm2", imported(module)) if floor(name) > floor(module)} for module in PACKAGE if "." in module}
    assert {module: names for module, names in above.items() if names} == {}, "imports from a higher floor"


def test_no_cycle():
    graph = {module: {name for name in imported(module) if name in SOURCES and name != module} for module in SOURCES}
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
    allowed = {"cm2.cli.data", "cm2.runs.store"}
    assert found_at_run_time <= allowed, "only the command line and the book's embedded cohort may find data_prep at run time"


def test_data_preparation_uses_the_two_lowest_floors():
    above = {module: {name for name in of("cm2", imported(module)) if floor(name) > 1} for module in SOURCES if module not in PACKAGE}
    assert {module: names for module, names in above.items() if names} == {}


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
    assert "cm2.config" not in imported("cm2.networks.encoders")
    assert [floor(m) for m in ("cm2.batch", "cm2.copulas.base", "cm2.networks.fusion", "cm2.methods.cm2", "cm2.cli", "cm2")] == [
        0,
        1,
        2,
        3,
        4,
        4,
    ]
