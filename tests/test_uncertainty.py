"""Two kinds of chance: covariances against resampling, tests against what was simulated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from benchmarks.chance import AUROC, methods
from cm2 import metrics
from cm2.book.checks import FALSE_ALARM, check
from cm2.uncertainty import (
    INFLUENCE,
    Measured,
    Uncertain,
    combined,
    difference,
    measure,
    measure_mean,
    measure_median,
    over_seeds,
)

ORACLE = {"auroc": roc_auc_score, "aupr": average_precision_score, "brier": brier_score_loss}


def sample(n: int, seed: int = 0, digits: int | None = None, prevalence: float = 0.2):
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < prevalence).astype(int)
    probability = stats.norm.cdf(rng.normal(label - 1))
    return label, probability if digits is None else probability.round(digits)


@pytest.mark.parametrize("digits", [None, 2, 1, 0])
@pytest.mark.parametrize("name", ORACLE)
def test_values_are_scikit_learns(name, digits):
    label, probability = sample(200, digits=digits)
    assert measure(label, probability, name).value == pytest.approx(ORACLE[name](label, probability), abs=1e-12)


@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize("name", ORACLE)
def test_deviations_are_derivatives_by_weights(name, digits):
    """By central differences of scikit-learn's weighted metric, without the correction for the size of a class."""
    label, probability = sample(60, digits=digits)
    influence = INFLUENCE[name](label, probability)[1]
    assert influence.sum() == pytest.approx(0, abs=1e-12)
    step = 1e-5
    for stay in range(0, 60, 7):
        weights = [np.where(np.arange(60) == stay, 1 + side * step, 1.0) for side in (-1, 1)]
        low, high = (ORACLE[name](label, probability, sample_weight=w) for w in weights)
        assert influence[stay] == pytest.approx((high - low) / (2 * step), abs=1e-8)


def test_of_two_aurocs_the_covariance_is_that_of_delong():
    """DeLong, DeLong and Clarke-Pearson (1988), equations 4 to 6, pair by pair."""
    label, a = sample(80, digits=2)
    b = np.random.default_rng(1).random(80).round(1)
    components = []
    for p in (a, b):
        wins = np.sign(p[label == 1][:, None] - p[label == 0][None]) / 2 + 0.5
        components.append((wins.mean(axis=1), wins.mean(axis=0)))
    m, n = int(label.sum()), int((1 - label).sum())
    expected = np.cov(*(c[0] for c in components))[0, 1] / m + np.cov(*(c[1] for c in components))[0, 1] / n
    assert measure(label, a).deviations @ measure(label, b).deviations == pytest.approx(expected)


@pytest.mark.parametrize("name", ORACLE)
def test_covariances_are_those_of_resampling(name):
    label, a = sample(3000)
    b = np.clip(a + np.random.default_rng(1).normal(0, 0.1, 3000), 0, 1)
    replicates = 4000
    values, _ = metrics._resampled(label, [metrics.WEIGHTED[name](label, p) for p in (a, b)], replicates, 0)
    resampled, ours = np.cov(values), [measure(label, p, name).deviations for p in (a, b)]
    for i, j in ((0, 0), (0, 1), (1, 1)):
        error = math.sqrt((resampled[i, i] * resampled[j, j] + resampled[i, j] ** 2) / replicates)
        # the derivative is the limit of many stays
        check(f"covariance {i} {j}", ours[i] @ ours[j], near=resampled[i, j], standard_error=error, within=0.02 * resampled[i, j])


def equal_by_hand(label, probability):
    """Sensitivity at which as many are called as die, the call of tied stays shared out evenly."""
    left, true = label.sum(), 0.0
    for score in np.unique(probability)[::-1]:
        tied = probability == score
        true, left = true + min(1, left / tied.sum()) * label[tied].sum(), left - tied.sum()
        if left <= 0:
            return true / label.sum()


@pytest.mark.parametrize("digits", [None, 2, 1, 0])
def test_the_challenges_score_is_the_sensitivity_where_it_equals_the_precision(digits):
    label, probability = sample(300, digits=digits)
    found = measure(label, probability, "break_even").value
    assert found == metrics.break_even(label, probability) == pytest.approx(equal_by_hand(label, probability))
    if digits is None:
        called = probability >= np.sort(probability)[-label.sum()]
        assert found == label[called].mean() == called[label == 1].mean()


def test_no_threshold_beats_the_break_even_by_more_than_a_stay():
    label, probability = sample(500, seed=3)
    both = []
    for threshold in probability:
        called = probability >= threshold
        both.append(min(called[label == 1].mean(), label[called].mean()))
    assert max(both) <= metrics.break_even(label, probability) + 1 / label.sum()


def test_the_challenges_score_varies_as_in_repeated_samples():
    """Over fresh samples, whose spread no estimate of the density at the threshold enters."""
    found = [measure(*sample(4000, seed=seed), "break_even") for seed in range(400)]
    variance = np.var([one.value for one in found], ddof=1)
    estimated = np.mean([one.deviations @ one.deviations for one in found])
    error = variance * math.sqrt(2 / 399)
    check("variance", estimated, near=variance, standard_error=error, within=0.05 * variance)


def test_means_and_their_roots():
    values = np.random.default_rng(0).gamma(2.0, size=500)
    mean, root = measure_mean(values), measure_mean(values, root=True)
    assert mean.value == pytest.approx(values.mean()) and root.value == pytest.approx(math.sqrt(values.mean()))
    assert over_seeds([mean]).se == pytest.approx(stats.sem(values))
    assert over_seeds([mean]).interval() == pytest.approx(stats.t.interval(0.95, 499, values.mean(), stats.sem(values)))
    assert over_seeds([root]).se == pytest.approx(stats.sem(values) / (2 * root.value))
    below = measure_mean(np.array([-1.0, 0.5]), root=True)
    assert below.value == 0 and not below.deviations.any()


def test_a_median_varies_as_theory_says():
    n = 2001
    values = np.random.default_rng(0).normal(size=n)
    found = over_seeds([measure_median(values, replicates=4000)])
    assert found.estimate == np.median(values)
    # sqrt(pi / 2 n); a bootstrap of a median has a slowly vanishing error of its own, n^(-1/4)
    check("standard error", found.se, near=math.sqrt(math.pi / (2 * n)), within=0.5 * math.sqrt(math.pi / (2 * n)) * n**-0.25 * 4)


def test_without_variance_over_stays_it_is_welchs_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=5), rng.normal(size=3)
    found = combined(a.mean() - b.mean(), 0.0, math.inf, a, b)
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert found.p_value == pytest.approx(welch.pvalue) and found.df == pytest.approx(welch.df)
    assert found.interval() == pytest.approx(tuple(welch.confidence_interval()))


def test_parts_add_up():
    label, predicted = sample(300)
    rng = np.random.default_rng(1)
    a, b = ([measure(label, np.clip(predicted + rng.normal(0, 0.1, 300), 0, 1)) for _ in range(4)] for _ in range(2))
    found = difference(a, b)
    values = [[one.value for one in of] for of in (a, b)]
    assert found.estimate == pytest.approx(np.mean(values[0]) - np.mean(values[1]))
    assert found.se_seeds**2 == pytest.approx(sum(np.var(v, ddof=1) / 4 for v in values))
    covariance = np.array([one.deviations for one in (*a, *b)]) @ np.array([one.deviations for one in (*a, *b)]).T
    within = [np.mean([block[i, j] for i in range(4) for j in range(4) if i != j]) for block in (covariance[:4, :4], covariance[4:, 4:])]
    fixed = np.mean([x.deviations - y.deviations for x, y in zip(a, b, strict=True)], axis=0)
    expected = max(sum(within) - 2 * covariance[:4, 4:].mean(), fixed @ fixed - found.se_seeds**2)
    assert found.se_stays**2 == pytest.approx(expected, abs=1e-12)
    assert found.se**2 == pytest.approx(found.se_stays**2 + found.se_seeds**2)
    assert difference(b, a).p_value == pytest.approx(found.p_value)
    paired = difference(a, b, paired=True)
    assert paired.se_seeds**2 == pytest.approx(np.var(np.subtract(*values), ddof=1) / 4)


def test_a_method_that_no_seed_changes_has_no_variance_over_seeds():
    label, p = sample(300)
    one = measure(label, p)
    assert over_seeds([one] * 3).se_seeds == 0 and over_seeds([one] * 3).both
    assert over_seeds([one] * 3).interval() == pytest.approx(over_seeds([one]).interval())
    assert not over_seeds([one]).both
    other = [measure(label, np.clip(p + e, 0, 1)) for e in np.random.default_rng(0).normal(0, 0.2, (3, 300))]
    found = difference(other, [one] * 3)
    assert found.se_seeds**2 == pytest.approx(np.var([m.value for m in other], ddof=1) / 3)
    assert not difference(other, [one]).both
    same = difference([one] * 2, [one] * 3)
    assert (same.estimate, same.p_value) == (0, 1) and same.interval() == pytest.approx((0, 0))


def test_seeds_that_agree_by_luck_do_not_make_an_interval_narrow():
    """Below the variance over stays of the very same fits."""
    rng = np.random.default_rng(0)
    a, b = ([Measured(0.8, 0.01 * rng.normal(size=100), 9) for _ in range(3)] for _ in range(2))
    mean = [np.mean([one.deviations for one in of], axis=0) for of in (a, b)]
    assert over_seeds(a).se == pytest.approx(np.linalg.norm(mean[0])) and over_seeds(a).se_seeds == 0
    for paired in (False, True):
        assert difference(a, b, paired).se == pytest.approx(np.linalg.norm(mean[0] - mean[1]))


def test_intervals_of_shares_stay_within_0_and_1():
    high = Uncertain(0.99, 0.02, 0.0, 50)
    low, top = high.interval(share=True)
    assert 0 < low < 0.99 < top < 1 < high.interval()[1]
    assert Uncertain(1.0, 0.0, 0.0, 9).interval(share=True) == (1, 1)


def test_equivalence_is_the_interval_within_the_margin():
    for estimate in (0.0, 0.004, -0.006, 0.02):
        found = Uncertain(estimate, 0.002, 0.001, 7.5)
        low, high = found.interval(0.9)
        assert (found.equivalence(0.01) < 0.05) == (low > -0.01 and high < 0.01)
        p = max(stats.t.sf((estimate + 0.01) / found.se, 7.5), stats.t.cdf((estimate - 0.01) / found.se, 7.5))
        assert found.equivalence(0.01) == pytest.approx(p)
    assert Uncertain(0.005, 0, 0, math.inf).equivalence(0.01) == 0 and Uncertain(0.02, 0, 0, math.inf).equivalence(0.01) == 1


@pytest.mark.parametrize("seeds", [2, 5, 10])
@pytest.mark.parametrize("alike", [True, False], ids=["copies of one method", "two methods as good"])
def test_under_the_null_it_rejects_no_more_than_it_says(seeds, alike):
    """Two copies of a method under other seeds, and two other methods of the same AUROC: 7 % at most at the 5 % level."""
    samples = 200
    rejected = dict.fromkeys(("auroc", "aupr"), 0)
    for seed in range(samples):
        label, a, b = methods(1000, 0.14, seeds, alike=alike, seed=seed)
        for name in rejected:
            found = difference([measure(label, p, name) for p in a], [measure(label, p, name) for p in b])
            rejected[name] += found.p_value < 0.05
    for name, count in rejected.items():
        check(f"rejections, {name}", stats.binomtest(count, samples, 0.07, "greater").pvalue, above=FALSE_ALARM)


def test_a_true_difference_is_found():
    """0.02 of AUROC, 4,000 stays, 5 seeds: in at least half of the cases."""
    samples, found = 60, 0
    for seed in range(samples):
        label, a, b = methods(4000, 0.14, 5, gain=0.02, seed=seed)
        tested = difference([measure(label, p) for p in a], [measure(label, p) for p in b])
        found += tested.p_value < 0.05 and tested.estimate < 0
    check("share found", stats.binomtest(found, samples, 0.5, "less").pvalue, above=FALSE_ALARM)


def test_the_interval_of_a_mean_covers_the_truth():
    samples, covered = 200, 0
    for seed in range(samples):
        label, a, _ = methods(1000, 0.14, 3, seed=seed)
        low, high = over_seeds([measure(label, p) for p in a]).interval(share=True)
        covered += low < AUROC < high
    check("coverage", stats.binomtest(covered, samples, 0.93, "less").pvalue, above=FALSE_ALARM)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: over_seeds([]), "got 0 on no stays"),
        (lambda: over_seeds([Measured(0, np.zeros(3), 2), Measured(0, np.zeros(4), 3)]), "got 2 on 3 and 4 stays"),
        (lambda: difference([Measured(0, np.zeros(3), 2)], [Measured(0, np.zeros(4), 3)]), "3 and 4 stays; compare predictions"),
        (lambda: difference([Measured(0, np.zeros(3), 2)] * 2, [Measured(0, np.zeros(3), 2)], paired=True), "2 and 1 seeds are no pairs"),
        (lambda: measure([0, 1], [0.1, 0.2], "f1"), "unknown 'f1'; choose one of auroc, aupr, brier, break_even"),
        (lambda: measure([0, 0], [0.1, 0.2]), "needs both classes"),
        (lambda: measure_mean(np.array([1.0, np.nan])), "expected finite values"),
        (lambda: measure_median(np.array([1.0])), "two or more stays"),
        (lambda: Uncertain(0, 1, 1, 3).interval(95), r"coverage in \(0, 1\), got 95"),
        (lambda: Uncertain(0, 1, 1, 3).equivalence(0), "margin: expected a difference above 0, got 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
