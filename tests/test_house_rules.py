"""Habits that keep the code readable, checked on the syntax tree."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {str(p.relative_to(ROOT)): p for package in ("cm2", "data_prep") for p in sorted((ROOT / package).rglob("*.py"))}
ALL_PYTHON = SOURCES | {str(p.relative_to(ROOT)): p for folder in ("tests", "benchmarks") for p in sorted((ROOT / folder).rglob("*.py"))}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
LONGEST_FILE, LONGEST_FUNCTION = 500, 75
THIS = "tests/test_house_rules.py"
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|Users|root|work|tmp|mnt|scratch)/\w")


@cache
def text(name: str) -> str:
    return ALL_PYTHON[name].read_text(encoding="utf-8")


@cache
def parse(name: str) -> ast.Module:
    return ast.parse(text(name))


def without_docstring(name: str) -> str:
    """Lines of text constants that are not documentation."""
    tree = parse(name)
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTION)) and ast.get_docstring(node) is not None
    }
    return "\n".join(
        n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in documentation
    )


def says_itself(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A method that only returns something or only declares itself, and the one torch prints a module with."""
    return function.name == "extra_repr" or (len(function.body) == 1 and isinstance(function.body[0], ast.Return | ast.Expr))


def documented_methods(node: ast.ClassDef) -> set[str]:
    return {m.name for m in node.body if isinstance(m, FUNCTION) and ast.get_docstring(m)}


def public_without_docstring(tree: ast.Module) -> list[str]:
    """Public classes, functions and methods without a docstring.

    A method that says itself what it is needs none, nor does one that a base class in the same file documents.
    """
    documented = {node.name: documented_methods(node) for node in tree.body if isinstance(node, ast.ClassDef)}
    missing = [] if ast.get_docstring(tree) else ["module"]
    for node in tree.body:
        if not isinstance(node, (ast.ClassDef, *FUNCTION)) or node.name.startswith("_"):
            continue
        missing += [] if ast.get_docstring(node) else [node.name]
        if isinstance(node, ast.ClassDef):
            inherited = set().union(*(documented.get(getattr(base, "id", ""), set()) for base in node.bases)) | documented[node.name]
            methods = [m for m in node.body if isinstance(m, FUNCTION) and not m.name.startswith("_") and not says_itself(m)]
            missing += [f"{node.name}.{m.name}" for m in methods if m.name not in inherited]
    return missing


def offenders(names: Iterable[str], rule: Callable[[str], object]) -> dict[str, object]:
    """What a rule finds in each file in which it finds something."""
    return {name: found for name in names if (found := rule(name))}


def test_no_print():
    def calls(name):
        return [n.lineno for n in ast.walk(parse(name)) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"]

    assert offenders(SOURCES, calls) == {}, "print at these lines; log it, return it, or let the command line echo it"


def test_no_literal_device():
    def literals(name):
        attributes = [n.lineno for n in ast.walk(parse(name)) if isinstance(n, ast.Call) and getattr(n.func, "attr", "") == "cuda"]
        return re.findall(r"(?m)^cuda(?::\d+)?$", without_docstring(name)) + attributes

    assert offenders(SOURCES, literals) == {}, "a literal device; take the device of a tensor or let Lightning choose"


def test_everything_public_says_what_it_is():
    assert offenders(SOURCES, lambda name: public_without_docstring(parse(name))) == {}, "no docstring"


def test_files_and_functions_are_short():
    def lengths(name):
        lines = len(text(name).splitlines())
        long = {n.name: n.end_lineno - n.lineno + 1 for n in ast.walk(parse(name)) if isinstance(n, FUNCTION)}
        long = {k: v for k, v in long.items() if v > LONGEST_FUNCTION}
        return long | ({"the file": lines} if lines > LONGEST_FILE else {})

    assert offenders(ALL_PYTHON, lengths) == {}, f"at most {LONGEST_FILE} lines a file and {LONGEST_FUNCTION} a function"


def tracked_text_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False).stdout.split("\n")
    suffixes = (".py", ".sh", ".toml", ".md", ".yml", ".yaml", ".cff", ".ipynb", ".txt", ".json", ".lock", ".js", ".css", "Makefile")
    return [n for n in listed if n.endswith(suffixes) and (ROOT / n).is_file()] or list(ALL_PYTHON)


def test_no_path_of_somebodys_machine():
    def paths(name):
        lines = enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1)
        return [f"{n}: {line.strip()[:80]}" for n, line in lines if MACHINE_PATH.search(line)]

    assert offenders(set(tracked_text_files()) - {THIS}, paths) == {}, "absolute paths"


def test_nothing_is_left_for_later():
    found = offenders(set(ALL_PYTHON) - {THIS}, lambda name: re.findall(r"\b(?:TODO|FIXME|XXX|NotImplementedError)\b", text(name)))
    assert found == {}


def test_the_rules_catch_what_they_should():
    bad = ast.parse(
        "class A:\n    def f(self):\n        x = 1\n        return x\n    def e(self):\n        return 1\n"
        "def g():\n    pass\ndef _h():\n    pass\n"
    )
    inherits = ast.parse(
        "'d'\nclass A:\n    'd'\n    def f(self):\n        'd'\n"
        "class B(A):\n    'd'\n    def f(self):\n        x = 1\n        return x\n    def g(self):\n        x = 1\n        return x\n"
    )
    assert public_without_docstring(inherits) == ["B.g"]
    assert public_without_docstring(bad) == ["module", "A", "A.f", "g"]
    assert MACHINE_PATH.search("/home/somebody/data") and not MACHINE_PATH.search("book/home/x.md")
    assert offenders(["a", "b"], lambda name: name == "b") == {"b": True}


def test_errors_that_a_user_can_cause_have_their_class():
    """``InputError``; a bare ``ValueError`` is a fault of ours to the command line. Numerical rooms know no user."""
    numerical = {"numerics", "metrics.py", "uncertainty.py"}
    met = [name for name in SOURCES if Path(name).parts[1] not in numerical or not name.startswith("cm2")]

    def raises(name):
        calls = [n.exc for n in ast.walk(parse(name)) if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call)]
        return [call.lineno for call in calls if getattr(call.func, "id", "") == "ValueError"]

    assert offenders(met, raises) == {}, "raise cm2.errors.InputError at these lines"
