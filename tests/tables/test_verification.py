"""``cm2 verify``: a prepared cohort against its manifest and the paper's counts."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cm2.cli import app
from cm2.cohorts import load_cohort
from cm2.cohorts.format import SPLITS
from cm2.tables.health import channel_health
from cm2.tables.verification import compare_with_paper, comparison_text, verify_cohort
from data_prep.channels import feature_names, units
from data_prep.writer import PreparedCohort, PreparedModality, write_cohort

STAYS = 400
TASKS = {"in_hospital_mortality": "death", "readmission": "return or death"}


def small_mimic3(folder, **changes):
    rng = np.random.default_rng(0)
    died = rng.random(STAYS) < 0.15
    stays = pd.DataFrame({"stay_id": np.arange(STAYS), "split": rng.choice(SPLITS, STAYS, p=(0.69, 0.15, 0.16))})
    stays["in_hospital_mortality"], stays["readmission"] = died.astype(int), (died | (rng.random(STAYS) < 0.05)).astype(int)
    series = np.zeros((STAYS, 24, 76), dtype=np.float32)
    series[:, :, -17:] = 1
    present = rng.random(STAYS) < 0.1
    modalities = {
        "series": PreparedModality("series", series, np.ones(STAYS, dtype=bool), feature_names(), units()),
        "note": PreparedModality("text", ["a note"] * STAYS, present),
    }
    flow = [{"step": "ICU stays", "stays": 500, "dropped": 0}, {"step": "adults", "stays": STAYS, "dropped": 500 - STAYS}]
    fields = {"stays": stays, "modalities": modalities, "flow": flow, "counts": {}} | changes
    return write_cohort(folder, PreparedCohort(name="mimic3", source="made up", version="1", parameters={}, tasks=TASKS, **fields))


@pytest.fixture
def cohort(tmp_path):
    return small_mimic3(tmp_path / "mimic3")


def change(folder, alter):
    """Alters the manifest alone."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    alter(manifest)
    path.write_text(json.dumps(manifest))


def test_a_sound_cohort(cohort, monkeypatch, capsys):
    monkeypatch.setattr("cm2.progress.display.INTERVAL", 0.001)
    found = verify_cohort(cohort)
    assert re.search(r"^verifying mimic3: .* \(", capsys.readouterr().err, re.MULTILINE)
    monkeypatch.undo()
    assert not found.problems and len(found.checks) > 10
    result = CliRunner().invoke(app, ["verify", str(cohort)])
    assert result.exit_code == 0 and "WRONG" not in result.output and "MIMIC-III | NOTE" in result.output


def test_counts_beside_the_papers(cohort):
    frame = compare_with_paper(cohort)
    total = frame.query("row == 'MIMIC-III' and column == 'total' and table == 1").iloc[0]
    assert (total["paper"], total["here"], total["difference"]) == (21139, STAYS, STAYS - 21139)
    few = frame.query("row == 'MIMIC-III | NOTE' and column == 'positives'")
    assert few["here"].isna().any() and few["difference"].isna().any(), "no count from 1 to 9 is shown"
    assert not frame["here"].between(1, 9).any() and "hidden" in comparison_text(frame)


@pytest.mark.parametrize(
    ("alter", "what"),
    [
        (lambda m: m["splits"].update(train=1), "stays of each split: the manifest says something else"),
        (lambda m: m["modalities"]["note"].update(present=3), "stays with note: the manifest says something else"),
        (lambda m: m["tasks"]["readmission"].update(positives=0), "positives of readmission"),
        (lambda m: m["flow"][1].update(dropped=1), "each step of the flow chart leaves what it does not drop: not so at adults"),
        (lambda m: m["flow"].pop(), "the flow chart leads to the stays of the cohort"),
    ],
)
def test_a_manifest_that_says_something_else(alter, what, cohort):
    change(cohort, alter)
    (problem,) = verify_cohort(cohort).problems
    assert problem.startswith(what)
    result = CliRunner().invoke(app, ["verify", str(cohort)])
    assert result.exit_code == 1 and "WRONG" in result.output


def test_values_that_cannot_be(tmp_path):
    series = np.full((STAYS, 24, 76), 0.5, dtype=np.float32)
    modalities = {"series": PreparedModality("series", series, np.ones(STAYS, dtype=bool), feature_names(), units())}
    died = np.ones(STAYS, dtype=int)
    stays = pd.DataFrame({"stay_id": np.arange(STAYS), "split": "train", "in_hospital_mortality": died, "readmission": 0 * died})
    problems = verify_cohort(small_mimic3(tmp_path / "c", modalities=modalities, stays=stays)).problems
    assert [problem.partition(":")[0] for problem in problems] == ["deaths in hospital count as readmissions", "series", "series"]


def test_a_damaged_file_and_no_cohort(cohort, tmp_path):
    (cohort / "series.npy").write_bytes(b"")
    (problem,) = verify_cohort(cohort).problems
    assert "series.npy" in problem
    with pytest.raises(ValueError, match="is not a prepared cohort"):
        verify_cohort(tmp_path / "nowhere")


def test_a_cohort_the_paper_does_not_have(small_cohort):
    frame = compare_with_paper(small_cohort.path)
    assert frame.empty and "no counts" in comparison_text(frame)
    assert not verify_cohort(small_cohort.path).problems


ENDS = dict.fromkeys(("not_a_number", "not_a_category", "of_another_fluid", "out_of_range", "before_entry", "after_48_hours", "used"), 0)


def with_channels(folder, told, absent=("Height",), some=()):
    """A cohort in which nobody has some channels, and three stays some."""
    series = np.zeros((STAYS, 24, 76), dtype=np.float32)
    series[:, :, -17:] = 1
    series[::2] += np.arange(76) < 59
    for name in (*absent, *some):
        series[3 if name in some else 0 :, :, feature_names().index(f"mask->{name}")] = 0
    modalities = {"series": PreparedModality("series", series, np.ones(STAYS, dtype=bool), feature_names(), units())}
    return small_mimic3(folder, modalities=modalities, counts={"channels": told})


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({}, "Height: nothing is charted; an item of the source may have been renamed"),
        ({"state": "empty", "charted": 0} | ENDS, "Height: nothing is charted"),
        ({"state": "unread", "charted": 78, "before_entry": 78}, r"Height: of what is charted nothing is used.*before entry \(78 of"),
        ({"state": "unread", "charted": 9, "not_a_number": 9}, r"Height: of what is charted nothing is used.*no number \(fewer than 10"),
        ({"state": "fine", "charted": 9, "used": 9}, "Height: of what is charted nothing is used"),
    ],
)
def test_a_channel_that_nobody_has(told, problem, tmp_path):
    folder = with_channels(tmp_path / "c", {"Height": told} if told else {})
    (found,) = verify_cohort(folder).problems
    assert re.match(f"series: every channel has values: {problem}", found)
    result = CliRunner().invoke(app, ["verify", str(folder)])
    assert result.exit_code == 1 and re.search(r"Height\s+(empty|unread)", result.output)


def test_a_channel_that_the_source_does_not_have_is_no_problem(tmp_path):
    found = verify_cohort(with_channels(tmp_path / "c", {"Height": {"state": "no item", "charted": 0} | ENDS}))
    assert not found.problems and re.search(r"Height\s+no item", found.health)


def test_the_table_of_channels_tells_no_small_count(tmp_path):
    told = {"Weight": {"state": "fine", "charted": 120} | ENDS | {"out_of_range": 7, "before_entry": 30, "used": 83}}
    text = verify_cohort(with_channels(tmp_path / "c", told, absent=(), some=("Weight",))).health
    (line,) = (" ".join(line.split()) for line in text.splitlines() if " Weight " in line)
    assert line == "series Weight constant 120 hidden 30 hidden hidden hidden"


def test_a_channel_with_one_value_in_all_training_stays(tmp_path):
    folder = with_channels(tmp_path / "c", {}, absent=())
    states = channel_health(load_cohort(folder)).set_index("channel")["state"]
    assert set(states) == {"fine"}
    flat = load_cohort(small_mimic3(tmp_path / "d"))
    assert set(channel_health(flat)["state"]) == {"constant"}
