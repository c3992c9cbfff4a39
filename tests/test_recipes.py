"""The recipes of CONTRIBUTING.md, followed to the letter in a copy of the code."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_house_rules import public_without_docstring

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = PAGE.partition("\n## Recipes\n")[2].partition("\n## ")[0]
BLOCK = re.compile(r"^```(python|toml)\n# ([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILES = {path: body for _, path, body in BLOCK.findall(RECIPES) if not path.startswith(("after ", "in "))}
LINES = {head: body for _, head, body in BLOCK.findall(RECIPES) if head.startswith("after ")}
COMMANDS = [shlex.split(line)[1:] for line in re.findall(r"^\.venv/bin/pytest .*", RECIPES, re.MULTILINE)]
ONE_PROCESS = "import sys, shlex, pytest\nfor line in sys.argv[1:]:\n    if code := pytest.main(shlex.split(line)):\n        sys.exit(code)"
"""Runs one command after another, so that torch is imported once."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The code with the files and lines of all recipes."""
    folder = tmp_path_factory.mktemp("recipes") / "checkout"
    for name in ("cm2", "data_prep", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc.*"))  # which another process is just writing
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path, body in FILES.items():
        (folder / path).write_text(body, encoding="utf-8")
    for head, body in LINES.items():
        after, *paths = (word for word in re.findall(r"`([^`]+)`|(\S+\.toml)", head) for word in word if word)
        for path in paths:
            text = (folder / path).read_text(encoding="utf-8")
            assert text.count(f"{after}\n") == 1, f"{path} has no place for the line of the recipe"
            (folder / path).write_text(text.replace(f"{after}\n", f"{after}\n{body}"), encoding="utf-8")
    return folder


def test_there_are_eight():
    assert re.findall(r"^### (.*)", RECIPES, re.MULTILINE) == [
        *("A copula family", "A method", "An encoder", "A fusion", "A kind of modality", "A type of task", "A cohort", "A table"),
        "From outside the package",
    ]
    for recipe in re.split(r"^### ", RECIPES, flags=re.MULTILINE)[1:-1]:
        assert BLOCK.search(recipe) and ".venv/bin/pytest " in recipe, recipe.splitlines()[0]


def test_their_files_are_new():
    assert [path for path in FILES if (ROOT / path).exists()] == []


def test_their_files_keep_the_house_rules(copy):
    python = [path for path in FILES if path.endswith(".py")]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, "--no-cache", *python], cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    code = [path for path in python if not path.startswith("tests/")]
    assert {path: found for path in code if (found := public_without_docstring(ast.parse(FILES[path])))} == {}


def test_they_lead_to_what_they_promise(copy):
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    lines = [shlex.join([*command, "-p", "no:cacheprovider", "--basetemp", str(copy.parent / "temporary")]) for command in COMMANDS]
    command = [sys.executable, "-c", ONE_PROCESS, *lines]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
