"""Fabricated raw copies: every value of their truth, which is computed without this preparation, comes out."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from cm2 import load_cohort
from data_prep import prepare_mimic3, prepare_mimic4
from data_prep.channels import CHANNELS, continuous_columns
from data_prep.mimic.films import read_film
from data_prep.mimic.notes import SEPARATOR

VARIANTS = ("released", "corrected")
PREPARE = {"mimic3": prepare_mimic3, "mimic4": prepare_mimic4}
ASIDE = {
    "null_value": "no_value",
    "no_admission_id": "no_admission_id",
    "admission_not_in_cohort": "admission_not_in_cohort",
    "another_stay": "of_another_stay",
    "values": "kept",
}
LEFT_OUT = {"notes_of_a_third": False}
"""The truth keeps the notes of every stay; see ``test_a_third_of_each_split_keeps_its_notes``."""

OPTIONS = {"mimic3": {}, "mimic4": {"image_size": 32}}


@pytest.fixture(scope="module", params=[(release, variant) for release in PREPARE for variant in VARIANTS], ids=" ".join)
def case(request, fabricated, tmp_path_factory):
    release, variant = request.param
    raw = fabricated(release)
    out = tmp_path_factory.mktemp(variant) / release
    cohort = load_cohort(PREPARE[release](raw, out, variant=variant, quirks=LEFT_OUT, **OPTIONS[release]))
    truth = pd.read_parquet(raw / "truth" / "stays.parquet").sort_values("stay_id")
    return release, variant, raw, cohort, truth[truth[f"{variant}_survives"]].reset_index(drop=True)


def test_flow(case):
    _, variant, raw, cohort, _ = case
    truth = json.loads((raw / "truth" / "truth.json").read_text())
    steps = [{"step": step["step"], "stays": step["stays"]} for step in cohort.manifest["flow"]]
    assert steps[:8] == truth["flow"][variant]
    counts = cohort.manifest["counts"]["events"]
    dropped = truth["dropped_events"][variant]
    assert sum(counts["rows_of_the_items"].values()) == dropped["events"]
    unread = {name: count for name, count in dropped["null_after_cleaning"].items() if count}
    assert counts["not_read_by_variable"] == unread
    for theirs, ours in ASIDE.items():
        assert counts["rows"][ours] - (sum(unread.values()) if ours == "kept" else 0) == dropped[theirs], theirs


def test_stays_labels_and_splits(case):
    _, variant, _, cohort, truth = case
    assert cohort.stays["stay_id"].tolist() == truth["stay_id"].tolist()
    assert cohort.stays["split"].tolist() == truth["split"].tolist()
    for task in cohort.tasks:
        assert cohort.stays[task].tolist() == truth[f"{variant}_{task}"].tolist(), task


def test_series(case):
    release, variant, raw, cohort, _ = case
    truth = np.load(raw / "truth" / f"series_{variant}.npy")
    statistics = json.loads((raw / "truth" / f"statistics_{variant}.json").read_text())["hash"]
    series, continuous = cohort.array("series"), continuous_columns()
    rest = [column for column in range(series.shape[2]) if column not in continuous]
    np.testing.assert_array_equal(series[:, :, rest], truth[:, :, rest])
    kept = cohort.manifest["normalisation"]["series"]
    np.testing.assert_allclose(kept["mean"], statistics["mean"], rtol=1e-9)
    np.testing.assert_allclose(kept["std"], statistics["std"], rtol=1e-9)
    standardised = (truth[:, :, continuous] - statistics["mean"]) / statistics["std"]
    np.testing.assert_allclose(series[:, :, continuous], standardised, rtol=1e-6, atol=1e-6)
    charted = series[:, :, -len(CHANNELS) :].any(axis=(0, 1))
    never = ("Capillary refill rate", "Glascow coma scale total") if release == "mimic4" else ()
    assert [channel.name for channel, seen in zip(CHANNELS, charted, strict=True) if not seen] == list(never)


def test_other_modalities(case):
    release, variant, raw, cohort, truth = case
    texts = pd.read_parquet(raw / "truth" / "texts.parquet")
    if release == "mimic3":
        by_row = dict(zip(texts["row_id"], texts["text"], strict=True))
        expected = [None if rows is None else SEPARATOR.join(by_row[row] for row in rows) for rows in truth[f"{variant}_notes"]]
        assert cohort.texts("note") == expected
        assert sum(text is not None for text in expected) > 50
    else:
        image, report = cohort.present[:, 1], cohort.present[:, 2]
        assert image.tolist() == truth["film"].notna().tolist() and image.sum() > 50
        for row in np.flatnonzero(image):
            (path,) = (raw / "mimic-cxr-jpg" / "files").rglob(f"{truth['film'][row]}.jpg")
            assert np.array_equal(cohort.array("image")[row], read_film(path, 32)), "the film of the truth, not another"
        assert report.tolist() == truth["report"].tolist()
        by_stay = dict(zip(texts["stay_id"], texts["text"], strict=True))
        assert cohort.texts("report") == [by_stay[stay] if there else None for stay, there in zip(truth["stay_id"], report, strict=True)]


def test_damaged_films_reports_and_notes_are_named(case):
    release, _, raw, cohort, truth = case
    known, counts = json.loads((raw / "truth" / "truth.json").read_text()), cohort.manifest["counts"]
    if release == "mimic3":
        assert counts["notes"]["damaged_row_ids"] and set(counts["notes"]["damaged_row_ids"]) <= set(known["unreadable_notes"])
    else:
        damaged = {path.rpartition("/")[2].removesuffix(".jpg"): reason for path, reason in counts["films"]["damaged"].items()}
        lost = truth["film"].isna() & truth["film_selected"].notna()
        assert set(damaged) == set(truth["film_selected"][lost]) and "missing" in damaged.values() and len(set(damaged.values())) > 1
        assert counts["reports"]["damaged"] and counts["reports"]["empty"]


def test_splits_of_the_benchmarks_lists(fabricated, tmp_path):
    raw = fabricated("mimic3")
    lists = raw / "splits" / "testset.csv", raw / "splits" / "valset.csv"
    cohort = load_cohort(prepare_mimic3(raw, tmp_path / "listed", modalities=["series"], split_lists=lists))
    truth = pd.read_parquet(raw / "truth" / "stays.parquet").set_index("stay_id").loc[cohort.stays["stay_id"]]
    assert cohort.stays["split"].tolist() == truth["split_lists"].tolist()
    listed = pd.concat([pd.read_csv(path, header=None)[0] for path in lists])
    unlisted = ~truth["subject_id"].isin(listed)
    assert cohort.manifest["counts"]["stays_whose_subject_no_list_names"] == unlisted.sum() > 0
    statistics = json.loads((raw / "truth" / "statistics_corrected.json").read_text())["lists"]
    np.testing.assert_allclose(cohort.manifest["normalisation"]["series"]["mean"], statistics["mean"], rtol=1e-9)


def test_a_third_of_each_split_keeps_its_notes(fabricated, tmp_path):
    raw = fabricated("mimic3")
    some, every = (
        load_cohort(prepare_mimic3(raw, tmp_path / str(on), variant="released", quirks={"notes_of_a_third": on})) for on in (True, False)
    )
    there = {cohort: cohort.present[:, 1] for cohort in (some, every)}
    assert not (there[some] & ~there[every]).any()
    for split in ("train", "valid", "test"):
        rows = (some.stays["split"] == split).to_numpy()
        assert there[some][rows].sum() == pytest.approx(there[every][rows].sum() / 3, rel=0.35)
