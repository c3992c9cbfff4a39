"""Penalised logistic regression on summaries, and its mean with boosted trees."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from cm2.metrics import auroc
from tests.methods.baselines.cases import DESCRIPTORS, NOTE, SERIES, BatchStays, build, changed, make_batch
from tests.methods.baselines.test_linear import HELD_OUT, TRAIN, VECTORS, linear_gaussian, without


@pytest.fixture(scope="module")
def stays():
    return [linear_gaussian(n, seed) for seed, n in enumerate((TRAIN, HELD_OUT, HELD_OUT), 1)]


def fit(name, train, valid, modalities=VECTORS):
    method = build(name, modalities)
    history = method.fit_stays(BatchStays(train, modalities), BatchStays(valid, modalities))
    return method.eval(), history


def test_it_is_scikit_learns_on_standardised_columns(stays):
    (train, _), (valid, _), (test, _) = stays
    method, (row,) = fit("logistic", train, valid)
    x, new = (torch.cat([method.summaries(batch), batch.present], 1).double().numpy() for batch in (train, test))
    scale = np.where(x.std(0) > 1e-6, x.std(0), np.inf)
    clip = lambda a: np.clip((a - x.mean(0)) / scale, -5, 5)
    model = LogisticRegression(C=row["inverse_penalty"], max_iter=1000).fit(clip(x) - clip(x).mean(0), train.label.numpy())
    expected = model.decision_function(clip(new) - clip(x).mean(0))
    np.testing.assert_allclose(method.logits(test)[:, 0].numpy(), expected, atol=1e-3)


def test_it_nears_what_could_be_known(stays):
    (train, _), (valid, _), (test, truth) = stays
    method, _ = fit("logistic", train, valid)
    label = test.label.numpy()
    assert auroc(label, method.predict(test).numpy()) > auroc(label, 1 / (1 + np.exp(-truth))) - 0.02


def test_a_missing_modality_counts_as_its_means_and_is_marked(stays):
    (train, _), (valid, _), (test, _) = stays
    method, _ = fit("logistic", train, valid)
    lacking = without(test, 1)
    assert method.logits(lacking).isfinite().all()
    assert torch.equal(method.logits(changed(lacking, ["b"], "absent")), method.logits(lacking))
    assert not torch.allclose(method.logits(lacking), method.logits(test))


def test_absence_that_tells_something_is_used():
    generator = torch.Generator().manual_seed(0)
    present = torch.ones(400, 2, dtype=torch.bool)
    present[:, 1] = torch.rand(400, generator=generator) < 0.5
    batch = make_batch((SERIES, DESCRIPTORS), stays=400, present=present)
    batch = type(batch)(batch.values, batch.present, present[:, 1].float(), batch.stay_id)
    method, _ = fit("logistic", batch, batch, (SERIES, DESCRIPTORS))
    assert auroc(batch.label.numpy(), method.predict(batch).numpy()) > 0.99


def test_the_mean_is_that_of_both(stays):
    (train, _), (valid, _), (test, _) = stays
    both, (row,) = fit("trees_and_logistic", train, valid)
    each = [fit(name, train, valid)[0].logits(test) for name in ("boosted_trees", "logistic")]
    torch.testing.assert_close(both.logits(test), (each[0] + each[1]) / 2, rtol=1e-5, atol=1e-5)
    assert row["trees"] >= 1 and row["valid_auroc"] == pytest.approx(auroc(valid.label.numpy(), both.predict(valid).numpy()))


@pytest.mark.parametrize("name", ["logistic", "trees_and_logistic"])
def test_errors(name):
    batch = make_batch((SERIES, NOTE), stays=40)
    alike = type(batch)(batch.values, batch.present, torch.zeros(40), batch.stay_id)
    with pytest.raises(ValueError, match="outcomes of all 40 training stays are all 0"):
        fit(name, alike, batch, (SERIES, NOTE))


def test_columns_that_do_not_vary():
    batch = make_batch((DESCRIPTORS,), stays=20, present=torch.ones(20, 1, dtype=torch.bool))
    batch.values["descriptors"].fill_(1.0)
    with pytest.raises(ValueError, match="logistic: no column varies over the 20 training stays"):
        fit("logistic", batch, batch, (DESCRIPTORS,))
