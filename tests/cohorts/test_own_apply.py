"""Further rows laid out like a cohort: those of the cohort itself come back as they are stored."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from cm2.cohorts import Images, Layout, Table, TimeSeries, from_frames
from cm2.methods.saved import Inputs

N = 60


def data(seed=0):
    rng = np.random.default_rng(seed)
    ids = pd.Index([f"p{row}" for row in range(N)], name="id")
    labs = pd.DataFrame(
        {
            "sodium": rng.normal(140, 4, N),
            "ward": rng.choice(["east", "west"], N),
            "smoker": rng.random(N) < 0.5,
            "since": pd.Timestamp("2021-03-01") + pd.to_timedelta(rng.integers(0, 90, N), unit="D"),
        },
        index=ids,
    )
    labs.loc[rng.random(N) < 0.2, "sodium"] = np.nan
    stay = np.repeat(np.arange(N), rng.integers(1, 6, N))
    vitals = pd.DataFrame(
        {
            "id": [ids[row] for row in stay],
            "time": rng.random(len(stay)),
            "pulse": rng.normal(80, 9, len(stay)),
            "rhythm": rng.choice(["sinus", "paced"], len(stay)),
        }
    )
    vitals.loc[rng.random(len(stay)) < 0.3, "pulse"] = np.nan
    vitals = vitals[vitals["id"] != "p7"]
    film = {name: rng.integers(0, 255, (32, 33), dtype=np.uint8) for name in ids[:-1]}
    note = pd.Series([None if row == 3 else f"note {row}\fsecond" for row in range(N)], index=ids)
    return {"labs": labs, "vitals": vitals, "film": film, "note": note}, pd.Series(np.arange(N) % 2, index=ids, name="death")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    views, labels = data()
    return from_frames(views, labels, id="id", out=tmp_path_factory.mktemp("own") / "all", credentialed=False, split=(0.8, 0.2))


def test_two_shares_leave_no_test_stays(cohort):
    assert cohort.manifest["splits"] == {"train": 48, "valid": 12, "test": 0}
    with pytest.raises(ValueError, match="the test split of all has no stay"):
        cohort.split("test", "death")


def test_the_rows_of_the_cohort_come_back_as_they_are_stored(cohort):
    views, labels = data()
    values = Layout.of(cohort).values(views, ids=labels.index, id="id")
    for (name, value), present in zip(values.items(), cohort.present.T, strict=True):
        if name == "note":
            assert value == cohort.texts("note")
            continue
        assert np.isnan(value[~present]).all() and np.isfinite(value[present]).all()
        np.testing.assert_array_equal(value[present], cohort.array(name)[present])


def test_they_become_the_same_batch(cohort):
    views, labels = data()
    rows = np.flatnonzero((cohort.stays["split"] == "valid").to_numpy())
    features = {name: entry["features"] for name, entry in cohort.manifest["modalities"].items()}
    inputs = Inputs(cohort.modalities, features, cohort.manifest["normalisation"], cohort.text_tokenizer, cohort.max_length)
    some = {name: [value[row] for row in rows] for name, value in Layout.of(cohort).values(views, ids=labels.index, id="id").items()}
    batch, expected = inputs.batch(some, standardise=False), cohort.split("valid", "death").batch(range(len(rows)))
    assert torch.equal(batch.present, expected.present)
    for name, value in expected.values.items():
        for got, wanted in zip(*(v.values() if isinstance(v, dict) else [v] for v in (batch.values[name], value)), strict=True):
            torch.testing.assert_close(got, wanted)


def test_a_single_row_is_read_like_many(cohort):
    views, labels = data()
    layout = Layout.of(cohort)
    whole = layout.values(views, ids=labels.index, id="id")
    one = {
        "labs": views["labs"].loc[["p9"]],
        "vitals": views["vitals"][views["vitals"]["id"] == "p9"],
        "film": {"p9": views["film"]["p9"]},
        "note": views["note"].loc[["p9"]],
    }
    for name, value in layout.values(one, ids=["p9"], id="id").items():
        assert value[0] == whole[name][9] if name == "note" else np.array_equal(value[0], whole[name][9])


def test_categories_and_gaps_that_the_cohort_does_not_have(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"level": pd.Categorical(rng.integers(1, 4, N)), "rare": ["a", "b", "c"] * 18 + ["d"] * 6, "age": rng.normal(60, 9, N)}
    )
    made = from_frames({"t": Table(frame, rare=7)}, np.arange(N) % 2, out=tmp_path / "c", credentialed=False)
    layout = Layout.of(made)
    names = made.manifest["modalities"]["t"]["features"]
    with pytest.warns(UserWarning) as told:
        (row,) = layout.values({"t": pd.DataFrame({"level": [9.0], "rare": ["z"], "age": [None]})})["t"]
    assert dict(zip(names, row, strict=True)) == {name: float(name == "rare->(rare)") for name in names}
    assert [str(each.message) for each in told] == [
        "t, column level: rows have categories that no row of the cohort has; they count as none",
        "t, column rare: rows have categories that no row of the cohort has; they count as (rare)",
        "t, column age: a value is missing, which no training stay lacked; the mean of these, or the last value before, stands in",
    ]
    (row,) = layout.values({"t": pd.DataFrame({"level": [2.0], "rare": ["b"], "age": [60.0]})})["t"]
    assert {name for name, value in zip(names, row, strict=True) if value == 1} == {"level->2", "rare->b"}


def test_series_of_other_lengths(tmp_path):
    rng = np.random.default_rng(0)
    ragged = [rng.normal(size=(2 + row % 3, 2)) for row in range(N)]
    made = from_frames({"s": ragged}, np.arange(N) % 2, out=tmp_path / "ragged", credentialed=False)
    layout, longer = Layout.of(made), np.concatenate([ragged[0], ragged[2]])  # 2 + 4 steps, of which the last 4 count
    np.testing.assert_array_equal(layout.values({"s": [longer]})["s"], layout.values({"s": [ragged[2]]})["s"])
    equal = from_frames({"s": rng.normal(size=(N, 4, 2))}, np.arange(N) % 2, out=tmp_path / "equal", credentialed=False)
    with pytest.raises(ValueError, match=r"s, row 1: the series has 3 steps, all of the cohort have 4"):
        Layout.of(equal).values({"s": rng.normal(size=(1, 3, 2))})
    with pytest.raises(ValueError, match="times are given"):
        Layout.of(equal).values({"s": TimeSeries(rng.normal(size=(1, 4, 2)), times=np.arange(4))})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labs": lambda labs: labs.drop(columns=["ward", "since"])}, "labs: no column ward, since; it has sodium, smoker"),
        (
            {"labs": lambda labs: labs.assign(since=3)},
            "labs, column since: values are of the type number, the cohort's are of the type date",
        ),
        ({"labs": lambda labs: labs.assign(smoker=3)}, "labs, column smoker: values are of the type number"),
        (
            {"film": lambda film: {name: image[:3] for name, image in film.items()}},
            "film: images of 3 x 33 pixels, those of the cohort have 32 x 33",
        ),
        ({"note": lambda note: Images(note)}, "note: the cohort's is a text; declare it as before"),
        ({"labs": lambda labs: labs.rename(index={"p0": "p99"})}, "labs, row 1 .id p99.: its id is not among the labels"),
    ],
)
def test_errors(cohort, change, message):
    views, labels = data()
    views |= {name: changed(views[name]) for name, changed in change.items()}
    with pytest.raises(ValueError, match=message):
        Layout.of(cohort).values(views, ids=labels.index, id="id")


def test_rows_without_anything_and_modalities_that_nobody_knows(cohort):
    layout = Layout.of(cohort)
    with pytest.raises(ValueError, match="unknown modality 'lab'; the cohort has labs, vitals, film, note"):
        layout.values({"lab": np.zeros(3)})
    with pytest.raises(ValueError, match="rows, row 2: none of labs, vitals, film, note was measured"):
        layout.values({"note": ["text", None]})
    with pytest.raises(ValueError, match="expected the same number of rows"):
        layout.values({"note": ["text"], "film": [None, None]})
