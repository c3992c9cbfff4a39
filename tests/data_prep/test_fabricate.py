"""Fabricated MIMIC folders: official layouts, every flaw, and a truth that follows from the rows."""

from __future__ import annotations

import csv
import gzip
import json
from collections import defaultdict
from datetime import datetime
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from cm2.cohorts.missingness import stable_uniform
from data_prep.channels import CHANNELS, continuous_columns
from data_prep.fabricate import fabricate_mimic3, fabricate_mimic4
from data_prep.fabricate.facts import item_variables
from data_prep.fabricate.layouts import TABLES3, TABLES4
from data_prep.fabricate.truth.clean import clean
from data_prep.fabricate.truth.films import report_text, selected, study_times
from data_prep.fabricate.truth.notes import clean_note
from tests.data_prep.kinds import kinds

STAYS = 200
VARIANTS = ("released", "corrected")


@pytest.fixture(scope="module")
def mimic3(fabricated):
    return fabricated("mimic3", STAYS)


@pytest.fixture(scope="module")
def mimic4(fabricated):
    return fabricated("mimic4", STAYS)


@pytest.fixture(params=["mimic3", "mimic4"])
def raw(request):
    return request.getfixturevalue(request.param)


def path_of(folder, name):
    return folder / f"{name}.csv" if (folder / f"{name}.csv").exists() else folder / f"{name}.csv.gz"


def read(folder, name):
    data = path_of(folder, name).read_bytes()
    text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig", errors="surrogateescape")
    # an empty field is missing; io would turn the line ends of texts around
    return list(csv.DictReader(text.splitlines(keepends=True)))


def truth(folder):
    return json.loads((folder / "truth" / "truth.json").read_text())


def stays_of(folder):
    return pd.read_parquet(folder / "truth" / "stays.parquet").set_index("stay_id")


def time_of(text):
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S")


def test_layouts(mimic3, mimic4):
    for folder, layouts in ((mimic3, TABLES3), (mimic4, TABLES4)):
        for name, columns in layouts.items():
            rows = read(folder, name)
            assert rows and tuple(rows[0]) == columns, name
    assert list(read(mimic3, "CHARTEVENTS")[0])[:10] == [
        *("ROW_ID", "SUBJECT_ID", "HADM_ID", "ICUSTAY_ID", "ITEMID", "CHARTTIME", "STORETIME", "CGID", "VALUE", "VALUENUM"),
    ]
    assert list(read(mimic4, "icu/icustays")[0]) == [
        *("subject_id", "hadm_id", "stay_id", "first_careunit", "last_careunit", "intime", "outtime", "los"),
    ]
    assert sum(len(columns) for columns in TABLES3.values()) == 112 and len(TABLES4["mimic-cxr-jpg/mimic-cxr-2.0.0-chexpert"]) == 16


def test_counts_and_files(raw):
    icustays = read(raw, "ICUSTAYS" if raw.joinpath("ICUSTAYS.csv").exists() else "icu/icustays")
    assert len(icustays) == STAYS == len(stays_of(raw))
    listed = set(truth(raw)["files"])
    assert listed == {p.relative_to(raw).as_posix() for p in raw.rglob("*") if p.is_file() and p.parent.name != "truth"}
    assert {p.stat().st_mode & 0o777 for p in raw.rglob("*") if p.is_dir()} == {0o755}


def test_habits_of_the_files(mimic3, mimic4):
    for folder, marked, windows, plain in (
        (mimic3, "PATIENTS", "ADMISSIONS", "ICUSTAYS"),
        (mimic4, "hosp/patients", "hosp/admissions", "icu/icustays"),
    ):
        assert gzip.decompress(path_of(folder, marked).read_bytes())[:3] == b"\xef\xbb\xbf"
        data = gzip.decompress(path_of(folder, windows).read_bytes())
        assert data.count(b"\r\n") == data.count(b"\n") > STAYS / 2
        assert path_of(folder, plain).suffix == ".csv"


def test_every_kind_of_dirt(raw):
    dirt, edition = truth(raw)["dirt"], 3 if (raw / "PATIENTS.csv.gz").exists() else 4
    assert {kind for kind in kinds(edition) if not dirt.get(kind)} == set()


def test_every_step_drops_stays_and_every_check_drops_events(raw):
    found, stays = truth(raw), stays_of(raw)
    for variant in VARIANTS:
        left = [row["stays"] for row in found["flow"][variant]]
        assert len(left) == 8 and left[0] == STAYS and all(b < a for a, b in pairwise(left))
        assert left[-1] == stays[f"{variant}_survives"].sum() > STAYS / 2
        assert [(stays["last_step"] >= step).sum() for step in range(1, 9)] == left
        dropped = found["dropped_events"][variant]
        assert all(dropped[why] > 0 for why in ("null_value", "no_admission_id", "admission_not_in_cohort", "another_stay"))
        nulls = sum(dropped["null_after_cleaning"].values())
        assert len(dropped["null_after_cleaning"]) >= 15
        kept = dropped["values"] + nulls + sum(v for k, v in dropped.items() if k in ("null_value", "no_admission_id", "another_stay"))
        assert kept + dropped["admission_not_in_cohort"] == dropped["events"]


def test_series(raw):
    stays = stays_of(raw)
    for variant in VARIANTS:
        series = np.load(raw / "truth" / f"series_{variant}.npy")
        n = int(stays[f"{variant}_survives"].sum())
        assert series.shape == (n, 24, 76) and series.dtype == np.float64 and np.isfinite(series).all()
        masks, column = series[:, :, -17:], 0
        assert set(np.unique(masks)) == {0, 1} and masks.any(axis=(1, 2)).all()
        for c, channel in enumerate(CHANNELS):
            if channel.categories:
                one_hot = series[:, :, column : column + len(channel.categories)]
                assert (one_hot.sum(axis=2) == 1).all() and (one_hot.max(axis=2) == 1).all()
                never = masks[:, :, c].sum(axis=1) == 0
                assert (one_hot[never].argmax(axis=2) == channel.normal).all()
            column += max(1, len(channel.categories))
        statistics = json.loads((raw / "truth" / f"statistics_{variant}.json").read_text())
        for name, split in (("hash", "split"), ("lists", "split_lists")):
            fits = stays[stays[f"{variant}_survives"]].sort_index()[split].isin(["train"] + ["valid"] * (variant == "released")).to_numpy()
            flat = series[fits][:, :, continuous_columns()].reshape(-1, 12)
            np.testing.assert_allclose(statistics[name]["mean"], flat.mean(axis=0))
            np.testing.assert_allclose(statistics[name]["std"], flat.std(axis=0, ddof=1))
    released, corrected = (np.load(raw / "truth" / f"series_{variant}.npy") for variant in VARIANTS)
    changed = {
        CHANNELS[c].name for c in range(17) if (column := continuous_of(c)) is not None and (released != corrected)[:, :, column].any()
    }
    assert changed >= {"Fraction inspired oxygen", "Temperature", "Weight", "Height", "pH", "Heart Rate"}
    for c, channel in enumerate(CHANNELS):
        if channel.plausible:
            low, high = channel.plausible
            assert ((corrected[:, :, continuous_of(c)] >= low) & (corrected[:, :, continuous_of(c)] <= high)).all(), channel.name


def continuous_of(c):
    column = sum(max(1, len(channel.categories)) for channel in CHANNELS[:c])
    return None if CHANNELS[c].categories else column


def test_labels_and_splits(raw):
    stays = stays_of(raw)
    for variant in VARIANTS:
        left = stays[f"{variant}_survives"]
        for task in ("in_hospital_mortality", "readmission"):
            assert set(stays.loc[left, f"{variant}_{task}"]) == {0, 1} and (stays.loc[~left, f"{variant}_{task}"] == -1).all()
        assert (stays[f"{variant}_readmission"] >= stays[f"{variant}_in_hospital_mortality"]).all()
    for task in ("in_hospital_mortality", "readmission"):  # each variant has positives of its own
        difference = stays[f"released_{task}"] - stays[f"corrected_{task}"]
        assert difference.min() == -1 and difference.max() == 1
    assert set(stays["split"]) == set(stays["split_lists"]) == {"train", "valid", "test"}
    assert stays.groupby("subject_id")[["split", "split_lists"]].nunique().max().max() == 1
    edition, share = (3, 0.15) if (raw / "PATIENTS.csv.gz").exists() else (4, 0.2)
    test = stable_uniform(0, stays["subject_id"].to_numpy(), f"mimic{edition} test") < share
    assert ((stays["split"] == "test") == test).all()
    lists = {name: dict(csv.reader((raw / "splits" / f"{name}.csv").read_text().splitlines())) for name in ("testset", "valset")}
    assert set(lists["valset"]) == {subject for subject, flag in lists["testset"].items() if flag == "0"}
    nowhere = set(stays["subject_id"].astype(str)) - set(lists["testset"])
    assert truth(raw)["subjects_in_no_list"] == len(nowhere) > 0
    assert set(stays["split_lists"][stays["subject_id"].astype(str).isin(nowhere)]) == {"train"}


def test_matrices_follow_from_the_rows(mimic3):
    # the rules once more, one event after another
    stays = stays_of(mimic3)
    icu = {int(row["ICUSTAY_ID"]): row for row in read(mimic3, "ICUSTAYS")}
    adults = stays[stays["last_step"] >= 5]
    stay_of = {(int(row.subject_id), int(row.hadm_id)): int(stay) for stay, row in adults.iterrows()}
    of_subject, variables = defaultdict(list), item_variables()
    for stay in stays.index[stays["corrected_survives"]]:
        of_subject[int(stays.loc[stay, "subject_id"])].append(int(stay))
    latest: dict = {}
    for name in ("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS"):
        for row in read(mimic3, name):
            variable, subject = variables.get(int(row["ITEMID"])), int(row["SUBJECT_ID"])
            if variable is None or not row["VALUE"] or not row["HADM_ID"]:
                continue
            own = stay_of.get((subject, int(row["HADM_ID"])))
            if own is None or int(row.get("ICUSTAY_ID") or own) != own:
                continue
            value = clean(variable, int(row["ITEMID"]), row["VALUEUOM"], row["VALUE"], "corrected")
            if value is None:
                continue
            charted = time_of(row["CHARTTIME"])
            for stay in of_subject[subject]:
                inside, outside = time_of(icu[stay]["INTIME"]), time_of(icu[stay]["OUTTIME"])
                hours = (charted - inside).total_seconds() / 3600
                if stay == own and variable in ("Height", "Weight") and -24 <= hours < 0:
                    hours = 0.0  # as charted at entry, but earlier than what was
                if (stay == own or inside <= charted <= outside) and -1e-6 < hours < 48 + 1e-6:
                    key = (stay, variable, int(hours / 2 - 1e-6))
                    latest[key] = max(latest.get(key, (charted, value)), (charted, value))
    expected = np.zeros((int(stays["corrected_survives"].sum()), 24, 76))
    for i, stay in enumerate(sorted(stays.index[stays["corrected_survives"]])):
        column = 0
        for c, channel in enumerate(CHANNELS):
            held = channel.categories[int(channel.normal)] if channel.categories else channel.normal
            for step in range(24):
                if (stay, channel.name, step) in latest:
                    held, expected[i, step, 59 + c] = latest[stay, channel.name, step][1], 1
                if channel.categories:
                    expected[i, step, column + channel.categories.index(held)] = 1
                else:
                    expected[i, step, column] = held
            column += max(1, len(channel.categories))
    np.testing.assert_array_equal(np.load(mimic3 / "truth" / "series_corrected.npy"), expected)


@pytest.mark.parametrize(
    ("variable", "item", "unit", "value", "released", "corrected"),
    [
        ("Systolic blood pressure", 51, "mmHg", " 120/80 ", 120, 120),
        ("Diastolic blood pressure", 8368, None, "120/80", 80, 80),
        ("Systolic blood pressure", 51, None, "120/", None, None),
        ("Mean blood pressure", 52, None, "120/80", None, None),
        ("Capillary refill rate", 115, None, "Delayed", "1.0", "1.0"),
        ("Capillary refill rate", 115, None, "0", None, None),
        ("Fraction inspired oxygen", 3420, "%", "40", 0.4, 0.4),
        ("Fraction inspired oxygen", 189, None, "0.4", 0.004, 0.4),
        ("Fraction inspired oxygen", 189, None, "1.0", 0.01, 1),
        ("Fraction inspired oxygen", 189, "TORR", "50", 50, None),
        ("Glucose", 807, None, "98.", 98, 98),
        ("Glucose", 807, None, "+98", None, None),
        ("Glucose", 51478, "mg/dL", "100", 100, None),
        ("pH", 51491, "units", "7.0", 7, None),
        ("pH", 50831, "units", "7.0", 7, None),
        ("pH", 50820, "units", "8.01", 8.01, None),
        ("Oxygen saturation", 646, None, ".97", 97, 97),
        ("Oxygen saturation", 646, "%", "98%", None, None),
        ("Temperature", 678, "Deg. F", "98.6", 37, 37),
        ("Temperature", 678, None, "77", 77, 25),
        ("Temperature", 676, "°F", "77", 77, 25),
        ("Temperature", 676, "deg. f", "77", 77, None),
        ("Temperature", 676, "Deg. C", "79", 235 / 9, 235 / 9),
        ("Weight", 3582, None, "160", 4.53592, None),
        ("Weight", 3582, None, "1600", 45.3592, 45.3592),
        ("Weight", 763, "LBS", "100", 45.3592, 45.3592),
        ("Weight", 763, "kg", "10", 10, None),
        ("Weight", 763, "kg", "20", 20, 20),
        ("Height", 1394, None, "75", 190, 190),
        ("Height", 226707, None, "70", 70, None),
        ("Height", 226707, "Inch", "825070", 2095678, None),
        ("Height", 226707, "Inch", "70", 178, 178),
        ("Heart Rate", 211, None, "8.6e1", 86, 86),
        ("Heart Rate", 211, None, "nan", None, None),
        ("Heart Rate", 211, None, "1e400", None, None),
        ("Glascow coma scale total", 198, None, "015.0", "15", "15"),
        ("Glascow coma scale total", 198, None, "16", None, None),
        ("Glascow coma scale eye opening", 220739, None, "None", "None", "None"),
        ("Glascow coma scale eye opening", 220739, None, "NONE", None, None),
    ],
)
def test_cleaning(variable, item, unit, value, released, corrected):
    for variant, expected in (("released", released), ("corrected", corrected)):
        found = clean(variable, item, unit, value, variant)
        assert found == (pytest.approx(expected) if isinstance(expected, float) else expected)


def test_values_look_as_charted(raw):
    for name in ("CHARTEVENTS", "LABEVENTS") if (raw / "PATIENTS.csv.gz").exists() else ("icu/chartevents", "hosp/labevents"):
        values = [row.get("VALUE", row.get("value")) for row in read(raw, name)]
        assert max(map(len, values)) <= 30
        assert max(len(value) for value in values if value.replace(".", "").isdigit()) <= 6


def test_notes(mimic3):
    stays, texts = stays_of(mimic3), pd.read_parquet(mimic3 / "truth" / "texts.parquet").set_index("row_id")["text"]
    rows = {int(row["ROW_ID"]): row for row in read(mimic3, "NOTEEVENTS")}
    has = {variant: stays[f"{variant}_notes"].notna() for variant in VARIANTS}
    assert (has["released"] & ~has["corrected"]).any() and (has["corrected"] & ~has["released"]).any()
    for variant in VARIANTS:
        assert not (has[variant] & ~stays[f"{variant}_survives"]).any()
        for stay in stays.index[has[variant]]:
            ids = stays.loc[stay, f"{variant}_notes"].tolist()
            assert len(ids) == 5 and (texts[ids] != "").all()
            assert {int(rows[i]["HADM_ID"]) for i in ids} == {stays.loc[stay, "hadm_id"]}
            order = [(rows[i]["CHARTTIME"], i) for i in ids]
            assert order == sorted(order) and not (variant == "corrected" and any(rows[i]["ISERROR"] for i in ids))
    assert (texts == "").any() and not texts.str.contains(r"cutzq|\[\*\*|_|signed by|\n|  ").any()
    words = texts[texts != ""].str.findall(r"\bzq[a-z]+\b")
    assert words.str.len().min() == 1 and words.str[0].is_unique
    broken = [row for row in rows.values() if "\udcff" in row["TEXT"]]
    assert broken and truth(mimic3)["unreadable_notes"] == sorted(int(row["ROW_ID"]) for row in broken)
    assert truth(mimic3)["empty_notes"] == texts.index[texts == ""].tolist()
    assert not set(texts.index) & set(truth(mimic3)["unreadable_notes"])


def test_cleaning_of_notes():
    assert clean_note('[**2151-1-1**] Pt\nSAID "a,  b"__x\nElectronically Signed by Y, transcribed by z') == 'pt said "a, b" x'
    assert clean_note("[**First\nName**] ___ Dictated by: x") == ""


def test_films_and_reports(mimic4):
    stays, found = stays_of(mimic4), truth(mimic4)
    texts = pd.read_parquet(mimic4 / "truth" / "texts.parquet").set_index("stay_id")["text"]
    metadata = {row["dicom_id"]: row for row in read(mimic4, "mimic-cxr-jpg/mimic-cxr-2.0.0-metadata")}
    icu = {int(row["stay_id"]): row for row in read(mimic4, "icu/icustays")}
    chosen = stays["film_selected"].dropna()
    assert set(chosen) - set(stays["film"].dropna()) == set(found["unreadable_films"]) and len(found["unreadable_films"]) >= 2
    for stay, dicom in chosen.items():
        row = metadata[dicom]
        clock = row["StudyTime"].split(".")[0].zfill(6)
        hours = (datetime.strptime(row["StudyDate"] + clock, "%Y%m%d%H%M%S") - time_of(icu[stay]["intime"])).total_seconds() / 3600
        assert row["ViewPosition"] == "AP" and 0 <= hours <= 48
    assert set(stays.index[stays["report"]]) == set(texts.index) <= set(chosen.index) and len(texts) < len(chosen)
    assert texts.str.findall(r"\bzq[a-z]+\b").map(set).explode().is_unique
    assert not texts.str.contains("superseded|Earlier|caf").any()
    assert max(len(text.split("\f")) for text in texts) == 3
    studies = {row["study_id"] for row in metadata.values()}
    assert len(studies) == len(read(mimic4, "mimic-cxr-jpg/mimic-cxr-2.0.0-chexpert")) + 1
    assert len({row["ViewPosition"] for row in metadata.values()}) == 4


def test_times_of_films():
    times = study_times(pd.Series([21500102, 21500102, 21500102]), pd.Series(["83015.123", "5.00100000000002", "235959"]))
    assert times.astype(str).tolist() == ["2150-01-02 08:30:15.123", "2150-01-02 00:00:05.001", "2150-01-02 23:59:59.000"]
    films = pd.DataFrame({"dicom_id": list("abcd"), "subject_id": 1, "study_id": 2, "ViewPosition": ["AP", "AP", "AP", "PA"]})
    films = films.assign(StudyDate=[21500101, 21500103, 21500103, 21500102], StudyTime=["0", "0", "0.001", "0"])
    stay = pd.DataFrame({"stay_id": [7], "subject_id": [1], "intime": pd.to_datetime(["2150-01-01"])})
    assert selected(films, stay)["dicom_id"].tolist() == ["b"]


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (" FINAL REPORT\n FINDINGS:  a\n b\n \n IMPRESSION: c\n", "c\fa b"),
        (" X\n FINDING: a\n CONCLUSION: b\n COMPARISONS: d\n", "b\fa\fd"),
        (" X\n IMPRESSION: a\n FINDINGS: b\n IMPRESSION: c\n", "c\fb"),
        (" X\n COMPARISON: a\n TECHNIQUE: b\n \n c\n d\n", "c d\fa"),
        ("a\n \n b\nIMPRESSION: c", "b IMPRESSION: c"),
        ("", None),
        (" \n \n ", None),
    ],
)
def test_sections(report, text):
    assert report_text(report.encode()) == text


def test_reports_that_cannot_be_read():
    assert report_text(None) is None and report_text(b"\n IMPRESSION: \xff") is None


def test_equal_arguments_give_equal_files(tmp_path):
    for fabricate in (fabricate_mimic3, lambda out, **options: fabricate_mimic4(out, image_size=32, **options)):
        folders = [fabricate(tmp_path / f"{fabricate.__name__} {i}", stays=50, seed=seed) for i, seed in enumerate((3, 3, 4))]
        first, second, other = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in folders)
        assert first == second != other
        assert all(row["stays"] for row in truth(folders[0])["flow"]["released"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stays": 49}, "stays: got 49.*at least 50"),
        ({"stays": 30_001}, "stays: got 30001.*30000"),
        ({"seed": -1}, "seed: got -1; give 0"),
    ],
)
@pytest.mark.parametrize("fabricate", [fabricate_mimic3, fabricate_mimic4])
def test_arguments_outside_their_range(tmp_path, fabricate, options, message):
    with pytest.raises(ValueError, match=message):
        fabricate(tmp_path / "raw", **options)
    assert not list(tmp_path.iterdir())


def test_image_size_outside_its_range(tmp_path):
    with pytest.raises(ValueError, match=r"image_size: got 8.*32"):
        fabricate_mimic4(tmp_path / "raw", image_size=8)


@pytest.mark.parametrize("fabricate", [fabricate_mimic3, fabricate_mimic4])
def test_folders_that_are_not_empty(tmp_path, fabricate):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine").touch()
    with pytest.raises(ValueError, match="not an empty folder; remove it or choose another"):
        fabricate(tmp_path / "raw", stays=50)
    assert [p.name for p in tmp_path.rglob("*")] == ["raw", "mine"]


def test_an_empty_folder_is_taken(tmp_path):
    assert fabricate_mimic3(str(tmp_path), stays=50) == tmp_path and (tmp_path / "truth" / "truth.json").exists()
