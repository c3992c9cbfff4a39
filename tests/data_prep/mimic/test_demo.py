"""The open MIMIC-III demo: its flow chart, one stay checked by hand, every stay against a plain restatement of the rules."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from cm2 import load_cohort
from cm2.cohorts.format import read_exact
from data_prep import prepare_mimic3
from data_prep.channels import CHANNELS, feature_names
from data_prep.mimic.events import items

STAY = 258147
"""A CareVue stay of 8 days with 15 of the 17 channels charted."""

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def prepared(mimic3_demo, tmp_path_factory):
    return prepare_mimic3(mimic3_demo, tmp_path_factory.mktemp("demo") / "mimic3")


@pytest.fixture(scope="module")
def released(mimic3_demo, tmp_path_factory):
    return prepare_mimic3(mimic3_demo, tmp_path_factory.mktemp("demo") / "mimic3", variant="released", modalities=["series"])


@pytest.fixture(scope="module")
def values(prepared):
    return in_units(prepared)


def in_units(folder):
    """Series in their units, by stay."""
    cohort = load_cohort(folder)
    series = cohort.array("series").astype(np.float64)
    statistics = cohort.manifest["normalisation"]["series"]
    columns = [feature_names().index(name) for name in statistics["features"]]
    series[:, :, columns] = series[:, :, columns] * statistics["std"] + statistics["mean"]
    return dict(zip(cohort.stays["stay_id"], series, strict=True))


def column(values, name):
    return values[STAY][:, feature_names().index(name)]


def test_flow_step_by_step(prepared):
    manifest = read_exact(prepared)
    assert [(step["step"], step["stays"]) for step in manifest["flow"]] == [
        ("ICU stays", 136),
        ("one care unit", 126),
        ("known admission and patient", 126),
        ("only stay of its admission", 115),
        ("18 years or older", 114),
        ("listed diagnosis", 114),
        ("48 hours or longer", 57),
        ("an event in the first 48 hours", 57),
        ("with series and note", 0),
    ]
    assert manifest["counts"]["modalities_that_no_stay_has"] == ["note"], "the demo has no notes"
    rows = manifest["counts"]["events"]["rows"]
    assert sum(rows.values()) == sum(manifest["counts"]["events"]["rows_of_the_items"].values()) == 130_444
    assert manifest["counts"]["events"]["not_read_by_variable"] == {"Glucose": 171, "pH": 192}, "of urine; 165 are words"


def test_what_became_of_each_channel(prepared):
    manifest = read_exact(prepared)
    channels, events = manifest["counts"]["channels"], manifest["counts"]["events"]
    assert list(channels) == [channel.name for channel in CHANNELS]
    ends = ("not_a_number", "not_a_category", "of_another_fluid", "out_of_range", "before_entry", "after_48_hours", "used")
    assert all(found["charted"] == sum(found[end] for end in ends) for found in channels.values())
    assert sum(found["used"] for found in channels.values()) == events["events_used"]
    assert channels["pH"]["of_another_fluid"] == 33 and channels["Temperature"]["out_of_range"] == 0
    assert {found["state"] for found in channels.values()} == {"fine"}


def test_largest_as_text(mimic3_demo, released, tmp_path):
    """The program of the benchmarks itself gives 15 cells other than largest numbers do: 10 of respiratory rate, 5 of mean pressure."""
    options = {"variant": "released", "modalities": ["series"]}
    numbers = in_units(prepare_mimic3(mimic3_demo, tmp_path / "numbers", quirks={"largest_as_text": False}, **options))
    texts = in_units(released)
    differs = {stay: np.abs(numbers[stay] - texts[stay]) > 1e-3 for stay in numbers}
    by_feature = np.sum(list(differs.values()), axis=(0, 1))
    assert {name: count for name, count in zip(feature_names(), by_feature.tolist(), strict=True) if count} == {
        "Respiratory rate": 10,
        "Mean blood pressure": 5,
    }
    assert sum(cells.any() for cells in differs.values()) == 7
    cell = lambda matrices, stay, name, step: float(matrices[stay][step, feature_names().index(name)])
    assert [cell(m, 249805, "Respiratory rate", 14) for m in (texts, numbers)] == pytest.approx([2, 15], abs=1e-4)  # 15, 2, 14 charted
    assert [cell(m, 217992, "Mean blood pressure", 18) for m in (texts, numbers)] == pytest.approx([74, 110], abs=1e-4)


def test_one_stay_by_hand(values):
    """Read off the raw rows of the stay; entry 12:40:59, so that 13:45 is hour 1.07."""
    ph = [*[7.46] * 8, 7.45, 7.37, 7.49, 7.36, 7.36, 7.38, 7.41, 7.36, 7.36, 7.37, 7.32, 7.33, 7.33, 7.33, 7.37, 7.37]
    np.testing.assert_allclose(column(values, "pH"), ph, atol=1e-6)  # not the urine's 5.0 of step 1; 7.40 at hour 48.1 is too late
    charted = [1, 0, *[0] * 6, *[1] * 8, 0, 1, 1, 1, 0, 0, 1, 0]
    assert column(values, "mask->pH").tolist() == charted
    weight = [*[90.5] * 8, *[89.5] * 11, *[90.199996948242188] * 5]  # 90.5 kg was charted 41 minutes before entry
    np.testing.assert_allclose(column(values, "Weight"), weight, rtol=1e-6)
    assert column(values, "Height").tolist() == pytest.approx([170.0] * 24) and not column(values, "mask->Height").any()
    temperature = column(values, "Temperature")
    assert temperature[0] == pytest.approx(36.6) and temperature[1] == pytest.approx((95.599998474121094 - 32) * 5 / 9, rel=1e-6)
    intubated = column(values, "Glascow coma scale verbal response->1.0 ET/Trach")
    assert np.flatnonzero(intubated).tolist() == [11, 12, 13]  # charted at 23.65 and 27.32 h, oriented again at 29.32 h
    assert np.flatnonzero(column(values, "mask->Glascow coma scale verbal response")).tolist() == [
        0,
        1,
        3,
        5,
        8,
        11,
        13,
        14,
        15,
        17,
        19,
        21,
        23,
    ]


@pytest.mark.parametrize("variant", ["released", "corrected"])
def test_every_stay_against_a_restatement(variant, mimic3_demo, request):
    values = in_units(request.getfixturevalue({"released": "released", "corrected": "prepared"}[variant]))
    read = lambda table: pd.read_csv(mimic3_demo / f"{table}.csv.gz", dtype=str, keep_default_na=False, na_values=[""])
    stays = read("ICUSTAYS").astype({"icustay_id": int, "subject_id": int})
    cohort = stays[stays["icustay_id"].isin(list(values))].set_index("icustay_id")
    rows = pd.concat([read("CHARTEVENTS"), read("LABEVENTS")]).merge(items().astype({"itemid": str}), on="itemid")
    owner = stays.groupby("hadm_id")["icustay_id"].apply(list)
    rows = rows[rows["hadm_id"].isin(cohort["hadm_id"]) & rows["value"].notna()]
    rows["time"] = pd.to_datetime(rows["charttime"])
    checked = 0
    for stay, about in cohort.iterrows():
        assert stay in owner[about["hadm_id"]]
        own = rows[(rows["hadm_id"] == about["hadm_id"]) & (rows["icustay_id"].isna() | (rows["icustay_id"] == str(stay)))]
        hours = (own["time"] - pd.to_datetime(about["intime"])).dt.total_seconds() / 3600
        early = (variant == "corrected") & own["variable"].isin(["Height", "Weight"]) & (hours >= -24)
        expected = restated(own.assign(hours=hours)[((hours >= 0) | early) & (hours <= 48)], variant)
        np.testing.assert_allclose(values[stay], expected, rtol=1e-5, atol=1e-5, err_msg=str(stay))
        checked += 1
    assert checked == 57


def restated(rows: pd.DataFrame, variant: str) -> np.ndarray:
    """The preparation of one stay, one row after another."""
    latest: dict[tuple[int, int], tuple[tuple[float, object], object]] = {}
    for row in rows.itertuples():
        code = next(i for i, channel in enumerate(CHANNELS) if channel.name == row.variable)
        text = row.value.strip()
        value = restated_value(CHANNELS[code], text, row, variant)
        key = (code, min(max(int(row.hours / 2 - 1e-6), 0), 23))
        if value is None:
            continue
        as_text = variant == "released" and row.variable in ("Heart Rate", "Mean blood pressure", "Respiratory rate")
        order = (row.hours, text if as_text else value)
        if key not in latest or order > latest[key][0]:
            latest[key] = order, value
    blocks, masks = [], []
    for code, channel in enumerate(CHANNELS):
        current: object = channel.categories[int(channel.normal)] if channel.categories else channel.normal
        block = []
        for step in range(24):
            current = latest[code, step][1] if (code, step) in latest else current
            block.append([current == category for category in channel.categories] if channel.categories else [current])
        blocks.append(np.array(block, dtype=float))
        masks.append([(code, step) in latest for step in range(24)])
    return np.concatenate([*blocks, np.array(masks, dtype=float).T], axis=1)


def restated_value(channel, text, row, variant):
    if channel.name == "Capillary refill rate":
        return {"Normal <3 secs": "0.0", "Brisk": "0.0", "Abnormal >3 secs": "1.0", "Delayed": "1.0"}.get(text)
    if channel.categories:
        return text if text in channel.categories else None
    value = restated_number(channel, text, row, variant)
    if variant == "corrected" and value is not None:
        low, high = channel.plausible
        return value if low <= value <= high and not row.fluid else None
    return value


def restated_number(channel, text, row, variant):
    unit = "" if pd.isna(row.valueuom) else row.valueuom
    try:
        number = float(text)
    except ValueError:
        return None
    if channel.name in ("Glucose", "pH", "Oxygen saturation") and not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
        return None
    if channel.name == "Oxygen saturation" and number <= 1:
        return number * 100
    if channel.name == "Fraction inspired oxygen" and "torr" not in unit and (number > 1 or variant == "released"):
        return number / 100
    if channel.name == "Temperature" and (number >= 79 or (variant == "corrected" and "F" in unit)):
        return (number - 32) * 5 / 9
    if channel.name == "Weight" and row.itemid == "226531":
        return number * 0.453592
    if channel.name == "Height" and unit == "Inch":
        return float(np.round(number * 2.54))
    return number
