"""Metrics against scikit-learn, replicate by replicate; intervals against theory; errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from cm2 import metrics
from cm2.book.checks import FALSE_ALARM, check
from cm2.metrics import aupr, auroc, bootstrap, brier, holm, paired_bootstrap, paired_bootstraps, summary

ORACLE = {"auroc": roc_auc_score, "aupr": average_precision_score, "brier": brier_score_loss}


def cohort(n: int, seed: int = 0, digits: int | None = None, prevalence: float = 0.2, shift: float = 1.0):
    """Labels and probabilities; ``digits`` rounds, which makes ties within and between the classes."""
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < prevalence).astype(int)
    probability = stats.norm.cdf(rng.normal(shift * label - 1))
    return label, probability if digits is None else probability.round(digits)


@pytest.mark.parametrize("digits", [None, 2, 1, 0])
@pytest.mark.parametrize("name", ORACLE)
def test_every_replicate_is_scikit_learns(name, digits):
    label, probability = cohort(150, digits=digits)
    counts = metrics._counts(np.random.default_rng(1), 40, label.size)
    ours = metrics.WEIGHTED[name](label, probability)(counts)
    for value, weight in zip(ours, counts, strict=True):
        rows = np.repeat(np.arange(label.size), weight)
        assert value == pytest.approx(ORACLE[name](label[rows], probability[rows]), abs=1e-12)


@pytest.mark.parametrize("name", ORACLE)
def test_point_estimates(name):
    label, probability = cohort(200, digits=2)
    expected = ORACLE[name](label, probability)
    function = {"auroc": auroc, "aupr": aupr, "brier": brier}[name]
    assert function(label, probability) == pytest.approx(expected, abs=1e-12)
    assert function(torch.tensor(label), torch.tensor(probability)) == pytest.approx(expected, abs=1e-12)
    assert bootstrap(label, probability, metric=function, replicates=10) == bootstrap(label, probability, metric=name, replicates=10)


def test_counts_are_resamples():
    counts = metrics._counts(np.random.default_rng(0), 2000, 30)
    assert (counts.sum(axis=1) == 30).all()
    # nearly Poisson with mean 1: the squared deviation has the variance 3
    check("the variance of a count", counts.var(), near=1 - 1 / 30, standard_error=(3 / counts.size) ** 0.5)


def test_interval_of_the_brier_score_has_the_width_of_theory():
    n, replicates = 1000, 16_000
    label, probability = cohort(n)
    squares = (probability - label) ** 2
    found = bootstrap(label, probability, "brier", replicates=replicates)
    spread = squares.std() / n**0.5
    # a quantile of replicates has its own error; and the normal law is the limit of many stays
    error = spread * (0.025 * 0.975 / replicates) ** 0.5 / stats.norm.pdf(1.96)
    for end, side in ((found.low, -1), (found.high, 1)):
        check("an end of the interval", end, near=squares.mean() + side * 1.96 * spread, standard_error=error, within=0.02 * spread)


def test_interval_of_the_auroc_covers_the_truth():
    truth = stats.norm.cdf(1 / 2**0.5)
    samples = 500
    intervals = [bootstrap(*cohort(300, seed), replicates=300) for seed in range(samples)]
    covered = np.mean([i.low <= truth <= i.high for i in intervals])
    # the percentile interval of 60 positives covers a little less than it says
    check("coverage", covered, near=0.95, standard_error=(0.95 * 0.05 / samples) ** 0.5, within=0.01)


def test_level_and_seed():
    data = cohort(300)
    wide, narrow = bootstrap(*data, level=0.99), bootstrap(*data, level=0.5)
    assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high
    assert bootstrap(*data, seed=3) == bootstrap(*data, seed=3) != bootstrap(*data, seed=4)


def test_blocks_do_not_change_the_resamples(monkeypatch):
    data = cohort(50)
    whole = bootstrap(*data, replicates=100)
    monkeypatch.setattr(metrics, "BLOCK", 700)
    assert bootstrap(*data, replicates=100) == whole


def test_resamples_without_a_class_are_drawn_again():
    label = np.array([1, 0, 0, 0])
    probability = np.array([0.9, 0.1, 0.2, 0.95])
    found = bootstrap(label, probability, replicates=2000)
    drawn, share = 2000 + found.redrawn, 0.75**4 + 0.25**4
    check("the share drawn again", found.redrawn / drawn, near=share, standard_error=(share * (1 - share) / drawn) ** 0.5)
    assert 0 <= found.low <= found.estimate <= found.high <= 1


def test_paired_difference_uses_the_same_resamples():
    label, a = cohort(300)
    same = paired_bootstrap(label, a, a)
    assert (same.estimate, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    monotone = paired_bootstrap(label, a, a**3)
    assert (monotone.low, monotone.high, monotone.p_value) == (0, 0, 1)


def test_paired_difference_is_antisymmetric():
    label, a = cohort(300)
    b = np.random.default_rng(5).permutation(a)
    ab, ba = paired_bootstrap(label, a, b), paired_bootstrap(label, b, a)
    assert ab.estimate == pytest.approx(-ba.estimate)
    assert (ab.low, ab.high) == pytest.approx((-ba.high, -ba.low))
    assert ab.p_value == ba.p_value == pytest.approx(2 / 1001)


def test_p_value_agrees_with_the_interval_and_is_level_under_the_null():
    below = 0
    for seed in range(100):
        label, a = cohort(200, seed)
        noise = np.random.default_rng(1000 + seed).normal(size=(2, 200))
        a, b = (stats.norm.cdf(label + e) for e in noise)
        found = paired_bootstrap(label, a, b, replicates=399)
        below += found.p_value < 0.05
        if found.p_value > 0.06:
            assert found.low <= 0 <= found.high
        if found.p_value < 0.04:
            assert not found.low <= 0 <= found.high
    check("p-values below 0.05 under the null", stats.binomtest(below, 100, 0.05, "greater").pvalue, above=FALSE_ALARM)


@pytest.mark.parametrize("name", ["aupr", "brier"])
def test_paired_difference_of_other_metrics(name):
    label, a = cohort(300)
    found = paired_bootstrap(label, a, np.full_like(a, 0.5), name)
    assert found.low < found.estimate < found.high


def test_differences_of_several_predictions_are_those_of_each():
    label, a = cohort(300, digits=2)
    rng = np.random.default_rng(1)
    b, c = (np.clip(a + rng.normal(0, s, 300), 0, 1) for s in (0.1, 0.3))
    found = paired_bootstraps(label, {"b": b, "c": c}, a, ("auroc", "brier"), replicates=200)
    assert list(found) == [("b", "auroc"), ("b", "brier"), ("c", "auroc"), ("c", "brier")]
    for (name, metric), difference in found.items():
        assert difference == paired_bootstrap(label, {"b": b, "c": c}[name], a, metric, replicates=200)


def test_difference_over_seeds_is_the_mean_of_the_differences():
    label, a = cohort(400)
    rng = np.random.default_rng(2)
    seeds = [np.clip(a + rng.normal(0, 0.2, 400), 0, 1) for _ in range(3)]
    found = paired_bootstrap(label, np.stack(seeds), np.stack([a, a, a]))
    each = [paired_bootstrap(label, p, a) for p in seeds]
    assert found.estimate == pytest.approx(np.mean([d.estimate for d in each]))
    assert found.high - found.low < max(d.high - d.low for d in each)
    assert paired_bootstrap(label, np.stack(seeds), a).estimate == pytest.approx(found.estimate)


def test_holm_is_stepwise():
    # Holm (1979): 0.01*4, 0.02*3, max(0.03*2, 0.06), 0.04*1 -> the running maximum
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"got 1\.5"):
        holm([0.1, 1.5])


def test_summary_is_what_the_run_store_keeps():
    label, probability = cohort(4000)
    found = summary(label, probability)
    assert list(found) == ["auroc", "auroc_low", "auroc_high", "aupr", "aupr_low", "aupr_high", "brier", "n", "positives"]
    assert found["n"] == 4000 and found["positives"] == label.sum()
    for name in ("auroc", "aupr"):
        interval = bootstrap(label, probability, name)
        assert (found[name], found[f"{name}_low"], found[f"{name}_high"]) == (interval.estimate, interval.low, interval.high)
    assert found["brier"] == brier(label, probability)


@pytest.mark.parametrize(
    ("label", "probability", "message"),
    [
        ([0, 1], [0.1, 0.2, 0.3], r"expected the same shape \(n,\), got \(2,\) and \(3,\)"),
        ([], [], r"got \(0,\)"),
        ([[0, 1]], [[0.1, 0.2]], r"got \(1, 2\)"),
        ([0, 2], [0.1, 0.2], "expected 0 or 1, got 2"),
        ([0, np.nan], [0.1, 0.2], "expected 0 or 1, got nan"),
        ([0, 1], [0.1, 1.2], "got 1.2; hand in probabilities, not logits"),
        ([0, 1], [0.1, np.nan], "got nan; hand in probabilities"),
        ([0, 0], [0.1, 0.2], "all 2 are 0, the metric needs both classes"),
        ([1, 1], [0.1, 0.2], "all 2 are 1"),
    ],
)
@pytest.mark.parametrize("function", [auroc, aupr, bootstrap, summary, lambda y, p: paired_bootstrap(y, p, p)])
def test_bad_input(function, label, probability, message):
    with pytest.raises(ValueError, match=message):
        function(label, probability)


def test_brier_needs_no_second_class_but_valid_numbers():
    assert brier([0, 0], [0.5, 0.5]) == 0.25
    with pytest.raises(ValueError, match="hand in probabilities"):
        brier([0, 1], [0.5, -0.1])


def test_bad_settings():
    data = cohort(30)
    with pytest.raises(ValueError, match="unknown 'f1'; choose one of auroc, aupr, brier, break_even"):
        bootstrap(*data, metric="f1")
    with pytest.raises(ValueError, match=r"coverage in \(0, 1\), got 95"):
        bootstrap(*data, level=95)
    with pytest.raises(ValueError, match="replicates: expected 1 or more, got 0"):
        bootstrap(*data, replicates=0)
