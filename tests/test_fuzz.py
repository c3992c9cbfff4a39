"""More than a thousand mutated inputs over every format, with a fixed seed: each is used, or refused in one line."""

from __future__ import annotations

import random

import pytest

from tests.fuzzing import FORMATS as FIRST
from tests.fuzzing import Ground
from tests.fuzzing_models import MORE

FORMATS = FIRST | MORE


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    return Ground(tmp_path_factory.mktemp("fuzz"))


def test_there_are_enough():
    assert sum(number for _, number in FORMATS.values()) >= 1000


@pytest.mark.parametrize("name", FORMATS)
def test_none_ends_in_a_bare_traceback(name, ground, monkeypatch, tmp_path):
    monkeypatch.setenv("CM2_HOME", str(tmp_path))
    case, number = FORMATS[name]
    refused = 0
    for seed in range(number):
        try:
            refused += bool(case(ground, random.Random(f"{name} {seed}")))
        except AssertionError as fault:
            pytest.fail(f"{name}, case {seed}: {fault}")
    assert number <= 20 or refused > 0, "mutations that nothing notices"
