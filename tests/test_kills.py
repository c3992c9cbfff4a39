"""A process is killed at chosen instants of its writing, or has no space left: the next call ends as an unbroken one."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmarks import _phases
from benchmarks._kills import FINISHED, NO_SPACE, instants, killed, leftovers, without_space
from data_prep.workplace import workplace
from data_prep.writer import already_prepared
from tests.tables.conftest import complete, tiny, write

__all__ = ["complete", "tiny"]
PHASES = ("preparation", "training", "table", "book")

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or torch.accelerator.is_available(), reason="processes are forked after torch has been used"
)


def prepare(out):
    """As every preparation does."""
    asked = (out, "complete", "1", {"complete": True}, False)
    if not already_prepared(*asked):
        with workplace(out):
            if not already_prepared(*asked):
                write(out, "complete", complete=True)


@pytest.fixture(scope="module")
def phase(request, complete, tiny, tmp_path_factory):
    """The phase, what an unbroken call leaves, and the number of its instants."""
    place = tmp_path_factory.mktemp(request.param)
    made = {
        "preparation": lambda: _phases.preparation(prepare),
        "training": lambda: _phases.training(complete, "death", {"method": "late_fusion"}),
        "table": lambda: _phases.table(tiny, place / "before", "death", {"train.epochs": 1}),
        "book": _phases.book,
    }[request.param]()
    whole = made.fresh(place / "whole")
    made.call(whole)
    assert leftovers(whole) == []
    return made, made.content(whole), instants(made, place / "counted")


@pytest.mark.parametrize("phase", PHASES, indirect=True)
def test_a_killed_call_is_continued(phase, tmp_path):
    made, whole, number = phase
    assert number > 10
    aimed = sorted({round(1 + (number - 1) * share) for share in (0.15, 0.4, 0.6, 0.8, 0.95)})
    for place, at in enumerate(aimed):
        folder = tmp_path / str(at)
        killed(made, folder, at, torn=place % 2 == 0)
        made.call(folder)
        assert _phases.equal(made.content(folder), whole), f"killed before event {at} of {number}"
        assert leftovers(folder) == []


@pytest.mark.parametrize("phase", PHASES, indirect=True)
def test_a_call_without_space_says_so_and_is_continued(phase, tmp_path):
    made, whole, _ = phase
    for size in (0, 1500, 20_000):
        folder = tmp_path / str(size)
        assert without_space(made, folder, size) in (FINISHED, NO_SPACE), size
        made.call(folder)
        assert _phases.equal(made.content(folder), whole), f"no file of more than {size} bytes"
        assert leftovers(folder) == []
