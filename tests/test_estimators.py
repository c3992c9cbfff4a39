"""Estimators in scikit-learn's own loops, and rows that lack modalities."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from cm2 import CM2Classifier, CM2Regressor
from cm2.cohorts import Table, Texts
from cm2.config import Config
from cm2.estimators import GROUPS
from cm2.methods import METHODS

VIEWS = {"labs": ["sodium", "ward"], "signs": ["pulse", "since"], "note": "text"}
QUICK = {"profile": "smoke", "settings": {"train.epochs": 1}, "credentialed": False}


def table(n=120, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "sodium": rng.normal(140, 4, n),
            "ward": rng.choice(["east", "west"], n),
            "pulse": rng.normal(80, 9, n),
            "since": pd.Timestamp("2021-03-01") + pd.to_timedelta(rng.integers(0, 90, n), unit="D"),
            "text": rng.choice(["short of breath", "no complaint"], n),
        }
    )
    y = np.where(frame["sodium"] + rng.normal(0, 1, n) > 140, "high", "low")
    frame.loc[rng.random(n) < 0.3, ["sodium", "ward"]] = np.nan
    frame.loc[frame["sodium"].notna() & (rng.random(n) < 0.3), "text"] = None
    return frame, y


@pytest.fixture(scope="module")
def fitted():
    X, y = table()
    return CM2Classifier(VIEWS, **QUICK).fit(X, y)


@parametrize_with_checks([CM2Classifier(method="linear", profile="smoke", credentialed=False)])
def test_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("method", ["cm2", "late_fusion", "boosted_trees"])
def test_every_method_is_an_estimator_that_reads_rows_without_modalities(method):
    X, y = table()
    y = np.where(X["ward"] == "east", "middle", y)  # three classes
    estimator = CM2Classifier(VIEWS, method=method, **QUICK).fit(X, y)
    probability = estimator.predict_proba(X)
    assert probability.shape == (len(X), 3) and list(estimator.classes_) == ["high", "low", "middle"]
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert set(estimator.predict(X)) <= set(y) and 0 <= estimator.score(X, y) <= 1


def test_a_regressor_predicts_in_the_unit_of_its_labels():
    X, _ = table()
    y = 5000 + 40 * X["pulse"].to_numpy()
    estimator = CM2Regressor(VIEWS, method="linear", **QUICK).fit(X, y)
    assert estimator.score(X, y) > 0.4 and abs(estimator.predict(X).mean() - y.mean()) < 100


def test_scikit_learns_searches_and_pipelines_train_it():
    X, y = table()
    estimator = CM2Classifier(VIEWS, method="late_fusion", **QUICK)
    groups = np.arange(len(X)) // 2
    assert np.isfinite(cross_val_score(estimator, X, y, cv=GroupKFold(2), groups=groups, scoring="roc_auc")).all()
    search = GridSearchCV(estimator, {"train__epochs": [1, 2], "method": ["late_fusion"]}, cv=2).fit(X, y)
    assert len(search.best_estimator_.history_) == search.best_params_["train__epochs"]
    piped = make_pipeline(FunctionTransformer(lambda frame: frame.assign(pulse=frame["pulse"] / 60)), estimator)
    assert len(piped.fit(X, y).predict(X)) == len(X)


def test_settings_are_parameters():
    estimator = CM2Classifier(VIEWS, **QUICK)
    other = clone(estimator).set_params(model__link="scalar", encoder__series__hidden=8, method="medfuse")
    assert other.settings == {"train.epochs": 1, "model.link": "scalar", "encoder.series.hidden": 8} and other.method == "medfuse"
    assert other.get_params()["model__link"] == "scalar" and "model__link" not in other.get_params(deep=False)
    assert estimator.settings == QUICK["settings"]
    groups = {name for name in Config().to_dict() if isinstance(Config().to_dict()[name], dict)} - {"absent", "absent_test"}
    assert groups == set(GROUPS)
    with pytest.raises(ValueError, match=r"epoch.*did you mean 'epochs'"):
        clone(estimator).set_params(train__epoch=3)
    with pytest.raises(ValueError, match="Invalid parameter 'links'"):
        clone(estimator).set_params(links=3)
    with pytest.raises(ValueError, match="settings: seed is not among them; give it as random_state"):
        CM2Classifier(VIEWS, settings={"seed": 1}).fit(*table())


def test_it_reads_further_rows_with_the_statistics_of_its_own(fitted):
    X, _ = table(seed=1)
    whole = X[X[list(X)].notna().all(axis=1)]
    alone = np.concatenate([fitted.predict_proba(whole.iloc[[row]]) for row in range(8)])
    np.testing.assert_allclose(alone, fitted.predict_proba(whole)[:8], atol=1e-6)
    shuffled = whole[list(X)[::-1]].assign(of_no_use=1.0)
    np.testing.assert_allclose(fitted.predict_proba(shuffled), fitted.predict_proba(whole), atol=1e-6)


def test_what_is_random_is_its_own(fitted):
    X, y = table()
    torch.manual_seed(5)
    first = torch.rand(3)
    torch.manual_seed(5)
    again = clone(fitted).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert torch.equal(torch.rand(3), first)
    other = CM2Classifier(VIEWS, random_state=np.random.RandomState(3), **QUICK).fit(X, y)
    assert not np.array_equal(other.predict_proba(X), fitted.predict_proba(X))


def test_a_copy_in_a_file_predicts_the_same(fitted, tmp_path):
    X, _ = table(seed=2)
    joblib.dump(fitted, tmp_path / "model.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "model.joblib").predict_proba(X), fitted.predict_proba(X))


def test_arrays_mappings_and_declared_columns():
    X, y = table()
    numbers = X[["sodium", "pulse"]].fillna(140).to_numpy()
    by_place = CM2Classifier({"first": slice(0, 1), "second": [1]}, method="linear", **QUICK).fit(numbers, y)
    by_name = CM2Classifier(method="linear", **QUICK)
    by_name.fit({"first": numbers[:, :1], "second": numbers[:, 1:]}, y)
    np.testing.assert_allclose(
        by_place.predict_proba(numbers), by_name.predict_proba({"first": numbers[:, :1], "second": numbers[:, 1:]}), atol=1e-6
    )
    views = {"pulse": Table(["pulse"], standardise=False), "note": Texts("text", documents=1)}
    declared = CM2Classifier(views, method="linear", **QUICK).fit(X, y)
    assert len(declared.trained_.layout.entries["pulse"]["features"]) == 1
    assert declared.trained_.layout.normalisation.get("pulse", {}) == {}


def test_groups_are_not_spread_over_training_and_validation():
    X, y = table()
    with pytest.raises(ValueError, match=r"^y: (no row is in|the labels of the (train|valid) split).*another validation_fraction"):
        CM2Classifier(VIEWS, **QUICK).fit(X, y, groups=np.zeros(len(X)))


def test_errors(fitted):
    X, y = table()
    with pytest.raises(NotFittedError):
        CM2Classifier(VIEWS).predict(X)
    for frame, message in (
        (X.drop(columns=["ward"]), "X: no column ward for labs; it has pulse, since"),
        (X.assign(sodium="high"), "labs, column sodium: values are of the type category, the cohort's are of the type number"),
        (X.assign(sodium=np.nan, ward=None, pulse=np.nan, since=pd.NaT, text=None), "rows, row 1: none of labs, signs, note was measured"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted.predict(frame)
    lost = X.astype(object)
    lost.iloc[4] = None
    with pytest.raises(ValueError, match=r"^X, row 5: the stay has none of labs, signs, note; leave such rows out$"):
        clone(fitted).fit(lost, y)
    who = np.where(y == "high", "a", np.arange(len(y)).astype(str))
    with pytest.raises(ValueError, match=r"^y: the labels of the (train|valid) split are all of one class; give more rows, another val"):
        clone(fitted).fit(X, y, groups=who)
    with pytest.raises(ValueError, match="y: one class alone, 'high'"):
        clone(fitted).fit(X, np.full(len(X), "high"))
    with pytest.raises(ValueError, match="y, row 3: the label is missing"):
        clone(fitted).fit(X, [None if row == 2 else label for row, label in enumerate(y)])
    with pytest.raises(ValueError, match="cm2 joins modalities: expected 2 or more"):
        CM2Classifier(profile="smoke").fit(X[["sodium", "pulse"]].fillna(0), y)
    with pytest.raises(ValueError, match=r"modalities: labs is 3\.5; give a column, a list of columns, or a slice"):
        CM2Classifier({"labs": 3.5}).fit(X, y)
    with pytest.raises(ValueError, match="validation_fraction: expected a share between 0 and 1, got 1"):
        CM2Classifier(VIEWS, validation_fraction=1).fit(X, y)


SCRIPT = """
from typing import ClassVar
import numpy as np, pandas as pd
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn
from cm2 import CM2Classifier
from cm2.methods.baselines.base import Baseline
from cm2.networks.encoders import register_encoder

OUT = 8

@register_encoder("narrow")
class Narrow(nn.Module):
    def __init__(self, modality):
        super().__init__()
        self.out_features, self.layer = OUT, nn.Linear(modality.shape[0], OUT)

    def forward(self, x):
        return self.layer(x)

class FirstOfAll(Baseline):
    name: ClassVar[str] = "first_of_all"

    def __init__(self, config, modalities, task=None):
        super().__init__(config, modalities, task)
        self.layer = self.new_head(modalities[0].shape[0])

    def logits(self, batch):
        return self.layer(batch.values["one"]).float()

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(80, 3)), columns=list("abc"))
    y = np.where(X["a"] > 0, "yes", "no")
    estimator = CM2Classifier({"one": ["a", "b"], "two": ["c"]}, method="first_of_all", profile="smoke", credentialed=False)
    alone, together = (cross_val_score(estimator, X, y, cv=2, n_jobs=jobs, error_score="raise") for jobs in (1, 2))
    assert (alone == together).all(), (alone, together)
    estimator.set_params(method="late_fusion", encoder__one="narrow")
    found = GridSearchCV(estimator, {"train__epochs": [1, 2]}, cv=2, n_jobs=2, error_score="raise").fit(X, y)
    print(found.best_params_)
"""


def test_parts_of_a_script_reach_the_workers_of_scikit_learn(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "train__epochs" in done.stdout and "Warning" not in done.stderr, done.stderr


def test_a_copy_in_the_same_process_leaves_the_registry_as_it_is():
    class Copied(METHODS["late_fusion"]):
        name = "copied"

    try:
        before = METHODS.identity("copied")
        copied = copy.deepcopy(CM2Classifier(VIEWS, method="copied", **QUICK))
        assert copied.method == "copied" and not hasattr(copied, "_parts")
        Copied.further = 3
        assert before and METHODS.identity("copied") == METHODS.identity("copied")
    finally:
        del METHODS["copied"]
