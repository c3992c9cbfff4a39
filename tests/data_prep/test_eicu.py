"""eICU as the channels of MIMIC: a made-up copy against a plain restatement of the rules, and copies that are not whole."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pandas as pd
import pytest

from cm2 import load_cohort
from cm2.cohorts.format import read_exact
from cm2.tables.verification import verify_cohort
from data_prep import fabricate_eicu, prepare_eicu
from data_prep.channels import CHANNELS, feature_names
from data_prep.eicu import prepare as preparation
from data_prep.made_up import MARK

STAYS = 400
NAMES = [channel.name for channel in CHANNELS]
WIDE = {
    "vitalPeriodic": {
        "temperature": "Temperature",
        "sao2": "Oxygen saturation",
        "heartrate": "Heart Rate",
        "respiration": "Respiratory rate",
        "systemicsystolic": "Systolic blood pressure",
        "systemicdiastolic": "Diastolic blood pressure",
        "systemicmean": "Mean blood pressure",
    },
    "vitalAperiodic": {
        "noninvasivesystolic": "Systolic blood pressure",
        "noninvasivediastolic": "Diastolic blood pressure",
        "noninvasivemean": "Mean blood pressure",
    },
}
LAB = {
    "glucose": "Glucose",
    "bedside glucose": "Glucose",
    "pH": "pH",
    "FiO2": "Fraction inspired oxygen",
    "O2 Sat (%)": "Oxygen saturation",
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return fabricate_eicu(tmp_path_factory.mktemp("eicu") / "raw", stays=STAYS, seed=1)


@pytest.fixture(scope="module")
def cohort(raw, tmp_path_factory):
    return load_cohort(prepare_eicu(raw, tmp_path_factory.mktemp("eicu") / "cohort"))


def read(raw, table):
    return pd.read_csv(raw / f"{table}.csv.gz", dtype=str, keep_default_na=False)


def events(raw):
    """Every charted value: stay, minutes, channel, text and the name of its item."""
    for table, columns in WIDE.items():
        for row in read(raw, table).to_dict("records"):
            yield from (
                (row["patientunitstayid"], row["observationoffset"], channel, row[column], "") for column, channel in columns.items()
            )
    for row in read(raw, "lab").to_dict("records"):
        if row["labname"] in LAB:
            yield row["patientunitstayid"], row["labresultoffset"], LAB[row["labname"]], row["labresult"], ""
    for row in read(raw, "nurseCharting").to_dict("records"):
        name = row["nursingchartcelltypevalname"]
        score = {"Eyes": "eye opening", "Motor": "motor response", "Verbal": "verbal response", "GCS Total": "total", "Value": "total"}
        plain = {"Heart Rate": "Heart Rate", "Respiratory Rate": "Respiratory rate", "O2 Saturation": "Oxygen saturation"}
        channel = plain.get(name) or (f"Glascow coma scale {score[name]}" if name in score else None)
        if name.startswith("Temperature"):
            channel = "Temperature"
        if " BP " in name:
            channel = f"{name.rpartition(' ')[2]} blood pressure"
        if channel:
            yield row["patientunitstayid"], row["nursingchartoffset"], channel, row["nursingchartvalue"], name
    for row in read(raw, "patient").to_dict("records"):
        yield from ((row["patientunitstayid"], "0", name, row[f"admission{name.lower()}"], "") for name in ("Height", "Weight"))


def value_of(channel, text, item):
    """A number, or a position among the categories; None where nothing is read."""
    try:
        number = float(text)
    except ValueError:
        return None
    described = CHANNELS[NAMES.index(channel)]
    if described.categories:
        whole = f"{number:g}"
        own = [i for i, category in enumerate(described.categories) if (category.split()[0].removesuffix(".0") == whole)]
        if channel.endswith("verbal response") and whole == "1":
            own = [described.categories.index("1 No Response")]
        return own[0] if own else None
    if not math.isfinite(number):
        return None
    if channel == "Temperature" and (item.endswith("(F)") or number >= 79):
        number = (number - 32) * 5 / 9
    if channel == "Fraction inspired oxygen" and number > 1:
        number /= 100
    if channel == "Oxygen saturation" and number <= 1:
        number *= 100
    low, high = described.plausible
    return number if low <= number <= high else None


def in_cohort(raw):
    patients = read(raw, "patient")
    alone = ~patients["patienthealthsystemstayid"].duplicated(keep=False)
    age = pd.to_numeric(patients["age"].replace("> 89", "90"), errors="coerce")
    known = patients["hospitaldischargestatus"] != ""
    return patients[alone & (age >= 18) & known & (patients["unitdischargeoffset"].astype(int) >= 2880)].set_index("patientunitstayid")


def test_every_cell_against_a_restatement(raw, cohort):
    patients = in_cohort(raw)
    latest = {}
    for stay, minutes, channel, text, item in events(raw):
        hours = int(minutes) / 60
        value = value_of(channel, text.strip(), item)
        if stay in patients.index and 0 <= hours <= 48 and value is not None:
            key = (int(stay), channel, min(max(math.ceil(hours / 2) - 1, 0), 23))
            category = CHANNELS[NAMES.index(channel)].categories
            order = (int(minutes), category[value] if category else value)
            if key not in latest or order > latest[key][0]:
                latest[key] = order, value
    assert cohort.stays["stay_id"].tolist() == sorted(patients.index.astype(int))
    series, statistics = np.array(cohort.array("series"), dtype=np.float64), cohort.manifest["normalisation"]["series"]
    columns = [feature_names().index(name) for name in statistics["features"]]
    series[:, :, columns] = series[:, :, columns] * statistics["std"] + statistics["mean"]
    expected = np.zeros_like(series)
    for row, stay in enumerate(cohort.stays["stay_id"]):
        for code, channel in enumerate(CHANNELS):
            held = channel.normal
            for step in range(24):
                if (stay, channel.name, step) in latest:
                    held, expected[row, step, 59 + code] = latest[stay, channel.name, step][1], 1
                if channel.categories:
                    expected[row, step, feature_names().index(f"{channel.name}->{channel.categories[int(held)]}")] = 1
                else:
                    expected[row, step, feature_names().index(channel.name)] = held
    np.testing.assert_allclose(series, expected, rtol=1e-5, atol=1e-5)


def test_stays_labels_and_health(raw, cohort):
    patients = in_cohort(raw).loc[cohort.stays["stay_id"].astype(str)]
    died = (patients["hospitaldischargestatus"] == "Expired").to_numpy()
    assert cohort.stays["in_hospital_mortality"].tolist() == died.astype(int).tolist() and died.sum() > 0
    late = patients["hospitaldischargeoffset"].astype(int).to_numpy() > 7 * 24 * 60
    assert cohort.stays["long_stay"].tolist() == (late & ~died).astype(int).tolist()
    by_patient = cohort.stays.groupby(patients["uniquepid"].to_numpy())["split"].nunique()
    assert by_patient.max() == 1 and cohort.credentialed and set(cohort.stays["split"]) == {"train", "valid", "test"}
    channels = read_exact(cohort.path)["counts"]["channels"]
    assert {name for name, found in channels.items() if found["state"] != "fine"} == {"Capillary refill rate"}
    assert channels["Capillary refill rate"]["state"] == "no item" and channels["Height"]["out_of_range"] > 0
    assert channels["Heart Rate"]["before_entry"] > 0 and channels["Glascow coma scale total"]["not_a_category"] > 0
    found = verify_cohort(cohort.path)
    assert not found.problems and "Heart Rate" in found.health


def test_equal_arguments_give_equal_tables(raw, tmp_path):
    again = fabricate_eicu(tmp_path / "again", stays=STAYS, seed=1)
    assert all(read(raw, path.name.partition(".")[0]).equals(read(again, path.name.partition(".")[0])) for path in raw.glob("*.csv.gz"))
    with pytest.raises(ValueError, match="need at least 50 ICU stays"):
        fabricate_eicu(tmp_path / "few", stays=10)


def test_copies_that_are_not_whole(raw, tmp_path, monkeypatch):
    copy = shutil.copytree(raw, tmp_path / "raw", ignore=shutil.ignore_patterns(MARK))
    monkeypatch.setitem(preparation.ROWS, "patient", STAYS)
    with pytest.raises(ValueError, match=r"vitalPeriodic\.csv\.gz has [\d,]+ rows, and eICU v2\.0 has 146,671,642; copy it again"):
        prepare_eicu(copy, tmp_path / "out")
    manifest = load_cohort(prepare_eicu(copy, tmp_path / "out", allow_incomplete=True)).manifest
    assert len(manifest["counts"]["source"]["incomplete"]) == 3 and manifest["source"].startswith(
        "eICU Collaborative Research Database v2.0"
    )
    (copy / "lab.csv").write_bytes(b"labid\n")
    with pytest.raises(ValueError, match="table lab is there twice"):
        prepare_eicu(copy, tmp_path / "none")
    (copy / "lab.csv").unlink()
    (copy / "nurseCharting.csv.gz").unlink()
    with pytest.raises(ValueError, match="table nursecharting of eICU is missing"):
        prepare_eicu(copy, tmp_path / "none")
