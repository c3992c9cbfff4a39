"""Runs of every type of task: trained, stored, found again, evaluated, shown; and what is refused before any training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cm2 import Config, RunStore, evaluate, fit, load_cohort
from cm2.cohorts.disclosure import guard_metrics
from cm2.runs.recording import record_over_seeds
from cm2.tasks import Multilabel
from data_prep.writer import write_cohort
from tests.tasks.cases import TASKS, labels
from tests.tasks.cohort import N, prepared

OTHERS = tuple(kind for kind in TASKS if kind != "binary")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Every label is in a column of a modality, so that a method can find it."""
    given = prepared()
    vector = given.modalities["vector"]
    for at, kind in enumerate(("multiclass", "regression", "survival")):
        vector.data[:, at] = np.nan_to_num(labels(kind, N, unknown=12).reshape(N, -1)[:, 0])
    return load_cohort(write_cohort(tmp_path_factory.mktemp("cohorts") / "many", given))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return RunStore(tmp_path_factory.mktemp("runs"))


def config(kind: str, method: str = "late_fusion", **settings) -> Config:
    fields = {key.replace("__", "."): value for key, value in settings.items()}
    return Config.from_profile("smoke", {"method": method, "task": TASKS[kind].name, "train.epochs": 2} | fields)


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("method", ["cm2", "late_fusion", "logistic"])
def test_a_run_of_it_is_trained_stored_and_evaluated(method, kind, cohort, store):
    task, asked = TASKS[kind], config(kind, method)
    run = fit(asked, cohort, store, progress=False)
    assert run.task == task and fit(asked, cohort, store, progress=False).path == run.path and not run.damage()
    assert {f"valid_{name}" for name in task.metrics} <= set(run.history)
    test = run.metrics["test"]
    assert all(test[f"{name}_low"] <= test[name] <= test[f"{name}_high"] for name in task.metrics)
    frame = run.predictions[run.predictions["split"] == "test"]
    assert list(frame) == ["split", "stay_id", *task.label_columns, *task.prediction_columns, *task.variance_columns]
    label, predicted = task.of_frame(frame)
    assert task.summary(label, predicted) == test
    again = evaluate(run, cohort)
    assert again[task.criterion] == pytest.approx(test[task.criterion], abs=1e-6)
    assert evaluate(run, cohort, absent={"vector": 1.0})["n"] == test["n"]
    if method != "logistic":
        gains = [task.chooses.gain(value) for value in run.history[f"valid_{task.criterion}"]]
        assert run.metrics["valid"][task.criterion] == pytest.approx(task.chooses.gain(max(gains)), abs=1e-6)


def test_it_learns_what_can_be_learnt(cohort, store):
    """Of the labels that a column holds; the multinomial regression sees them through a straight line."""
    settings = {"modalities": ["vector", "series"]}
    run = fit(config("regression", "logistic", **settings), cohort, store, progress=False)
    assert run.metrics["test"]["r2"] > 0.3
    assert fit(config("survival", "logistic", **settings), cohort, store, progress=False).metrics["test"]["concordance"] > 0.7


def test_a_key_knows_the_settings_of_a_task_and_nothing_new_of_a_binary_one(cohort, store, tmp_path):
    other = prepared()
    tasks = dict(other.tasks) | {"relapse": replace(TASKS["survival"], edges=(3.0, 9.0))}
    other = load_cohort(write_cohort(tmp_path / "c", replace(other, tasks=tasks, modalities=dict(other.modalities))))
    same = load_cohort(write_cohort(tmp_path / "d", prepared()))
    assert other.checksum == same.checksum
    keys = [(store.key(config(kind), a), store.key(config(kind), b)) for kind in ("binary", "survival") for a, b in ((other, same),)]
    assert keys[0][0] == keys[0][1] and keys[1][0] != keys[1][1]
    run = fit(config("survival"), same, store, progress=False)
    with pytest.raises(ValueError, match="predicts a survival task, relapse of many tasks is another"):
        evaluate(run, other)


@pytest.mark.parametrize(
    ("kind", "column", "make", "said"),
    [
        (
            "multiclass",
            "ward",
            lambda s: s.where(s.index % 4 != 3, 1.0),
            "ward of the test stays are all ward; a method needs two",
        ),
        ("multiclass", "ward", lambda s: s.where((s.index % 4 > 1) | (s != 2), 0.0), "ward of the train stays are none of the class icu"),
        ("regression", "stay", lambda s: s.where(s.index % 4 != 2, 1.5), "outcomes stay of the valid stays do not differ"),
        ("survival", "relapse.event", lambda s: s.where((s.index % 4 > 1) | ~(s >= 0), 0.0), "relapse of the train stays have no event"),
    ],
)
def test_what_cannot_be_learnt_is_refused_before_training(kind, column, make, said, tmp_path, store):
    given = prepared((kind,))
    stays = given.stays.assign(**{column: make(given.stays[column])})
    cohort = load_cohort(write_cohort(tmp_path / "c", replace(given, stays=stays)))
    with pytest.raises(ValueError, match=said):
        fit(config(kind), cohort, store, progress=False)
    with pytest.raises(ValueError, match="boosted_trees has trees of scikit-learn" if kind == "survival" else said):
        fit(config(kind, "boosted_trees"), cohort, store, progress=False)


def test_metrics_of_small_groups_of_a_credentialed_cohort_are_hidden(tmp_path, store):
    stays = prepared().stays
    stays["findings.mass"] = (np.arange(N) % 4 == 3) & (np.arange(N) < 24)
    cohort = load_cohort(write_cohort(tmp_path / "c", prepared(stays=stays.astype({"findings.mass": int}), credentialed=True)))
    run = fit(config("multilabel"), cohort, store, progress=False)
    assert run.metrics["test"]["macro_auroc"] is None and "labels" in run.environment["predicts"]
    run = fit(config("regression"), cohort, store, progress=False)
    assert run.metrics["test"]["rmse"] == float(f"{run.metrics['test']['rmse']:.3g}")
    assert guard_metrics({"n": 50, "rmse": 1.23456}, smallest=50) == {"n": 50, "rmse": 1.23}
    assert guard_metrics({"n": 50, "rmse": 1.23456}, smallest=9) == {"n": 50, "rmse": None}


def test_twenty_five_phenotypes_are_trained(tmp_path, store):
    names = tuple(f"phenotype {k}" for k in range(25))
    task = Multilabel("phenotypes", "the 25 phenotypes of the benchmarks", labels=names)
    given = prepared(())
    rng = np.random.default_rng(0)
    values = (given.modalities["vector"].data[:, :1] + rng.normal(size=(N, 25)) > 1).astype(int)
    stays = given.stays.assign(**dict(zip((f"phenotypes.{name}" for name in names), values.T, strict=True)))
    cohort = load_cohort(write_cohort(tmp_path / "c", replace(given, stays=stays, tasks={"phenotypes": task})))
    asked = Config.from_profile("smoke", {"task": "phenotypes", "train.epochs": 1, "model.lambda_heads": 0.1})
    run = fit(asked, cohort, store, progress=False)
    assert len(run.task.labels) == 25 and 0 < run.metrics["test"]["macro_auroc"] < 1
    path = record_over_seeds([run, fit(replace(asked, seed=1), cohort, store, progress=False)], "phenotypes", tmp_path)
    assert "macro_auroc_mean" in path.read_text()
    assert isinstance(run.predictions, pd.DataFrame)
