"""What a prepared cohort holds, in aggregates, and what is withheld of a credentialed one."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from cm2 import load_cohort
from cm2.cohorts.disclosure import SMALLEST, guard, guard_flow
from cm2.tables import table
from cm2.tables.counts import count_groups
from cm2.tables.description import describe, group, kept_description, write_description
from cm2.tables.verification import compare_with_paper
from data_prep.writer import PreparedCohort, PreparedModality, write_cohort
from tests.tables.conftest import write

N = 400


def notes_and_series(out, few_without=False, credentialed=True):
    """A cohort like MIMIC-III's: a masked series, a note for some, readmission containing death."""
    rng = np.random.default_rng(1)
    death = (rng.random(N) < 0.2).astype(int)
    readmission = death.copy()
    readmission[np.flatnonzero(death == 0)[:6]] = 1
    split = np.array(["train"] * 20 + ["valid"] + ["test"] * 4)[np.arange(N) % 25]
    stays = pd.DataFrame({"stay_id": np.arange(N), "split": split, "in_hospital_mortality": death, "readmission": readmission})
    mask = rng.random((N, 4, 2)) < 0.5
    mask[:, :, 1] = False
    mask[:5, 0, 1] = True  # a variable that five stays have
    series = np.concatenate([rng.normal(size=(N, 4, 2)), mask], axis=2)
    there = np.arange(N) >= 4 if few_without else rng.random(N) < 0.5
    modalities = {
        "series": PreparedModality("series", series, np.ones(N, bool), ["a", "b", "mask->a", "mask->b"], ["1"] * 4),
        "note": PreparedModality("text", ["x"] * N, there),
    }
    flow = [
        {"step": "raw", "stays": N + 50, "dropped": 0, "note": ""},
        {"step": "first", "stays": N + 3, "dropped": 47, "note": "a"},
        {"step": "second", "stays": N, "dropped": 3, "note": "b"},
    ]
    tasks = dict.fromkeys(("in_hospital_mortality", "readmission"), "made up")
    made = PreparedCohort("mimic3", "made up", "1", {}, stays, modalities, tasks, flow, {}, credentialed=credentialed)
    return load_cohort(write_cohort(out, made))


def numbers(tree):
    """Every whole number in a tree."""
    if isinstance(tree, dict | list):
        return [n for item in (tree.values() if isinstance(tree, dict) else tree) for n in numbers(item)]
    return [tree] if isinstance(tree, int) and not isinstance(tree, bool) else []


def test_description_counts_what_the_table_of_counts_counts(tiny):
    described = describe(tiny)
    for cell in table(8, tiny, progress=False).cells:
        entry = group(described, *(cell.row.split(" | ") if cell.row != "all" else []))["tasks"][cell.task]
        here = entry["positives"]["total"] if cell.metric == "positives" else entry["known"][cell.metric]
        assert here == cell.value
    assert group(described)["stays"]["total"] == len(tiny.stays)
    with pytest.raises(ValueError, match=r"no group 'note'; it has all, bedside"):
        group(described, "note")


def test_missing_variables_are_read_off_the_masks(tmp_path):
    cohort = notes_and_series(tmp_path / "open", credentialed=False)
    shares = {name: entry["absent"] for name, entry in describe(cohort)["variables"]["series"].items()}
    masks = cohort.array("series")[:, :, 2:]
    assert shares["a"]["steps"] == pytest.approx(1 - masks[:, :, 0].mean(), abs=1e-6)
    assert shares["a"]["stays"] == pytest.approx((masks[:, :, 0].sum(axis=1) == 0).mean(), abs=1e-6)
    assert shares["b"]["stays"] == pytest.approx(1 - 5 / N, abs=1e-6)


def test_description_is_kept_and_read(tiny, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    path = write_description(tiny.path, "results/tiny/cohort.json")
    assert kept_description("tiny") == describe(tiny) == json.loads(path.read_text())
    assert [p.name for p in path.parent.iterdir()] == ["cohort.json"]
    with pytest.raises(ValueError, match="no description of 'other' under results"):
        kept_description("other")
    path.write_text("{}")
    with pytest.raises(ValueError, match="format None"):
        kept_description("tiny")


def test_a_credentialed_description_tells_of_no_few_stays(tmp_path):
    described = describe(notes_and_series(tmp_path / "mimic"))
    everyone = group(described)
    assert not [n for n in numbers([described["groups"], described["flow"]]) if 0 < n < SMALLEST]
    assert everyone["tasks"]["in_hospital_mortality"]["positives"]["total"] is not None
    assert everyone["tasks"]["readmission"]["positives"]["total"] is None, "six more than the deaths"
    assert everyone["tasks"]["in_hospital_mortality"]["positives"]["test"] is None
    assert described["variables"]["series"]["b"]["absent"]["stays"] is None
    assert described["variables"]["series"]["a"]["absent"]["steps"] > 0


def test_a_small_remainder_is_not_told_either(tmp_path):
    cohort = notes_and_series(tmp_path / "mimic", few_without=True)
    matched = next(entry for entry in count_groups(cohort) if entry["modalities"] == ["series", "note"])
    assert matched["stays"]["total"] is None, "all but four"
    compared = compare_with_paper(cohort.path)
    shown = compared[(compared["row"] == "MIMIC-III") & (compared["table"] == 1)].set_index("column")["here"]
    assert shown["total"] == N
    assert compared.loc[(compared["row"] == "MIMIC-III | NOTE") & (compared["column"] == "total"), "here"].isna().all()
    assert compared["difference"].isna().eq(compared["here"].isna()).all()


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ({"a": 40, "b": 9, "c": 8}, ["a"]),
        ({"a": 40, "b": 20, "c": 8}, ["a"]),
        ({"a": 40, "b": 2, "c": 3}, []),
        ({"a": 40, "b": 0, "c": 12}, ["a", "b", "c"]),
        ({"a": 40, "b": 0, "c": 3}, ["b"]),
    ],
)
def test_what_a_sum_gives_away_is_hidden(parts, shown):
    assert [name for name, count in guard(parts).items() if count is not None] == shown
    lost = [count for name, count in parts.items() if name not in shown]
    assert not lost or sum(lost) >= SMALLEST


def test_small_steps_of_a_flow_chart_are_joined():
    sizes = [200, 195, 195, 120, 60, 57]
    steps = [{"step": str(i), "stays": b, "dropped": a - b, "note": ""} for i, (a, b) in enumerate(pairwise([200, *sizes]))]
    shown = guard_flow(steps)
    assert [step["step"] for step in shown] == ["0", "1; 2; 3", "4; 5"]
    assert [step["stays"] for step in shown] == [200, 120, 57]
    assert all(a["stays"] - b["dropped"] == b["stays"] for a, b in pairwise(shown))
    assert guard_flow([]) == []
    subset = "the others stay in the cohort"
    rest = [{"step": "6", "stays": 54, "dropped": 3, "note": ""}, {"step": "7", "stays": 30, "dropped": 24, "note": subset}]
    shown = guard_flow([*steps, *rest])
    assert [(step["stays"], step["dropped"]) for step in shown] == [(200, 0), (120, 80), (54, 66), (30, 24)], "the cohort's size is kept"
    few = {"step": "8", "stays": 25, "dropped": 5, "note": subset}
    assert [step["stays"] for step in guard_flow([*steps, *rest, few])] == [200, 120, 54, 25]
    assert guard_flow([*steps[:1], {"step": "end", "stays": 4, "dropped": 196, "note": ""}]) == steps[:1]


def test_an_open_cohort_is_described_in_full(tmp_path):
    cohort = write(tmp_path / "tiny", name="tiny")
    assert all(isinstance(n, int) for entry in describe(cohort)["groups"] for n in entry["stays"].values())
