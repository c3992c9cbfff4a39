"""Names listed in help, completion and error messages: methods, tasks, tables, figures, profiles, chapters.

Each is read from its definition. Importing the registries takes seconds, since they pull in torch and matplotlib; the command line parses
their source instead.
"""

from __future__ import annotations

import ast
import json
import os
import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

import typer

from cm2.config import PROFILES, did_you_mean
from cm2.errors import InputError

PACKAGE = PROFILES.parents[1]
TABLES = PACKAGE / "tables"


@cache
def methods() -> tuple[str, ...]:
    """The methods of this package, without those of plug-ins: the ``name`` of every class in ``cm2.methods``."""
    return _named("methods", "name")


def all_methods() -> tuple[str, ...]:
    """The keys of ``cm2.methods.METHODS``, those of plug-ins included; only ``CM2_PLUGINS`` makes this import anything."""
    from cm2.parts import PLUGINS, installed

    if os.environ.get(PLUGINS):
        from cm2.methods import METHODS

        return tuple(sorted(METHODS))
    return tuple(sorted({*methods(), *installed("cm2.methods")}))


@cache
def tables() -> Mapping[str, str]:
    """Titles by name, the paper's tables first."""
    names = {path.stem.removeprefix("table-"): path for path in TABLES.glob("*.toml") if path.stem != "cohorts"}
    order = sorted(names, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
    return {name: tomllib.loads(names[name].read_text(encoding="utf-8"))["title"] for name in order}


@cache
def figures() -> Mapping[str, str]:
    """A line on each of the paper's figures, by number: the first of the docstring of ``cm2.figures.figure_N``."""
    functions = {n.name: n for n in _tree("figures.py").body if isinstance(n, ast.FunctionDef)}
    numbers = {found[1]: name for name in functions if (found := re.fullmatch(r"figure_(\d+)", name))}
    return {
        number: (ast.get_docstring(functions[numbers[number]]) or "").splitlines()[0].rstrip(".") for number in sorted(numbers, key=int)
    }


@cache
def tasks() -> tuple[str, ...]:
    """Labels of the cohorts in ``cohorts.toml``; other cohorts may have others."""
    roles = tomllib.loads((TABLES / "cohorts.toml").read_text(encoding="utf-8")).values()
    return tuple(dict.fromkeys(task for role in roles for task in (*role["tasks"].values(), *role.get("others", ()))))


def tasks_typed(context: typer.Context) -> list[str]:
    """Labels of the cohort that stands on the command line; of none, or of one that cannot be read, `tasks`."""
    from cm2.cohorts.format import MANIFEST

    given = context.params.get("cohort")
    folders = given if isinstance(given, list | tuple) else [given]
    try:
        read = [json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8")) for folder in folders if folder is not None]
        found = [task for manifest in read for task in manifest["tasks"]]
    except (OSError, ValueError, KeyError, TypeError):
        found = []
    return list(dict.fromkeys(found)) or list(tasks())


@cache
def task_types() -> tuple[str, ...]:
    """The types of task of this package: the ``type`` of every class in ``cm2.tasks``."""
    return _named("tasks", "type")


@cache
def profiles() -> tuple[str, ...]:
    """The profiles of the package, from the shortest training to the longest."""
    return tuple(sorted((path.stem for path in PROFILES.glob("*.toml")), key=_epochs))


@cache
def splits() -> tuple[str, ...]:
    """``cm2.cohorts.format.SPLITS``."""
    return ast.literal_eval(_value("cohorts/format.py", "SPLITS"))


@cache
def mechanisms() -> tuple[str, ...]:
    """``cm2.config.MECHANISMS``."""
    return ast.literal_eval(_value("config/__init__.py", "MECHANISMS"))


@cache
def backends() -> tuple[str, ...]:
    """Where runs may be trained."""
    return ast.literal_eval(_value("runs/cluster.py", "BACKENDS"))


def chapters() -> list[str]:
    """The book's chapters; none outside a checkout."""
    from cm2.book.chapters import documents, find_root

    try:
        root = find_root()
        return [Path(name).name for name in documents(root) if (root / name).with_suffix(".ipynb").is_file()]
    except (ValueError, ImportError):
        return []


def listed(names: Collection[str], word: str = "") -> str:
    """Names joined for a help text: ``a, b, c``, or with a word ``a, b or c``."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if word else ", ".join(names)


def one_of(what: str, names: Callable[[], Collection[str]], own: str = "") -> Callable[[str], str]:
    """A check of an option's value that needs none of the heavy imports.

    Args:
        what: the word for such a value.
        names: returns the known values.
        own: description of a ``.toml`` file that may be given instead; empty if none may.

    Returns:
        A function that returns a known value and raises ValueError for another, naming the known ones and the nearest.
    """

    def check(value: str) -> str:
        if value in names() or (own and value.endswith(".toml")):
            return value
        rest = f", or give {own}" if own else ""
        near = "" if value.isdigit() else did_you_mean(value, names())
        raise InputError(f"unknown {what} {value!r}; choose one of {listed(names())}{near}{rest}")

    return check


def _tree(source: str | Path) -> ast.Module:
    return ast.parse((PACKAGE / source).read_text(encoding="utf-8"))


def _value(source: str, variable: str) -> ast.expr:
    """The expression that a module assigns to a variable, as a syntax tree."""
    for node in _tree(source).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets: Sequence[ast.expr] = node.targets if isinstance(node, ast.Assign) else [node.target]
        if variable in map(ast.unparse, targets):
            return node.value
    raise LookupError(f"{source} assigns nothing to {variable}")


def _named(room: str, by: str) -> tuple[str, ...]:
    """The strings that the classes of a room assign to an attribute, sorted."""
    files = sorted((PACKAGE / room).rglob("*.py"))
    return tuple(sorted({name for path in files for node in _tree(path).body if (name := _assigned(node, by))}))


def _assigned(node: ast.stmt, attribute: str) -> str:
    """The string that a class body assigns to an attribute; empty if there is none."""
    body = node.body if isinstance(node, ast.ClassDef) else []
    found = (s.value for s in body if isinstance(s, ast.AnnAssign) and ast.unparse(s.target) == attribute)
    return next((value.value for value in found if isinstance(value, ast.Constant) and isinstance(value.value, str)), "")


def _epochs(profile: str) -> int:
    return tomllib.loads((PROFILES / f"{profile}.toml").read_text(encoding="utf-8")).get("train", {}).get("epochs", 0)
