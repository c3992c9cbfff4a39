"""Fabricated raw copies: every value of their truth, which is computed without this preparation, comes out."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from cm2 import load_cohort
from cm2.book.checks import check
from cm2.cohorts.format import SEPARATOR, read_exact
from data_prep import prepare_mimic3, prepare_mimic4
from data_prep.channels import CHANNELS, continuous_columns
from data_prep.mimic.films import read_film
from data_prep.mimic.notes import drawn_third
from tests.data_prep.kinds import ONCE, kinds

STAYS = 600
"""As few as give every kind of dirt thrice, see ``test_every_kind_of_dirt_occurs_thrice``."""
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
"""The truth keeps the notes of every stay; see ``test_a_third_keeps_its_notes``."""

OPTIONS = {"mimic3": {}, "mimic4": {"image_size": 32}}


@pytest.fixture(scope="module", params=[(release, variant) for release in PREPARE for variant in VARIANTS], ids=" ".join)
def case(request, fabricated, tmp_path_factory):
    release, variant = request.param
    raw = fabricated(release, STAYS)
    out = tmp_path_factory.mktemp(variant) / release
    cohort = load_cohort(PREPARE[release](raw, out, variant=variant, quirks=LEFT_OUT, **OPTIONS[release]))
    truth = pd.read_parquet(raw / "truth" / "stays.parquet").sort_values("stay_id")
    return release, variant, raw, cohort, truth[truth[f"{variant}_survives"]].reset_index(drop=True)


@pytest.mark.parametrize("edition", [3, 4])
def test_every_kind_of_dirt_occurs_thrice(edition, fabricated):
    truth = json.loads((fabricated(f"mimic{edition}", STAYS) / "truth" / "truth.json").read_text())
    assert {kind: truth["dirt"].get(kind) for kind in kinds(edition) if truth["dirt"].get(kind, 0) < (1 if kind in ONCE else 3)} == {}
    for variant in VARIANTS:
        dropped = truth["dropped_events"][variant]
        assert min(dropped["null_after_cleaning"].values()) > 10 and min(dropped[why] for why in ASIDE) > 100
        left = [step["stays"] for step in truth["flow"][variant]]
        assert min(before - after for before, after in pairwise(left)) >= 3


def test_flow(case):
    _, variant, raw, cohort, _ = case
    truth = json.loads((raw / "truth" / "truth.json").read_text())
    exact = read_exact(cohort.path)
    steps = [{"step": step["step"], "stays": step["stays"]} for step in exact["flow"]]
    assert steps[:8] == truth["flow"][variant]
    assert all(step["dropped"] == before["stays"] - step["stays"] for before, step in pairwise(exact["flow"]))
    counts = exact["counts"]["events"]
    dropped = truth["dropped_events"][variant]
    assert sum(counts["rows_of_the_items"].values()) == dropped["events"]
    unread = {name: count for name, count in dropped["null_after_cleaning"].items() if count}
    given = [counts[key] for key in ("not_read_by_variable", "out_of_range_by_variable")]
    assert dict(sum((Counter(part) for part in given), Counter())) == unread
    assert bool(given[1]) == (variant == "corrected")
    for theirs, ours in ASIDE.items():
        assert counts["rows"][ours] - (sum(unread.values()) if ours == "kept" else 0) == dropped[theirs], theirs


def test_stays_labels_and_splits(case):
    _, variant, _, cohort, truth = case
    assert cohort.stays["stay_id"].tolist() == truth["stay_id"].tolist()
    assert cohort.stays["split"].tolist() == truth["split"].tolist()
    for task in ("in_hospital_mortality", "readmission"):  # phenotypes have a test of their own
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
        files, images = list((raw / "mimic-cxr-jpg" / "files").rglob("*.jpg")), cohort.array("image")
        path_of = {path.stem: path for path in files}
        assert len(path_of) == len(files)
        for row in np.flatnonzero(image):
            assert np.array_equal(images[row], read_film(path_of[truth["film"][row]], 32)), "the film of the truth, not another"
        assert report.tolist() == truth["report"].tolist()
        by_stay = dict(zip(texts["stay_id"], texts["text"], strict=True))
        assert cohort.texts("report") == [by_stay[stay] if there else None for stay, there in zip(truth["stay_id"], report, strict=True)]


def test_damaged_films_reports_and_notes_are_named(case):
    release, _, raw, cohort, truth = case
    known, exact = json.loads((raw / "truth" / "truth.json").read_text()), read_exact(cohort.path)
    counts, records = exact["counts"], exact["records"]
    if release == "mimic3":
        assert records["notes"] and set(records["notes"]) <= set(known["unreadable_notes"])
    else:
        damaged = {path.rpartition("/")[2].removesuffix(".jpg"): reason for path, reason in records["films"].items()}
        lost = truth["film"].isna() & truth["film_selected"].notna()
        assert set(damaged) == set(truth["film_selected"][lost]) and "missing" in damaged.values() and len(set(damaged.values())) > 1
        assert sum(counts["reports"]["damaged"].values()) == len(records["reports"]) > 0 and counts["reports"]["empty"]


def test_splits_of_the_benchmarks_lists(fabricated, tmp_path):
    raw = fabricated("mimic3", STAYS)
    lists = raw / "splits" / "testset.csv", raw / "splits" / "valset.csv"
    cohort = load_cohort(prepare_mimic3(raw, tmp_path / "listed", modalities=["series"], split_lists=lists))
    truth = pd.read_parquet(raw / "truth" / "stays.parquet").set_index("stay_id").loc[cohort.stays["stay_id"]]
    assert cohort.stays["split"].tolist() == truth["split_lists"].tolist()
    listed = pd.concat([pd.read_csv(path, header=None)[0] for path in lists])
    unlisted = ~truth["subject_id"].isin(listed)
    assert read_exact(cohort.path)["counts"]["stays_whose_subject_no_list_names"] == unlisted.sum() > 0
    statistics = json.loads((raw / "truth" / "statistics_corrected.json").read_text())["lists"]
    np.testing.assert_allclose(cohort.manifest["normalisation"]["series"]["mean"], statistics["mean"], rtol=1e-9)


def test_a_third_keeps_its_notes(fabricated, tmp_path):
    raw = fabricated("mimic3", STAYS)
    some, every = (
        load_cohort(prepare_mimic3(raw, tmp_path / str(on), variant="released", quirks={"notes_of_a_third": on})) for on in (True, False)
    )
    kept, all_noted = (cohort.present[:, 1] for cohort in (some, every))
    assert not (kept & ~all_noted).any()
    noted = all_noted.sum()
    check("the share of the stays with notes that keeps them", kept.sum() / noted, near=1 / 3, standard_error=np.sqrt(2 / 9 / noted))


def test_the_third_is_drawn_in_each_split_whatever_the_order_of_the_stays():
    split = np.array(["train"] * 301 + ["valid"] * 50 + ["test"] * 99)
    stays = pd.DataFrame({"subject_id": 10_000 + np.arange(450), "episode": 1 + np.arange(450) % 3, "split": split})
    drawn = drawn_third(stays)
    assert stays["split"][drawn].value_counts().to_dict() == {"train": 100, "valid": 17, "test": 33}
    order = np.random.default_rng(0).permutation(450)
    assert (drawn_third(stays.iloc[order].reset_index(drop=True)) == drawn[order]).all()
