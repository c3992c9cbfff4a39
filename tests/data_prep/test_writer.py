"""The writer of prepared cohorts."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cm2.cohorts import load_cohort
from cm2.cohorts.format import read_exact, read_manifest, write_manifest
from data_prep.writer import PreparedCohort, PreparedModality, already_prepared, whole_or_nothing, write_cohort


def prepared(**changes) -> PreparedCohort:
    stays = pd.DataFrame({"stay_id": [7, 8, 9, 10], "split": ["train", "valid", "test", "test"], "death": [0, 1, 1, -1]})
    modalities = {
        "series": PreparedModality("series", np.ones((4, 2, 1)), np.array([True, True, False, True]), ["HR"], ["1/min"]),
        "note": PreparedModality("text", ["a", "b", "c", "d"], np.array([True, False, True, True])),
    }
    tiny = PreparedCohort("tiny", "made up", "1", {"seed": 0}, stays, modalities, {"death": "died"}, [], {}, credentialed=False)
    return replace(tiny, **changes)


def test_manifest_counts(tmp_path):
    manifest = json.loads((write_cohort(tmp_path / "c", prepared()) / "manifest.json").read_text())
    assert manifest["splits"] == {"train": 1, "valid": 1, "test": 2}
    assert manifest["tasks"]["death"] == {
        "description": "died",
        "positives": 2,
        "unknown": 1,
        "positives_by_split": {"train": 0, "valid": 1, "test": 1},
    }
    assert manifest["modalities"]["series"]["shape"] == [2, 1]
    assert set(manifest["checksums"]) == {"stays.parquet", "series.npy", "note.parquet"} == set(manifest["sizes"])


def test_absent_rows_hold_placeholders(tmp_path):
    folder = write_cohort(tmp_path / "c", prepared())
    assert np.load(folder / "series.npy")[:, 0, 0].tolist() == [1, 1, 0, 1]
    assert pd.read_parquet(folder / "note.parquet")["text"].isna().tolist() == [False, True, False, False]


def test_equal_content_has_equal_checksum(tmp_path):
    sums = [json.loads((write_cohort(tmp_path / name, prepared()) / "manifest.json").read_text())["checksum"] for name in "ab"]
    assert sums[0] == sums[1]


def test_failure_leaves_nothing(tmp_path):
    def fail(folder):
        assert (folder / "series.npy").is_file()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_cohort(tmp_path / "c", prepared(extra=fail))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine").write_text("x")
    with pytest.raises(OSError), whole_or_nothing(tmp_path / "c") as folder:
        (folder / "new").write_text("y")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_already_prepared(tmp_path):
    out = tmp_path / "c"
    assert not already_prepared(out, "tiny", "1", {"seed": 0})
    write_cohort(out, prepared())
    assert already_prepared(out, "tiny", "1", {"seed": 0})
    for name, version, parameters in (("other", "1", {"seed": 0}), ("tiny", "2", {"seed": 0}), ("tiny", "1", {"seed": 1})):
        with pytest.raises(ValueError, match="exists and is not the"):
            already_prepared(out, name, version, parameters)
    (out / "series.npy").unlink()
    with pytest.raises(ValueError, match="remove it or choose another folder"):
        already_prepared(out, "tiny", "1", {"seed": 0})


def with_stays(**columns):
    return {"stays": prepared().stays.assign(**columns)}


def with_modality(name, **changes):
    modalities = prepared().modalities
    return {"modalities": modalities | {name: replace(modalities[name], **changes)}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (with_stays(stay_id=[7, 7, 8, 9]), "stay 7 occurs twice"),
        (with_stays(split=["train", "dev", "test", "test"]), "unknown split 'dev'; choose one of train, valid, test"),
        (with_stays(death=[0, 1, 2, 0]), "death: labels are 0, 1 or -1.*got 2"),
        (with_modality("series", data=np.full((4, 2, 1), np.nan)), "series: stay 7 has a value that is not finite"),
        (with_modality("series", data=np.ones((3, 2, 1))), "series: 3 rows"),
        (with_modality("note", present=np.array([True, False, False, True])), "stay 9 has no modality"),
    ],
)
def test_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write_cohort(tmp_path / "c", prepared(**changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (with_stays(stay_id=[7, 7, 8, 9]), "the stay in row 2 occurs twice"),
        (with_modality("series", data=np.full((4, 2, 1), np.nan)), "series: the stay in row 1 has a value"),
        (with_modality("note", present=np.array([True, False, False, True])), "the stay in row 3 has no modality"),
    ],
)
def test_of_a_credentialed_cohort_no_message_names_a_stay(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write_cohort(tmp_path / "c", prepared(credentialed=True, **changes))


def test_a_credentialed_manifest_shows_no_small_count_and_names_no_record(tmp_path):
    flow = [{"step": "stays", "stays": 20, "dropped": 0}, {"step": "adults", "stays": 4, "dropped": 16, "note": ""}]
    counts = {"films": {"read": 300, "damaged": {"cut": 3}}, "rows": 40}
    private = {"flow": flow, "counts": counts, "records": {"films": {"p10/p10000001/s5/x.jpg": "cut"}}}
    out = write_cohort(tmp_path / "c", prepared(credentialed=True, **private))
    manifest = read_manifest(out)
    assert manifest["splits"] == {"train": None, "valid": None, "test": None} and [s["stays"] for s in manifest["flow"]] == [20]
    assert manifest["tasks"]["death"] == {"description": "died", "positives": None, "unknown": None}
    assert manifest["counts"] == {"films": {"read": 300, "damaged": {"cut": None}}, "rows": 40}
    assert "p10000001" not in (out / "manifest.json").read_text()
    exact = read_exact(out)
    assert {name: exact[name] for name in private} == private and exact["splits"] == {"train": 1, "valid": 1, "test": 2}
    assert exact["tasks"]["death"]["positives_by_split"] == {"train": 0, "valid": 1, "test": 1}


def test_folders_have_the_permissions_that_the_user_wants(tmp_path):
    before = os.umask(0o077)
    try:
        out = write_cohort(tmp_path / "private", prepared())
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (out, *out.iterdir())} == {0}


def test_a_cohort_is_credentialed_unless_its_manifest_denies_it(tmp_path):
    asked = ("tiny", "1", {"seed": 0})
    out = write_cohort(tmp_path / "c", prepared(credentialed=True))
    assert load_cohort(out).credentialed and PreparedCohort.__dataclass_fields__["credentialed"].default is True
    manifest = read_manifest(out)
    del manifest["credentialed"]
    write_manifest(out, manifest)
    before = load_cohort(out)
    assert before.credentialed
    assert already_prepared(out, *asked, credentialed=False)  # a folder from before the entry existed
    assert not load_cohort(out).credentialed and load_cohort(out).checksum == before.checksum
    assert already_prepared(out, *asked) and not load_cohort(out).credentialed
