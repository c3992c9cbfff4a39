"""Every method with every type of task: shapes, gradients, unknown labels, learning; or the reason why not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from cm2.methods import METHODS
from cm2.methods.baselines import BASELINES
from cm2.methods.baselines.logistic import penalised
from tests.methods.baselines.cases import MIXED, BatchStays, config, learn, make_batch, predicted
from tests.tasks.cases import TASKS, labels

OTHERS = tuple(kind for kind in TASKS if kind != "binary")  # tests/methods/baselines/test_contract.py has that
MODALITIES = MIXED[3]
N = 42
METHOD_VARIANTS = [(name, variant) for name, method in BASELINES.items() for variant in method.variants] + [("cm2", "original")]
every = pytest.mark.parametrize(("name", "variant", "kind"), [(*pair, kind) for pair in METHOD_VARIANTS for kind in OTHERS])
RECIPES = {
    "heads": {"model.lambda_heads": 0.3, "model.start_at_prevalence": True, "model.impute": "none", "model.fusion": "hidden"},
    "profile": {
        "model.link": "vector",
        "model.law": "profile",
        "model.directions": 2,
        "model.components": 1,
        "model.impute": "conditional_mean",
    },
    "elbo": {"model.objective": "elbo"},
    "released": {"model.link": "released", "model.impute": "marginal", "model.fusion_reads": "present", "model.lambda_copula": 1e-6},
    "token": {"model.alignment": "cosine", "model.impute": "token"},
}


def batch_of(kind: str, n: int = N, unknown: int = 3):
    return replace(make_batch(MODALITIES, stays=n), label=torch.from_numpy(labels(kind, n, unknown=unknown)).float())


def build(name: str, kind: str, variant: str = "original", **overrides):
    torch.manual_seed(0)
    settings = {"baseline__trees": 5, "baseline__tree_stays": 2} | overrides
    return METHODS[name](config(name, variant, **settings), MODALITIES, TASKS[kind])


@every
def test_it_learns_or_says_why_not(name, variant, kind):
    if kind in METHODS[name].unable:
        with pytest.raises(ValueError, match=f"{name} has .*; choose another method for the {kind} task"):
            build(name, kind, variant)
        return
    task, method, batch = TASKS[kind], build(name, kind, variant), batch_of(kind)
    if not hasattr(method, "fit_stays"):
        method.loss(batch)["loss"].backward()
        without = {n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()}
        assert not {n for n in without if not n.startswith(tuple(method.unused_parameters))}
    before = float(method.eval().loss(batch)["task"])
    learn(method.train(), batch, MODALITIES, steps=8)
    terms = method.loss(batch)
    assert all(term.shape == () and term.isfinite() for term in terms.values()) and terms["task"] < before
    mean, variance = method.predictive(batch)
    assert mean.shape == variance.shape == (N, *((len(task.predicted),) if task.predicted else ()))
    assert task.plausible(mean.detach().numpy()).all() and (variance >= 0).all()
    assert torch.equal(predicted(method, batch), predicted(method, replace(batch, label=torch.full_like(batch.label, torch.nan))))
    assert method.loss(replace(batch, label=torch.full_like(batch.label, torch.nan)))["task"] == 0


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_of_cm2_learns(recipe, kind):
    overrides = {key.replace(".", "__"): value for key, value in RECIPES[recipe].items()}
    method, batch = build("cm2", kind, **overrides), batch_of(kind)
    method.initialise(batch)
    if recipe == "heads":
        torch.testing.assert_close(method.classifier.bias.detach(), TASKS[kind].start(batch.label))
    before = float(method.eval().loss(batch)["task"])
    learn(method.train(), batch, MODALITIES, steps=8)
    method.refit([batch])
    mean, variance = method.predictive(batch)
    assert TASKS[kind].plausible(mean.detach().numpy()).all() and (variance >= 0).all()
    assert method.loss(batch)["task"] < before


@pytest.mark.parametrize("kind", OTHERS)
def test_medfuse_pretrains_on_it(kind):
    method, batch = build("medfuse", kind, baseline__pretrain_epochs=1), batch_of(kind)
    assert method.pretraining().objective(batch)["loss"].isfinite()


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_a_penalised_likelihood_is_scikit_learns(kind):
    task, label = TASKS[kind], torch.from_numpy(labels(kind, 80, unknown=0))
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(80, 5)))
    found = penalised(task, x, label, 0.3)
    if kind == "multiclass":
        theirs = LogisticRegression(C=0.3, tol=1e-8, max_iter=1000).fit(x.numpy(), label.numpy())
        weight = theirs.coef_
    else:
        theirs = Ridge(alpha=1 / 0.3).fit(x.numpy(), ((label - task.mean) / task.scale).numpy())
        weight = theirs.coef_[None]
    np.testing.assert_allclose(found["weight"].numpy(), weight, atol=2e-3)


def test_trees_of_several_classes_are_scikit_learns():
    from sklearn.ensemble import HistGradientBoostingClassifier

    method, batch = build("boosted_trees", "multiclass"), batch_of("multiclass", unknown=0)
    method.fit_stays(BatchStays(batch, MODALITIES), BatchStays(batch, MODALITIES))
    columns = method.summaries(batch).numpy()
    settings = {"max_leaf_nodes": None, "max_depth": method.config.tree_depth, "min_samples_leaf": 2, "early_stopping": False}
    kept = int((method.value.view(3, 5, -1) != 0).any(2).any(0).sum())
    theirs = HistGradientBoostingClassifier(learning_rate=method.config.tree_learning_rate, max_iter=kept, random_state=0, **settings)
    expected = theirs.fit(columns, batch.label.numpy()).predict_proba(columns)
    np.testing.assert_allclose(method.predict(batch).numpy(), expected, atol=1e-5)


def test_binary_is_what_it_was():
    """A method built without a task has the weights of one that was built with it."""
    for name in ("cm2", "late_fusion", "single_modality", "boosted_trees"):
        given = build(name, "binary")
        torch.manual_seed(0)
        none = METHODS[name](config(name, baseline__trees=5, baseline__tree_stays=2), MODALITIES)
        assert given.state_dict().keys() == none.state_dict().keys()
        assert all(torch.equal(a, b) for a, b in zip(given.state_dict().values(), none.state_dict().values(), strict=True))
