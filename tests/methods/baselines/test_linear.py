"""The linear-Gaussian reference on stays whose distribution is linear and Gaussian, and against scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from cm2.batch import Batch, Modality
from cm2.book.checks import check
from cm2.evaluation.imputation import impute_scores, summarise
from cm2.evaluation.retrieval import standings
from cm2.methods.baselines.linear import Components
from cm2.methods.baselines.logistic import INVERSE_PENALTIES
from cm2.metrics import auroc
from tests.methods.baselines.cases import DESCRIPTORS, MIXED, NOTE, SERIES, BatchStays, build, changed, make_batch

TRAIN, HELD_OUT, DIM = 2000, 400, 6
VECTORS = tuple(Modality(name, "vector", (DIM,)) for name in ("a", "b", "c"))


def linear_gaussian(stays, seed, modalities=VECTORS):
    """Vectors of 4 common factors and noise, and an outcome whose log-odds are linear in the first vector."""
    law, drawn = np.random.default_rng(0), np.random.default_rng(seed)
    loadings = law.normal(size=(len(VECTORS), 4, DIM))
    factors = drawn.normal(size=(stays, 4))
    values = {m.name: factors @ loadings[i] + drawn.normal(size=(stays, DIM)) for i, m in enumerate(modalities)}
    logits = 0.5 * values["a"] @ law.normal(size=DIM) - 0.5
    label = drawn.random(stays) < 1 / (1 + np.exp(-logits))
    x = {name: torch.from_numpy(value).float() for name, value in values.items()}
    batch = Batch(x, torch.ones(stays, len(x), dtype=torch.bool), torch.from_numpy(label).float(), torch.arange(stays))
    return batch, logits


def without(batch, column):
    return replace(batch, present=batch.present & (torch.arange(batch.present.shape[1]) != column))


@pytest.fixture(scope="module")
def fitted():
    torch.manual_seed(0)
    method = build("linear", VECTORS)
    train, valid, test = (linear_gaussian(n, seed) for seed, n in enumerate((TRAIN, HELD_OUT, HELD_OUT), 1))
    (row,) = method.fit_stays(BatchStays(train[0], VECTORS), BatchStays(valid[0], VECTORS))
    return method.eval(), row, train, valid, test


def test_embeddings_of_the_training_stays_are_white(fitted):
    method, _, (train, _), *_ = fitted
    z, present = method.embed(without(train, 1))
    assert not z[:, 1].any() and not present[:, 1].any()
    for m in (0, 2):
        own = z[:, m].double()
        torch.testing.assert_close(own.mean(0), torch.zeros(DIM, dtype=torch.float64), rtol=0, atol=1e-5)
        torch.testing.assert_close(own.T @ own / TRAIN, torch.eye(DIM, dtype=torch.float64), rtol=0, atol=1e-4)


def test_components_are_scikit_learns():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 5)) @ np.diag([1.0, 2.0, 3.0, 4.0, 5.0]))
    x[:, 1] += x[:, 2]
    components = Components(5, 5)
    assert components.fit(x)
    standardised = ((x - x.mean(0)) / x.std(0, correction=0)).clamp(-5, 5)
    theirs = PCA(5, whiten=True).fit(standardised.numpy())
    expected = theirs.transform(standardised.numpy()) * np.sqrt(200 / 199)  # theirs divides by n - 1
    ours = components(x).numpy()
    np.testing.assert_allclose(ours * np.sign((ours * expected).sum(0)), expected, rtol=1e-6, atol=1e-9)


def test_columns_that_say_nothing_are_left_out():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(100, 7)))
    x[:, 1] = 3.0
    x[:, 2] = 1e-9 * x[:, 2]  # rounding errors of a constant
    x[:, 3] = x[:, 0] - 2 * x[:, 4]
    x[:, 5] = torch.inf
    x[::3, 6] = torch.nan
    components = Components(7, 7)
    assert components.fit(x)
    assert components.width == 3
    z = components(x)
    assert z.isfinite().all()
    torch.testing.assert_close(z.T @ z / 100, torch.eye(3, dtype=torch.float64))
    outlier = x[:1].clone()
    outlier[0, 0] = 1e6
    assert components(outlier).abs().max() < 20
    assert not Components(7, 7).fit(x[:1])


def test_it_finds_the_other_modalities_and_fills_them_in_as_well_as_a_regression(fitted):
    method, _, (train, _), _, (test, _) = fitted
    law, (z, present) = method.embedding_law()(validate_args=False), method.embed(test)
    own = method.embed(train)[0]
    for target in range(3):
        given = present & (torch.arange(3) != target)
        recall = standings(law, z, given, z[:, target], target)["dependence"].recall(10, 100)
        check("recall at 10 among 100", recall.mean(), above=0.5, standard_error=recall.std() / HELD_OUT**0.5)
        mean = law.conditional_mean(z, given).mean[:, target]
        x, y = (own[:, [m for m in range(3) if m != target]].flatten(1), own[:, target])
        best = z[:, [m for m in range(3) if m != target]].flatten(1) @ torch.linalg.lstsq(x, y).solution
        error = lambda forecast, truth=z[:, target]: (forecast - truth).square().mean(1).numpy()
        worse = error(mean) - error(best)
        # two canonical directions for each factor are few, and their correlations are shrunk: a regression has all of them
        check("error above that of a regression", worse.mean(), below=0.1, standard_error=worse.std() / HELD_OUT**0.5)
        scores = summarise(impute_scores(law, z, given, target, n_draws=8)["conditional"])
        assert scores["error"].estimate < 0.95


def test_the_outcome_is_predicted_as_well_as_by_the_truth(fitted):
    method, row, _, _, (test, logits) = fitted
    found, truth = method.logits(test)[:, 0].detach().numpy(), test.label.numpy()
    best = auroc(truth, 1 / (1 + np.exp(-logits)))
    assert auroc(truth, 1 / (1 + np.exp(-found))) > best - 0.02 > 0.75
    assert np.corrcoef(found, logits)[0, 1] > 0.97
    assert row["law_nats"] > 1 and row["law_distance"] < 1e-3 and row["effective_rank"] == pytest.approx(DIM, abs=0.01)


def test_a_missing_modality_is_forecast_before_it_is_weighed(fitted):
    """Without the vector that the outcome depends on, something is left of it in the others."""
    method, _, _, _, (test, logits) = fitted
    partly = method.logits(without(test, 0))[:, 0].numpy()
    others = np.corrcoef(partly, logits)[0, 1]
    assert 0.4 < others < np.corrcoef(method.logits(test)[:, 0].numpy(), logits)[0, 1]
    z, present = method.embed(without(test, 0))
    filled = method.embedding_law()().conditional_mean(z, present).mean.flatten(1).double()
    np.testing.assert_allclose(method.classifier(filled).squeeze(1).numpy(), partly, rtol=1e-5, atol=1e-6)


def test_validation_stays_choose_the_penalty(fitted):
    method, row, (train, _), (valid, _), _ = fitted
    own, other = (method.embed(batch)[0].flatten(1).double().numpy() for batch in (train, valid))
    found = {}
    for c in INVERSE_PENALTIES:
        model = LogisticRegression(C=c, max_iter=1000).fit(own, train.label.numpy())
        p = model.predict_proba(other)[:, 1]
        truth = valid.label.numpy()
        found[c] = auroc(truth, p.astype(np.float32)), -np.mean(truth * np.log(p) + (1 - truth) * np.log(1 - p))
    best = max(found, key=lambda c: (found[c][0], -found[c][1]))
    assert row["inverse_penalty"] == best and row["epoch"] == 0
    assert (row["valid_auroc"], row["valid_task"]) == pytest.approx(found[best], abs=1e-6)
    assert row["valid_auroc"] == auroc(valid.label.numpy(), method.predict(valid).numpy())


def test_the_width_is_that_of_the_poorest_modality_and_is_saved():
    batch = make_batch(MIXED[5], stays=62)
    batch.values["descriptors"][:, 1:3] = 2.0
    method = build("linear", MIXED[5])
    assert method.embed(batch)[0].shape == (62, 5, 5)
    method.fit_stays(BatchStays(batch, MIXED[5]), BatchStays(batch, MIXED[5]))
    assert method.embed(batch)[0].shape == (62, 5, 3)
    other = build("linear", MIXED[5], seed=4)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.predict(batch), method.predict(batch))
    assert other.joint.directions.shape == (5, 3, 3)


def test_one_modality_has_a_prediction_and_no_law():
    batch = make_batch((SERIES,), stays=40)
    method = build("linear", (SERIES,))
    (row,) = method.fit_stays(BatchStays(batch, (SERIES,)), BatchStays(batch, (SERIES,)))
    assert method.embedding_law() is None and method.why_no_law() == "has one modality, and a law joins several"
    assert row["valid_auroc"] > 0.5 and "law_nats" not in row
    assert method.predict(batch).shape == (40,)


def test_modalities_that_no_stay_has_together_are_independent():
    present = torch.eye(2, dtype=torch.bool).repeat(30, 1)
    batch = make_batch((SERIES, NOTE), stays=60, present=present)
    method = build("linear", (SERIES, NOTE))
    with pytest.warns(UserWarning, match="never observed with another modality"):
        method.fit_stays(BatchStays(batch, (SERIES, NOTE)), BatchStays(batch, (SERIES, NOTE)))
    filled = method.embedding_law()().conditional_mean(*method.embed(batch)).mean[~present]
    torch.testing.assert_close(filled, torch.zeros_like(filled), rtol=0, atol=1e-4)
    assert torch.equal(method.predict(changed(batch, batch.modalities, "absent")), method.predict(batch))


def test_what_cannot_be_fitted_is_refused():
    batch = make_batch((SERIES, DESCRIPTORS), stays=30)
    stays = lambda **fields: BatchStays(replace(batch, **fields), (SERIES, DESCRIPTORS))
    method = build("linear", (SERIES, DESCRIPTORS))
    with pytest.raises(ValueError, match=r"linear: the known outcomes of all 30 training stays are all 0; .* use other stays"):
        method.fit_stays(stays(label=torch.zeros(30)), stays())
    constant = batch.values | {"descriptors": torch.ones(30, 5)}
    with pytest.raises(ValueError, match="the columns of descriptors do not vary over its 20 training stays; leave the modality out"):
        method.fit_stays(stays(values=constant), stays())
