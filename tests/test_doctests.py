"""The examples in docstrings give what they show."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

from cm2.environment.extras import explain

ROOT = Path(__file__).resolve().parents[1]
PROMPT = ">>> "


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


WITH_EXAMPLES = sorted(
    module_name(path)
    for package in ("cm2", "data_prep")
    for path in (ROOT / package).rglob("*.py")
    if PROMPT in path.read_text(encoding="utf-8")
)
"""Found by their text: a module without an example need not be imported."""


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        module = import_module(name)
    except ImportError as error:
        if explain(error) is None:
            raise
        pytest.skip(str(error))
    outcome = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.attempted, f"{name} has examples that doctest does not see: is the docstring a comment?"
    assert not outcome.failed, "see the captured output"


def test_there_are_examples():
    assert {"cm2.copulas", "cm2.joint.law", "cm2.marginals.gaussian_mixture"} <= set(WITH_EXAMPLES)
