"""Numbers that leave a notebook."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from cm2.environment.machine import describe
from cm2.results import read, record


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("CM2_RESULTS", str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results"


def test_what_is_recorded_can_be_read(store):
    record(
        "chapter", "alpha", torch.tensor(2.5), format=".1f", provenance={"cohort": "synthetic", "seeds": range(2), "rate": np.float64(0.5)}
    )
    record("chapter", "family", "gumbel")
    assert read("chapter", "alpha") == 2.5 and read("chapter", "family") == "gumbel"
    entry = json.loads((store / "chapter.json").read_text())["alpha"]
    source = {"cohort": "synthetic", "machine": describe(), "rate": 0.5, "seeds": [0, 1]}
    assert entry == {"format": ".1f", "provenance": source, "value": 2.5}


def test_a_result_computed_elsewhere_keeps_its_machine(store):
    record("chapter", "alpha", 2.5, provenance={"machine": "another one"})
    assert json.loads((store / "chapter.json").read_text())["alpha"]["provenance"] == {"machine": "another one"}


def test_committed_results_are_read_and_fresh_ones_win(tmp_path):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "real.json").write_text('{"auroc": {"value": 0.84, "format": ".3f"}}')
    assert read("real", "auroc") == 0.84
    record("real", "auroc", 0.85)
    assert read("real", "auroc") == 0.85


def test_what_is_not_there_is_named():
    record("chapter", "alpha", 1)
    with pytest.raises(ValueError, match="'chapter' has no result 'beta'; recorded: alpha"):
        read("chapter", "beta")
    with pytest.raises(ValueError, match="execute that chapter first"):
        read("other", "beta")


@pytest.mark.parametrize(
    ("chapter", "name", "value", "format"),
    [
        ("a", "b", float("nan"), ""),
        ("a", "b", None, ""),
        ("a", "b", True, ""),
        ("a", "b", "word", ".2f"),
        ("a:b", "c", 1, ""),
        ("a", "", 1, ""),
    ],
)
def test_what_cannot_be_a_result_is_refused(chapter, name, value, format, store):
    with pytest.raises(ValueError):
        record(chapter, name, value, format)
    assert not store.exists()


def test_parallel_records_lose_nothing(store):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: record("chapter", f"r{n}", n), range(40)))
    assert len(json.loads((store / "chapter.json").read_text())) == 40
