"""Tasks of every type through the writer, the manifest, the reader and a batch."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from cm2.cohorts import load_cohort
from cm2.cohorts.disclosure import SMALLEST
from cm2.cohorts.format import read_exact
from cm2.tables.verification import verify_cohort
from cm2.tasks import known_stays
from data_prep.writer import write_cohort
from tests.tasks.cases import TASKS, labels
from tests.tasks.cohort import N, prepared


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return load_cohort(write_cohort(tmp_path_factory.mktemp("cohorts") / "many", prepared()))


@pytest.mark.parametrize("kind", TASKS)
def test_labels_arrive_in_a_batch(kind, cohort):
    task = cohort.task(TASKS[kind].name)
    assert task == TASKS[kind]
    stays = cohort.split("train", task.name)
    expected = labels(kind, N, unknown=12)[stays.rows].astype(np.float32)
    assert known_stays(expected).all() and len(stays) == 94
    batch = stays.batch([3, 5, 0])
    assert batch.label.shape == (3, *task.label_shape)
    np.testing.assert_array_equal(batch.label, expected[[3, 5, 0]])
    joined = stays.collate([stays.batch([1]), batch])
    assert joined.label.shape == (4, *task.label_shape)
    few = stays.with_labels(0.5, seed=1)
    kept = known_stays(few.label)
    assert 0.4 * len(stays) < kept.sum() < 0.6 * len(stays)
    assert torch.equal(few.labelled().label, stays.label[kept]) and few.labelled().task == task


def test_the_manifest_holds_what_a_task_is(cohort):
    entry = json.loads((cohort.path / "manifest.json").read_text())["tasks"]
    assert entry["death"].keys() == {"description", "positives", "unknown", "positives_by_split"}  # as before there were other types
    assert entry["ward"]["classes"] == ["home", "ward", "icu"]
    assert entry["ward"]["counts"]["icu"] == {"known": 188, "positives": 62}
    assert entry["findings"]["counts"].keys() == {"fluid", "air", "mass", "fracture"}
    assert entry["relapse"]["edges"] == [2.0, 5.0, 9.0] and entry["stay"]["unit"] == "d"
    with pytest.raises(ValueError, match="unknown task 'wards'; the cohort many tasks has death, ward, findings, stay, relapse"):
        cohort.task("wards")


def test_verification_counts_again(cohort, tmp_path):
    assert not verify_cohort(cohort.path).problems
    manifest = json.loads((cohort.path / "manifest.json").read_text())
    manifest["tasks"]["ward"]["counts"]["icu"]["positives"] = 61
    other = tmp_path / "other"
    other.mkdir()
    for path in cohort.path.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert any("counts of ward" in problem for problem in verify_cohort(other).problems)


def test_small_counts_of_a_credentialed_cohort_are_hidden(tmp_path):
    stays = prepared().stays
    stays["ward"] = np.where(np.arange(N) < 4, 2, np.arange(N) % 2)
    stays["findings.mass"] = (np.arange(N) < 3).astype(int)
    stays["relapse.event"] = np.where(stays["relapse.event"] < 0, -1, np.arange(N) < 5).astype(float)
    stays.loc[stays["relapse.time"].isna(), "relapse.event"] = -1
    folder = write_cohort(tmp_path / "c", prepared(stays=stays, credentialed=True))
    shown = json.loads((folder / "manifest.json").read_text())["tasks"]
    ward = {name: count["positives"] for name, count in shown["ward"]["counts"].items()}
    assert ward["icu"] is None and sum(value is None for value in ward.values()) >= 2, "one hidden class would follow from the others"
    assert shown["findings"]["counts"]["mass"]["positives"] is None
    assert shown["relapse"]["counts"]["event"]["positives"] is None
    told = [count["positives"] for entry in shown.values() for count in entry.get("counts", {}).values()]
    assert all(value is None or value == 0 or value >= SMALLEST for value in told)
    assert read_exact(folder)["tasks"]["ward"]["counts"]["icu"]["positives"] == 4
    assert not verify_cohort(folder).problems


def test_what_a_task_takes_from_labels_is_that_of_training_stays(tmp_path):
    cohort = prepared(("regression", "survival"))
    bare = {"stay": replace(TASKS["regression"], mean=0.0, scale=1.0), "relapse": replace(TASKS["survival"], edges=(), bins=4)}
    cohort = load_cohort(write_cohort(tmp_path / "c", replace(cohort, tasks=bare)))
    train = cohort.label("stay")[(cohort.stays["split"] == "train").to_numpy()]
    assert cohort.task("stay").mean == pytest.approx(np.nanmean(train), rel=1e-3)
    assert len(cohort.task("relapse").edges) == 4


def test_a_wrong_label_is_named_by_the_writer(tmp_path):
    stays = prepared().stays
    stays["ward"] = stays["ward"].astype(int).where(stays["stay_id"] != 12, 5)
    with pytest.raises(ValueError, match=r"ward: labels are 0 to 2 or -1 \(unknown\), got 5 for stay 12"):
        write_cohort(tmp_path / "c", prepared(stays=stays))
    with pytest.raises(ValueError, match="got 5 for the stay in row 6"):
        write_cohort(tmp_path / "c", prepared(stays=stays, credentialed=True))
    clash = {"a": TASKS["binary"], "present_series": TASKS["binary"]}
    both = prepared().stays.assign(a=0, present_series=1)
    with pytest.raises(ValueError, match="present_series: its column present_series is that of the modality series"):
        write_cohort(tmp_path / "c", prepared(stays=both, tasks=clash))


def test_a_file_with_another_label_is_refused(cohort, tmp_path):
    other = tmp_path / "other"
    write_cohort(other, prepared())
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["tasks"]["ward"]["classes"] = ["home", "ward"]
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"stays.parquet: column ward: labels are 0 to 1 or -1 \(unknown\), got 2 for stay 9; prepare"):
        load_cohort(other)
