r"""Uncertainty of a metric from both kinds of chance: which stays were tested on, and which seeds a method was trained with.

The theory is that of readers and cases: seeds read stays. A metric :math:`\hat\theta_{ms}` of method m under seed s has a variance over
the seeds, which the spread of the S values estimates, and over the stays, where two seeds of a method covary by :math:`C_m` and
two methods by :math:`C_{ab}`. For a difference of means over seeds (Obuchowski and Rockette 1995, Communications in Statistics 24; readers
nested within methods: Hillis 2014, Statistics in Medicine 33, sections 4 and 6)

.. math:: \operatorname{Var} = \underbrace{\frac{s_a^2}{S_a} + \frac{s_b^2}{S_b}}_{\text{seeds}}
    + \underbrace{C_a + C_b - 2 C_{ab}}_{\text{stays}},

with t as reference and degrees of freedom by Satterthwaite's rule (Hillis 2007, Statistics in Medicine 26, which for no variance over the
stays is Welch's test). The covariances are taken between *different* seeds: what one seed shares with the stays by itself is in
:math:`s^2` already, and a plain sum with the variance over stays of fixed fits counts it twice. A bootstrap that resamples seeds and
stays counts it twice as well, but of the rest of the seeds' variance finds only (S - 1) / S, and its percentiles have the tails of a normal
law, not of t: with few seeds it rejects too seldom where they differ in single stays, and too often where they differ as a whole.
``benchmarks/chance.py`` measures all three.

A variance is never taken to be less than that over the stays of the fits as they are, which it contains.

Covariances over stays come from the derivatives of a metric by the weights of the stays, the limit of the bootstrap for many resamples
(the infinitesimal jackknife, Efron 1982, chapter 6), which for AUROC are the components of DeLong, DeLong and Clarke-Pearson (1988,
Biometrics 44). Nothing is drawn at random, so that anybody recomputes the same digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, stdtr, stdtrit

from cm2.config.names import choose
from cm2.metrics import Interval, break_even, check_predictions

FEWEST = 10
"""Positives, and negatives, below which nothing is inferred: an interval of a metric of so few is no interval."""


@dataclass(frozen=True)
class Measured:
    """A metric of one run on the stays, and how it depends on each of them."""

    value: float
    """The metric."""
    deviations: NDArray
    """``(n,)``: the sum of their products with those of another run on the same stays is the covariance of the two metrics over stays."""
    df: float
    """Degrees of freedom of such a covariance."""


@dataclass(frozen=True)
class Uncertain:
    """A mean over seeds, or a difference of two such means, with both parts of its standard error."""

    estimate: float
    """Of the mean or difference."""
    se_stays: float
    """Standard error over the stays."""
    se_seeds: float
    """Standard error over the seeds: 0 where they change nothing, NaN where one seed cannot say."""
    df: float
    """Degrees of freedom of the whole standard error."""

    @property
    def both(self) -> bool:
        """Whether the standard error has both parts; with a single seed it has that of the stays alone."""
        return not math.isnan(self.se_seeds)

    @property
    def se(self) -> float:
        """Standard error."""
        return math.hypot(self.se_stays, self.se_seeds if self.both else 0.0)

    @property
    def p_value(self) -> float:
        """Two-sided p-value of the t-test against 0."""
        if self.se == 0:
            return 1.0 if self.estimate == 0 else 0.0
        return min(1.0, 2 * float(stdtr(self.df, -abs(self.estimate) / self.se)))

    def interval(self, level: float = 0.95, share: bool = False) -> tuple[float, float]:
        """Confidence interval.

        Args:
            level: coverage in (0, 1).
            share: whether the estimate is a share, such as an AUROC, whose interval is computed for its logit so as to stay within 0
                and 1.

        Raises:
            ValueError: a level outside (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"level: expected a coverage in (0, 1), got {level}; for example 0.95")
        half = float(stdtrit(self.df, (1 + level) / 2)) * self.se
        if share and half and 0 < self.estimate < 1:
            slope = 1 / (self.estimate * (1 - self.estimate))
            low, high = (float(expit(logit(self.estimate) + side * slope * half)) for side in (-1, 1))
            return low, high
        return self.estimate - half, self.estimate + half

    def equivalence(self, margin: float) -> float:
        """p-value of two one-sided tests for a difference within the margin (Schuirmann 1987, J. Pharmacokinetics and Biopharmaceutics 15).

        Below 0.05 if and only if the 90 % interval lies within (-margin, margin). A large p-value of a test for a difference says
        nothing of this kind.

        Args:
            margin: largest difference that does not matter, above 0.

        Raises:
            ValueError: a margin that is not above 0.
        """
        if not margin > 0:
            raise ValueError(f"margin: expected a difference above 0, got {margin}; give the largest one that does not matter")
        room = margin - abs(self.estimate)
        if self.se == 0:
            return 0.0 if room > 0 else 1.0
        return float(stdtr(self.df, -room / self.se))


def measure(label: ArrayLike, probability: ArrayLike, metric: str = "auroc") -> Measured:
    """A metric with its dependence on the stays.

    Args:
        label: 0 or 1 ``(n,)``.
        probability: predicted probability of 1 ``(n,)``.
        metric: ``auroc``, ``aupr``, ``brier`` or ``break_even``.

    Raises:
        ValueError: as ``cm2.metrics.auroc``; an unknown metric.
    """
    if metric not in INFLUENCE:
        raise ValueError(f"metric: unknown {metric!r}; {choose(metric, INFLUENCE)}")
    y, p = check_predictions(label, probability)
    value, influence = INFLUENCE[metric](y, p)
    size = np.bincount(y, minlength=2)
    # DeLong's n - 1 in each class; with one stay in a class there is no variance to estimate
    corrected = influence * np.sqrt(size / np.maximum(size - 1, 1))[y]
    return Measured(value, corrected, float(max(size.min() - 1, 1)))


def measure_mean(values: NDArray, root: bool = False) -> Measured:
    """A mean over the stays, or the root of one.

    Args:
        values: one for each stay ``(n,)``, n >= 2.
        root: whether the measure is the root of the mean, 0 where the mean is below 0.

    Raises:
        ValueError: fewer than two values, or values that are not finite.
    """
    n = _stays(values)
    mean = float(values.mean())
    deviations = (values - mean) / math.sqrt(n * (n - 1))
    if not root:
        return Measured(mean, deviations, n - 1)
    value = math.sqrt(max(mean, 0.0))
    return Measured(value, deviations / (2 * value) if value else np.zeros(n), n - 1)


def measure_median(values: NDArray, replicates: int = 1000, seed: int = 0) -> Measured:
    """A median over the stays. It has no derivative: its deviations are those of bootstrap replicates, which need the same n and seed.

    Args:
        values: one for each stay ``(n,)``, n >= 2.
        replicates: number of resamples.
        seed: of the resamples.

    Raises:
        ValueError: fewer than two values, or values that are not finite.
    """
    n = _stays(values)
    drawn = np.median(values[np.random.default_rng(seed).integers(0, n, size=(replicates, n))], axis=1)
    return Measured(float(np.median(values)), (drawn - drawn.mean()) / math.sqrt(replicates - 1), n - 1)


def interval_of(run: Measured, share: bool = False) -> Interval:
    """The 95 % interval of one run over the stays alone; arguments as in ``Uncertain.interval``."""
    return Interval(run.value, *over_seeds([run]).interval(share=share))


def over_seeds(runs: Sequence[Measured]) -> Uncertain:
    """The mean of a metric over the seeds of a method.

    Args:
        runs: one for each seed, all measured on the same stays. Two or more that are all equal are those of a method that no seed changes;
            of a single one nothing is known about other seeds.

    Raises:
        ValueError: no run, or runs on other stays.
    """
    values, deviations = _stacked(runs)
    return _uncertain(float(values.mean()), _between(deviations), deviations.mean(axis=0), min(run.df for run in runs), [_of_seeds(values)])


def difference(a: Sequence[Measured], b: Sequence[Measured], paired: bool = False) -> Uncertain:
    """The mean of a metric over the seeds of one method minus that of another.

    Args:
        a: one for each seed, all measured on the same stays, as in ``over_seeds``.
        b: those of the other method, on the same stays.
        paired: whether the i-th seeds of both share a part of their chance, such as which modalities were masked. The spread of
            their differences then replaces the two spreads. Trainings share nothing else.

    Raises:
        ValueError: as ``over_seeds``; pairs that are not pairs.
    """
    (values_a, of_a), (values_b, of_b) = _stacked(a), _stacked(b)
    if of_a.shape[1] != of_b.shape[1]:
        raise ValueError(f"difference: {of_a.shape[1]} and {of_b.shape[1]} stays; compare predictions of the same stays")
    if paired and len(a) != len(b):
        raise ValueError(f"difference: {len(a)} and {len(b)} seeds are no pairs; leave out paired")
    estimate, df = float(values_a.mean() - values_b.mean()), min(run.df for run in (*a, *b))
    mean_a, mean_b = of_a.mean(axis=0), of_b.mean(axis=0)
    if paired:
        return _uncertain(estimate, _between(of_a - of_b), mean_a - mean_b, df, [_of_seeds(values_a - values_b)])
    stays = _between(of_a) + _between(of_b) - 2 * float(mean_a @ mean_b)
    return _uncertain(estimate, stays, mean_a - mean_b, df, [_of_seeds(values_a), _of_seeds(values_b)])


def combined(estimate: float, se_stays: float, df_stays: float, *seeds: Sequence[float]) -> Uncertain:
    """A mean or difference from its standard error over the stays and the values of each method's seeds, or of their differences.

    Args:
        estimate: of the mean or difference.
        se_stays: standard error over the stays.
        df_stays: its degrees of freedom.
        seeds: the values of the seeds; one list for each method.
    """
    return _satterthwaite(estimate, se_stays**2, df_stays, [_of_seeds(np.asarray(values, dtype=float)) for values in seeds])


def _uncertain(estimate: float, between: float, fixed: NDArray, df_stays: float, seeds: Sequence[tuple[float, float]]) -> Uncertain:
    """From the covariance over stays of different seeds, the deviations of the estimate with all fits held fixed, and the seeds' parts.

    Estimates of small variances can fall below 0, or below what they are part of. The whole is never taken to be less than the variance
    over the stays of the fits as they are: seeds that agree better than chance allows are no evidence.
    """
    of_seeds = sum(variance for variance, _ in seeds if not math.isnan(variance))
    return _satterthwaite(estimate, max(between, float(fixed @ fixed) - of_seeds, 0.0), df_stays, seeds)


def _satterthwaite(estimate: float, stays: float, df_stays: float, seeds: Sequence[tuple[float, float]]) -> Uncertain:
    """From variances and degrees of freedom of the parts."""
    parts = [(stays, df_stays), *((variance, df) for variance, df in seeds if not math.isnan(variance))]
    scattered = sum(variance**2 / df for variance, df in parts)
    df = sum(variance for variance, _ in parts) ** 2 / scattered if scattered else math.inf
    return Uncertain(estimate, math.sqrt(stays), math.sqrt(sum(variance for variance, _ in seeds)), df)


def _of_seeds(values: NDArray) -> tuple[float, float]:
    """Variance of the mean of the seeds' values, and its degrees of freedom; NaN for a single seed."""
    if len(values) < 2:
        return math.nan, math.nan
    # equal values have variance 0, which their mean's rounding would hide
    return (float(values.var(ddof=1)) / len(values) if np.ptp(values) else 0.0), len(values) - 1


def _between(deviations: NDArray) -> float:
    """Mean covariance over the stays of two different seeds; of one seed, its variance."""
    seeds = len(deviations)
    if seeds == 1:
        return float(deviations[0] @ deviations[0])
    total = deviations.sum(axis=0)
    return float(total @ total - (deviations**2).sum()) / (seeds * (seeds - 1))


def _stacked(runs: Sequence[Measured]) -> tuple[NDArray, NDArray]:
    sizes = sorted({len(run.deviations) for run in runs})
    if len(sizes) != 1:
        raise ValueError(f"expected one or more runs on the same stays, got {len(runs)} on {' and '.join(map(str, sizes)) or 'no'} stays")
    return np.array([run.value for run in runs]), np.stack([run.deviations for run in runs])


def _stays(values: NDArray) -> int:
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"expected finite values (n,) of two or more stays, got {values.shape}")
    return len(values)


def _by_score(y: NDArray, p: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Position of each stay among the distinct scores in ascending order, and the positives and negatives of each."""
    distinct, at = np.unique(p, return_inverse=True)
    return at, np.bincount(at, y, len(distinct)), np.bincount(at, 1 - y, len(distinct))


def _auroc(y: NDArray, p: NDArray) -> tuple[float, NDArray]:
    at, positive, negative = _by_score(y, p)
    below = (np.cumsum(negative) - negative / 2) / negative.sum()
    above = 1 - (np.cumsum(positive) - positive / 2) / positive.sum()
    value = float(positive @ below / positive.sum())
    share = np.where(y == 1, below[at] / positive.sum(), above[at] / negative.sum())
    return value, share - value / np.where(y == 1, positive.sum(), negative.sum())


def _aupr(y: NDArray, p: NDArray) -> tuple[float, NDArray]:
    """The derivative of a sum over positives of true / called, at each distinct score as threshold, by the weight of a stay."""
    at, positive, negative = _by_score(y, p)
    true, called = (np.cumsum(counts[::-1])[::-1] for counts in (positive, positive + negative))
    precision = true / called
    value = float(positive @ precision / positive.sum())
    # a stay is called at every threshold up to its own score
    gained, lost = np.cumsum(positive / called), np.cumsum(positive * precision / called)
    return value, (y * (precision[at] + gained[at] - value) - lost[at]) / positive.sum()


def _brier(y: NDArray, p: NDArray) -> tuple[float, NDArray]:
    squares = (p - y) ** 2
    return float(squares.mean()), (squares - squares.mean()) / len(y)


def _break_even(y: NDArray, p: NDArray) -> tuple[float, NDArray]:
    """One more positive asks for one more call, one more stay above the threshold takes one away: either is one at the threshold.

    The share of positives there is that of the stays next to it in rank, about the square root of n on either side.
    """
    at, positive, negative = _by_score(y, p)
    every, size, value = positive + negative, y.sum(), break_even(y, p)
    above = np.cumsum(every[::-1])[::-1] - every  # stays with a higher score
    called = np.clip((size - above) / every, 0, 1)[at]
    rank = np.argsort(np.argsort(-p, kind="stable"), kind="stable") - size
    reach = max(np.sqrt(len(y)), np.abs(rank).min() + 1)
    share = y[np.abs(rank + 0.5) <= reach].mean()
    return value, (y * called - value * y + share * (y - called)) / size


INFLUENCE: dict[str, Callable[[NDArray, NDArray], tuple[float, NDArray]]] = {
    "auroc": _auroc,
    "aupr": _aupr,
    "brier": _brier,
    "break_even": _break_even,
}
"""By metric, the function that returns its value and its derivatives by the weights of the stays ``(n,)``."""
