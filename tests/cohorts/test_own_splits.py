"""Splits and outcomes of one's own: by subject, stratified, independent of order and machine; types of task told by values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cm2.cohorts import from_frames, to_frames
from cm2.tasks import Binary, Multiclass, Multilabel, Regression, Survival

N = 200
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 2))


def test_a_subject_is_in_one_split_and_outcomes_are_spread_evenly(tmp_path):
    who = np.arange(N) // 2
    labels = pd.DataFrame({"died": (who % 5 == 0).astype(int), "who": who})
    cohort = from_frames({"a": X}, labels, groups="who", out=tmp_path / "c", credentialed=False)
    split = cohort.stays["split"].to_numpy()
    assert (split[::2] == split[1::2]).all()
    counted = labels.groupby(split)["died"].agg(["size", "mean"])
    assert counted["size"].to_dict() == {"train": 140, "valid": 30, "test": 30}
    assert counted["mean"].round(2).to_dict() == {"train": 0.2, "valid": 0.2, "test": 0.2}
    assert pd.read_parquet(cohort.path / "ids.parquet")["subject"].tolist() == [str(subject) for subject in who]


def test_splits_depend_on_seed_and_subjects_but_not_on_the_order(tmp_path):
    ids = [f"s{i}" for i in range(N)]
    labels = pd.Series(RNG.integers(0, 3, N), index=ids, name="grade")
    frame = pd.DataFrame(X, columns=["x", "y"], index=ids)
    first = from_frames({"a": frame}, labels, out=tmp_path / "a", credentialed=False)
    order = RNG.permutation(N)
    again = from_frames({"a": frame}, labels.iloc[order], out=tmp_path / "b", credentialed=False)
    other = from_frames({"a": frame}, labels, out=tmp_path / "c", credentialed=False, seed=1)
    split = lambda cohort: to_frames(cohort)["labels"]["split"].reindex(ids).tolist()
    assert split(first) == split(again) != split(other)
    assert set(first.stays["stay_id"]) == set(again.stays["stay_id"])
    assert from_frames({"a": frame}, labels, out=tmp_path / "d", credentialed=False).checksum == first.checksum


def test_even_a_rare_class_is_in_every_split(tmp_path):
    labels = np.array(["common"] * (N - 3) + ["rare"] * 3)
    cohort = from_frames({"a": X}, labels, out=tmp_path / "c", credentialed=False)
    assert sorted(cohort.stays["split"][N - 3 :]) == ["test", "train", "valid"]


def test_splits_may_be_given_under_other_names_and_shares(tmp_path):
    names = np.array(["train", "validation", "held_out", "train"] * 50)
    cohort = from_frames({"a": X}, np.arange(N) // 4 % 2, split=names, out=tmp_path / "c", credentialed=False)
    assert cohort.manifest["splits"] == {"train": 100, "valid": 50, "test": 50}
    halves = from_frames({"a": X}, np.arange(N) % 2, split=(0.5, 0.25, 0.25), out=tmp_path / "d", credentialed=False)
    assert halves.manifest["splits"] == {"train": 100, "valid": 50, "test": 50}


LOS = RNG.gamma(2, 3, N)


@pytest.mark.parametrize(
    ("labels", "tasks", "expected"),
    [
        (pd.DataFrame({"y": np.arange(N) % 2}), None, Binary("y", "y is 1")),
        (pd.DataFrame({"y": np.arange(N) % 2 == 1}), None, Binary("y", "y is 1")),
        (pd.DataFrame({"y": np.arange(N) % 3 + 1}), None, Multiclass("y", "class of y", ("1", "2", "3"))),
        (pd.DataFrame({"y": np.array(["c", "a", "b"])[np.arange(N) % 3]}), None, Multiclass("y", "class of y", ("a", "b", "c"))),
        (
            pd.DataFrame({"y": pd.Categorical.from_codes(np.arange(N) % 2, ["no", "a yes"])}),
            None,
            Multiclass("y", "class of y", ("no", "a yes")),
        ),
        (pd.DataFrame({"y": LOS}), None, Regression),
        (pd.DataFrame({"y": np.arange(N)}), None, Regression),
        (pd.DataFrame({"y": np.arange(N) % 3}), {"y": "regression"}, Regression),
        (pd.DataFrame({"p": np.arange(N) % 2, "q": np.arange(N) % 3 == 0}), {"y": ["p", "q"]}, Multilabel("y", "labels y", ("p", "q"))),
        (np.stack([np.arange(N) % 2, np.arange(N) % 3 == 0], axis=1), None, Multilabel("label", "labels label", ("1", "2"))),
        (pd.DataFrame({"y.time": LOS, "y.event": np.arange(N) % 2}), None, Survival),
        (pd.DataFrame({"days": LOS, "died": np.arange(N) % 2}), {"y": {"time": "days", "event": "died"}}, Survival),
    ],
)
def test_the_type_of_a_task_is_told_by_its_values_or_by_name(labels, tasks, expected, tmp_path):
    cohort = from_frames({"a": X}, labels, tasks=tasks, out=tmp_path / "c", credentialed=False)
    (name,) = cohort.tasks
    task = cohort.task(name)
    assert isinstance(task, expected) if isinstance(expected, type) else task == expected
    batch = cohort.split("train", name).batch(range(5))
    assert batch.label.shape == (5, *task.label_shape)


def test_labels_come_back_with_unknown_ones(tmp_path):
    frame = pd.DataFrame({"died": [0, 1, np.nan, -1] * 50, "los": np.where(np.arange(N) % 7 == 0, np.nan, LOS)})
    cohort = from_frames({"a": X}, frame, out=tmp_path / "c", credentialed=False)
    back = to_frames(cohort)["labels"]
    np.testing.assert_array_equal(back["died"], np.array([0, 1, np.nan, np.nan] * 50))
    np.testing.assert_array_equal(back["los"], frame["los"])


def test_three_views_of_a_number_from_arrays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    truth = RNG.normal(size=N)
    views = {name: truth[:, None] + RNG.normal(size=(N, 3)) for name in ("first", "second", "third")}
    views["third"][::2] = np.nan
    cohort = from_frames(views, truth, out="number", credentialed=False)
    assert cohort.task("label").type == "regression" and cohort.manifest["modalities"]["third"]["present"] == N // 2
    assert cohort.split("test", "label").batch(range(4)).label.dtype.is_floating_point


def test_a_subset_of_the_rows_finds_its_labels_by_the_index(tmp_path):
    labels = pd.Series(np.arange(N) % 2, name="sick")
    frame = pd.DataFrame({"x": np.arange(N)})
    cohort = from_frames({"all": frame, "even": frame[frame["x"] % 4 < 2].sample(frac=1, random_state=0)}, labels, out=tmp_path / "c")
    back = to_frames(cohort)["even"]["x"]
    np.testing.assert_allclose(back[cohort.present[:, 1]], np.flatnonzero(np.arange(N) % 4 < 2), atol=1e-3)
