"""What is wrong with one's own data is said in one line with row, column, value and remedy, and nothing is written."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cm2.cohorts import Images, Table, Texts, TimeSeries, from_frames
from cm2.errors import InputError
from cm2.tasks import Multiclass

N = 30
IDS = [f"p{i:02d}" for i in range(N)]
LABELS = pd.DataFrame({"sick": np.arange(N) // 6 % 2}, index=IDS)
GOOD = pd.DataFrame({"x": np.arange(N) / 7}, index=IDS)


def table(**changes) -> pd.DataFrame:
    return GOOD.assign(**changes)


def with_value(value, row: int = 4) -> pd.DataFrame:
    return table(x=[value if i == row else "7.5" if isinstance(value, str) else 7.5 for i in range(N)])


SPLIT = np.array(["train", "train", "train", "train", "valid", "test"] * 5)
CASES = {
    "an id twice": (
        lambda: ({"a": GOOD}, pd.concat([LABELS, LABELS[:1]])),
        {},
        r"labels, row 31 \(id p00\): the id of row 1 \(id p00\) occurs again",
    ),
    "an id twice in a table": (
        lambda: ({"a": Table(pd.concat([GOOD, GOOD[2:3]]))}, LABELS),
        {},
        r"a, row 31 \(id p02\): the id of row 3 .* again",
    ),
    "an id without a label": (
        lambda: ({"a": GOOD.rename(index={"p03": "q03"})}, LABELS),
        {},
        r"a, row 4 \(id q03\): its id is not among the labels; .*unmatched='drop'",
    ),
    "a missing id": (lambda: ({"a": GOOD}, LABELS.rename(index={"p03": None})), {}, "labels, row 4: the id is missing"),
    "an index that does not match": (
        lambda: ({"a": GOOD.reset_index(drop=True)}, LABELS),
        {},
        r"a: its index is 0, 1, 2, .*\(a\.index = labels\.index\)",
    ),
    "an index beside labels that have none": (
        lambda: ({"a": GOOD.reset_index(drop=True).sample(frac=1, random_state=0)}, LABELS["sick"].to_numpy()),
        {},
        r"a: it has an index of ids, while the labels have none; give the labels as a series with the same index",
    ),
    "other lengths": (lambda: ({"a": np.zeros((N - 1, 2))}, LABELS), {}, "a: 29 rows for 30 labels, and no ids"),
    "no such column of ids": (lambda: ({"a": GOOD}, LABELS), {"id": "patiend"}, "labels: no column 'patiend'"),
    "a stay without anything": (
        lambda: ({"a": GOOD.drop("p04")}, LABELS),
        {},
        r"labels, row 5 \(id p04\): the stay has none of a; .*unmatched='drop'",
    ),
    "a view that no training row has": (
        lambda: ({"a": GOOD, "b": GOOD[SPLIT != "train"]}, LABELS),
        {"split": SPLIT},
        "b: no training stay has it; leave it out",
    ),
    "a column that no training row has": (
        lambda: ({"a": table(y=np.where(SPLIT == "train", np.nan, 1.0))}, LABELS),
        {"split": SPLIT},
        "a, column y: no training stay has a value",
    ),
    "a split that leaks a subject": (
        lambda: ({"a": GOOD}, LABELS.assign(who=["s"] * 5 + IDS[5:])),
        {"split": SPLIT, "groups": "who", "tasks": {"sick": None}},
        r"labels, row 5 \(id p04\): its subject 's' is in valid, and in train in row 1 \(id p00\); put all rows of",
    ),
    "one class in a split": (
        lambda: ({"a": GOOD}, LABELS.assign(sick=np.where(SPLIT == "valid", 1, LABELS["sick"]))),
        {"split": SPLIT},
        "sick: the labels of the valid split are all 1; give more rows, other shares",
    ),
    "a class that training lacks": (
        lambda: ({"a": GOOD}, pd.DataFrame({"kind": np.where(SPLIT == "train", np.array(["u", "v"] * 15), "w")}, index=IDS)),
        {"split": SPLIT},
        "kind: the labels of the train split are none of the class w",
    ),
    "an empty split": (lambda: ({"a": GOOD}, LABELS), {"split": np.where(SPLIT == "test", "train", SPLIT)}, "split: no row is in test"),
    "an unknown split": (
        lambda: ({"a": GOOD}, LABELS.assign(part=np.where(SPLIT == "test", "tset", SPLIT))),
        {"split": "part"},
        r"labels, row 6 \(id p05\), column part: unknown split 'tset'; choose one of train, valid, test",
    ),
    "shares that are none": (lambda: ({"a": GOOD}, LABELS), {"split": (0.8, 0.3, 0.1)}, "split: .*with the sum 1"),
    "a label outside the range": (
        lambda: ({"a": GOOD}, LABELS.assign(sick=np.where(np.arange(N) == 6, 2, LABELS["sick"]))),
        {"tasks": {"sick": "binary"}},
        r"sick: labels are 0, 1 or -1 \(unknown\), got 2 for row 7 \(id p06\)",
    ),
    "a label that is no class": (
        lambda: ({"a": GOOD}, LABELS.assign(sick=["yes", "no", "perhaps"] * 10)),
        {"tasks": {"sick": Multiclass(classes=("yes", "no"))}},
        r"labels, row 3 \(id p02\), column sick: 'perhaps' is none of the classes; choose one of yes, no",
    ),
    "labels of -1 and 1": (
        lambda: ({"a": GOOD}, 2 * LABELS - 1),
        {},
        "column sick: labels -1 and 1, but -1 means unknown here; give 0 and 1",
    ),
    "an unknown type": (
        lambda: ({"a": GOOD}, LABELS),
        {"tasks": {"sick": "multiclas"}},
        "unknown type 'multiclas' of sick; .*did you mean 'multiclass'",
    ),
    "an unknown label": (lambda: ({"a": GOOD}, LABELS), {"tasks": {"sik": None}}, "labels: no column 'sik'.*did you mean 'sick'"),
    "texts as regression": (
        lambda: ({"a": GOOD}, LABELS.assign(sick="a")),
        {"tasks": {"sick": "regression"}},
        "'a' is no label of a regression task",
    ),
    "no number": (
        lambda: ({"a": with_value("n/a")}, LABELS),
        {},
        r"a, row 5 \(id p04\), column x: 'n/a' is no number, while other values are; correct it",
    ),
    "mixed units": (
        lambda: ({"a": table(x=["5.1 mmol/L", "92 mg/dL"] * 15)}, LABELS),
        {},
        r"column x: '5.1 mmol/L' has a unit, other values have another; convert all to one unit",
    ),
    "some units": (lambda: ({"a": with_value("98.6 °F")}, LABELS), {}, r"row 5 .*column x: '98.6 °F' has a unit, other values have none"),
    "a decimal comma": (lambda: ({"a": table(x="5,1")}, LABELS), {}, "column x: '5,1' has a decimal comma; read the file with decimal=','"),
    "a date to be read twice": (lambda: ({"a": table(x="03/04/2021")}, LABELS), {}, "'03/04/2021' is a date that can be read in two ways"),
    "no date": (lambda: ({"a": table(x=["2021-03-25"] * 29 + ["2021-13-45"])}, LABELS), {}, r"row 30 .*'2021-13-45' is no date"),
    "an infinite value": (lambda: ({"a": with_value(np.inf)}, LABELS), {}, r"a, row 5 \(id p04\), column x: inf is not finite"),
    "a text as category": (
        lambda: ({"a": pd.DataFrame({"x": [f"t{i}" for i in range(70)]})}, np.arange(70) % 2),
        {},
        "70 different texts, more than the 64 of a category",
    ),
    "complex numbers": (lambda: ({"a": np.ones((N, 1)) * 1j}, LABELS), {}, "a, column f1: complex numbers; give real"),
    "a list in a cell": (lambda: ({"a": with_value([1])}, LABELS), {}, r"row 5 .*column x: \[1\] is a list"),
    "a name that means a mask": (lambda: ({"a": GOOD.rename(columns={"x": "mask->x"})}, LABELS), {}, "'mask->x' has '->' in its name"),
    "a name with a formula": (lambda: ({"a": GOOD.rename(columns={"x": "=x"})}, LABELS), {}, "'=x'.*take for code"),
    "units of no column": (lambda: ({"a": Table(GOOD, units={"y": "kg"})}, LABELS), {}, "units are given for 'y'"),
    "series of other widths": (
        lambda: ({"a": [np.zeros((2, 2 + (i == 8))) for i in range(N)]}, LABELS),
        {},
        r"a, row 9 \(id p08\): 3 features, while those before have 2",
    ),
    "times that are too few": (
        lambda: ({"a": [(np.arange(2 - (i == 8)), np.zeros((2, 1))) for i in range(N)]}, LABELS),
        {},
        r"a, row 9 \(id p08\): times of shape \(1,\) for 2 steps",
    ),
    "a time that is missing": (
        lambda: (
            {"a": TimeSeries(GOOD.assign(time=[np.nan] + [1.0] * 29).rename_axis("id").reset_index())},
            LABELS.rename_axis("id").reset_index(),
        ),
        {"id": "id"},
        r"a, row 1 \(id p00\), column time: the time is missing or not finite",
    ),
    "a word among numbers of time": (
        lambda: (
            {"a": TimeSeries(GOOD.assign(time=["1"] * 7 + ["soon"] + ["2"] * 22).rename_axis("id").reset_index())},
            LABELS.rename_axis("id").reset_index(),
        ),
        {"id": "id"},
        r"a, row 8 \(id p07\), column time: 'soon' is no time",
    ),
    "a number among dates": (
        lambda: (
            {"a": TimeSeries(GOOD.assign(time=["2020-01-01"] * 3 + ["20.5"] + ["2020-01-02"] * 26).rename_axis("id").reset_index())},
            LABELS.rename_axis("id").reset_index(),
        ),
        {"id": "id"},
        r"a, row 4 \(id p03\), column time: '20\.5' is no time",
    ),
    "a long table without times": (
        lambda: ({"a": pd.concat([GOOD, GOOD])}, LABELS),
        {},
        "ids have several rows and there is no column 'time'",
    ),
    "texts that are none": (lambda: ({"a": Texts(["a"] * 29 + [3.5])}, LABELS), {}, r"a, row 30 \(id p29\): a float is no text"),
    "a form feed in a document": (lambda: ({"a": Texts([["a", "b\fc"]] * N)}, LABELS), {}, r"row 1 .*a document has a form feed"),
    "which column is the text": (lambda: ({"a": Texts(table(y="t"))}, LABELS), {}, r"which of the columns x, y is the text"),
    "images of several sizes": (
        lambda: ({"a": [np.zeros((32, 32 + (i == 3)), np.uint8) for i in range(N)]}, LABELS),
        {},
        r"a, row 4 \(id p03\): the image has 32 x 33 pixels.*Images\(\.\.\., size=",
    ),
    "images beyond white": (
        lambda: ({"a": Images(np.full((N, 32, 32), 16.0))}, LABELS),
        {},
        r"row 1 .*values outside 0 \(black\) to 1 \(white\)",
    ),
    "images too small": (
        lambda: ({"a": np.zeros((N, 28, 28), np.uint8)}, LABELS),
        {},
        "a: images of 28 x 28 pixels are read by no encoder",
    ),
    "images of four channels": (lambda: ({"a": np.zeros((N, 32, 32, 4), np.uint8)}, LABELS), {}, r"got uint8 \(32, 32, 4\)"),
    "no kind": (lambda: ({"a": np.zeros((N, 2, 2, 2, 2))}, LABELS), {}, r"no kind reads an array of shape .*Table\(\.\.\.\)"),
    "a file instead of data": (lambda: ({"a": "labs.csv"}, LABELS), {}, "expected data, got the text 'labs.csv'; read the file first"),
    "nothing": (lambda: ({}, LABELS), {}, "modalities: none is given"),
    "a modality called like a file": (lambda: ({"stays": GOOD}, LABELS), {}, "a modality is called 'stays'"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused(case, tmp_path):
    data, options, message = CASES[case]
    modalities, labels = data()
    with pytest.raises(InputError, match=message) as error:
        from_frames(modalities, labels, out=tmp_path / "c", credentialed=False, **options)
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []


SECRETS = (
    "an id twice",
    "an id without a label",
    "no number",
    "mixed units",
    "a split that leaks a subject",
    "a list in a cell",
    "no date",
)


@pytest.mark.parametrize("case", SECRETS)
def test_of_protected_data_no_error_shows_an_id_or_a_value(case, tmp_path):
    data, options, _ = CASES[case]
    modalities, labels = data()
    with pytest.raises(InputError, match="row") as error:
        from_frames(modalities, labels, out=tmp_path / "c", **options)
    for secret in ("p0", "q0", "n/a", "5.1", "'s'", "[1]"):
        assert secret not in str(error.value)


def test_data_are_protected_unless_it_is_denied(tmp_path):
    frame = pd.DataFrame({"x": np.arange(60.0), "ward": ["A"] * 30 + ["B"] * 26 + ["C"] * 4})
    labels = pd.Series(np.arange(60) % 2, name="sick")
    protected = from_frames({"a": frame}, labels, out=tmp_path / "p")
    assert protected.credentialed and "hidden" in repr(protected)
    assert protected.manifest["splits"]["valid"] is None
    assert protected.manifest["modalities"]["a"]["variables"]["ward"]["levels"] == ["A", "B", "(rare)"]  # no level of four stays by name
    shown = from_frames({"a": frame}, labels, out=tmp_path / "o", credentialed=False)
    assert not shown.credentialed and shown.manifest["splits"] == {"train": 42, "valid": 9, "test": 9}
    assert shown.manifest["modalities"]["a"]["variables"]["ward"]["levels"] == ["A", "B", "C"]


def test_statistics_of_few_protected_stays_are_refused(tmp_path):
    frame = pd.DataFrame({"x": np.arange(60.0), "y": [1.5] * 5 + [np.nan] * 55})
    with pytest.raises(InputError, match="a, column y: fewer than 10 training stays have a value; leave it out"):
        from_frames({"a": frame}, np.arange(60) // 2 % 2, out=tmp_path / "p", split=["train"] * 40 + ["valid", "test"] * 10)


def test_what_is_unmatched_is_dropped_and_counted_on_request(tmp_path):
    more = pd.concat([GOOD.drop("p04"), GOOD[:2].rename(index={"p00": "q0", "p01": "q1"})])
    cohort = from_frames({"a": more}, LABELS, out=tmp_path / "c", credentialed=False, unmatched="drop")
    assert len(cohort.stays) == N - 1 and cohort.manifest["counts"]["a"] == {"ids without a label": 2}
    assert [(step["stays"], step["dropped"]) for step in cohort.manifest["flow"]] == [(30, 0), (29, 1)]
