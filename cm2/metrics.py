"""Discrimination and accuracy of predicted probabilities, with percentile bootstrap intervals.

The bootstrap resamples stays with replacement, as the paper's evaluation does. A resample is a vector of counts over the stays, and
each metric is written for counts, so all replicates are computed at once on scores that were sorted once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cm2.config.names import choose

Scorer = Callable[[NDArray], NDArray]
BLOCK = 4_000_000
"""Counts held in memory at a time."""


@dataclass(frozen=True)
class Interval:
    """A metric with its percentile bootstrap interval."""

    estimate: float
    """On all stays."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    redrawn: int = 0
    """Resamples that were drawn again because they lacked a class."""


@dataclass(frozen=True)
class Difference:
    """A metric of one prediction minus that of another on the same stays."""

    estimate: float
    """On all stays."""
    low: float
    """Lower end of the percentile interval."""
    high: float
    """Upper end."""
    p_value: float
    """Two-sided: the level at which the interval would first reach 0, at least 2 / (replicates + 1)."""
    redrawn: int = 0
    """Resamples that were drawn again because they lacked a class."""


def auroc(label: ArrayLike, probability: ArrayLike) -> float:
    """Area under the receiver operating characteristic; a tie counts one half.

    Args:
        label: 0 or 1 ``(n,)``.
        probability: predicted probability of 1 ``(n,)``.

    Raises:
        ValueError: shapes that disagree, a label that is neither 0 nor 1, a probability outside [0, 1] or NaN, a missing class.
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(*check_predictions(label, probability)))


def aupr(label: ArrayLike, probability: ArrayLike) -> float:
    """Area under the precision-recall curve as average precision, a step function without interpolation. Arguments as ``auroc``."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(*check_predictions(label, probability)))


def brier(label: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared distance of the probability from the label. Arguments as ``auroc``; both classes are not needed."""
    y, p = check_predictions(label, probability, both_classes=False)
    return float(np.mean((p - y) ** 2))


def break_even(label: ArrayLike, probability: ArrayLike) -> float:
    """Sensitivity and positive predictive value where they are equal: as many stays are called as there are positives.

    The PhysioNet Challenge 2012 scored a binary decision by the smaller of the two (Silva et al. 2012, Computing in Cardiology 39, event
    1). No threshold makes both larger than here, up to the step of one stay. Stays with the same score at the threshold are called in part.
    Arguments as ``auroc``.
    """
    y, p = check_predictions(label, probability)
    return float(_weighted_break_even(y, p)(np.ones((1, y.size), dtype=np.int64))[0])


def bootstrap(
    label: ArrayLike,
    probability: ArrayLike,
    metric: str | Callable[..., float] = "auroc",
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of a metric (Efron and Tibshirani 1993, section 13.3).

    A resample without positives or without negatives has no AUROC. It is drawn again, so the interval is conditional on both
    classes being there; ``Interval.redrawn`` says how often that happened, which matters only with a handful of positives.

    Args:
        label: 0 or 1 ``(n,)``.
        probability: predicted probability of 1 ``(n,)``.
        metric: ``"auroc"``, ``"aupr"``, ``"brier"`` or ``"break_even"``, or the function of that name.
        replicates: number of resamples.
        seed: of the resamples; the same seed and labels give the same resamples for every metric and prediction.
        level: coverage in (0, 1).

    Raises:
        ValueError: as ``auroc``; an unknown metric, a level outside (0, 1) or no replicates.
    """
    y, p = check_predictions(label, probability)
    name = _name(metric)
    values, redrawn = _resampled(y, [WEIGHTED[name](y, p)], replicates, seed)
    return Interval(ESTIMATE[name](y, p), *_percentiles(values[0], level), redrawn)


def paired_bootstrap(
    label: ArrayLike,
    probability_a: ArrayLike,
    probability_b: ArrayLike,
    metric: str | Callable[..., float] = "auroc",
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """Interval and p-value of metric(a) - metric(b), both computed on the same resamples of the same stays.

    The p-value is twice the smaller of the shares of replicates on either side of 0, counting the observed sample as one more
    replicate. Unlike a t-test between two sets of replicates it does not shrink with their number.

    Args:
        label: 0 or 1 ``(n,)``.
        probability_a: one prediction ``(n,)``, or one for each of S seeds ``(S, n)``, whose metrics are averaged.
        probability_b: the other, of the same stays in the same order ``(n,)`` or ``(S, n)``.
        metric: as in ``bootstrap``, as are ``replicates``, ``seed`` and ``level``.

    Raises:
        ValueError: as ``bootstrap``.
    """
    (only,) = paired_bootstraps(label, {"": probability_a}, probability_b, (_name(metric),), replicates, seed, level).values()
    return only


def paired_bootstraps(
    label: ArrayLike,
    probabilities: Mapping[str, ArrayLike],
    reference: ArrayLike,
    metrics: Sequence[str] = ("auroc", "aupr"),
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[tuple[str, str], Difference]:
    """``paired_bootstrap`` of several predictions against one reference, all on the same resamples, which are drawn once.

    Args:
        label: 0 or 1 ``(n,)``.
        probabilities: by name, each ``(n,)`` or ``(S, n)``.
        reference: what is subtracted ``(n,)`` or ``(S, n)``.
        metrics: names of metrics; the other arguments are as in ``paired_bootstrap``.

    Returns:
        The differences by ``(name, metric)``.

    Raises:
        ValueError: as ``bootstrap``.
    """
    groups = [[check_predictions(label, p) for p in np.atleast_2d(_array(given))] for given in (*probabilities.values(), reference)]
    metrics = [_name(metric) for metric in metrics]
    members = [(metric, group) for group in groups for metric in metrics]
    y = groups[0][0][0]
    values, redrawn = _resampled(y, [WEIGHTED[metric](y, p) for metric, group in members for _, p in group], replicates, seed)
    ends = np.cumsum([len(group) for _, group in members])
    averaged = [part.mean(axis=0) for part in np.split(values, ends[:-1])]
    estimates = [float(np.mean([ESTIMATE[metric](y, p) for _, p in group])) for metric, group in members]
    measured = list(zip(averaged, estimates, strict=True))
    pairs = [(name, metric) for name in probabilities for metric in metrics]
    of_reference = dict(zip(metrics, measured[len(pairs) :], strict=True))
    out = {}
    for (name, metric), (replicated, estimate) in zip(pairs, measured[: len(pairs)], strict=True):
        other, base = of_reference[metric]
        difference = replicated - other
        tail = min((difference <= 0).sum(), (difference >= 0).sum())
        p_value = min(1.0, 2 * (1 + int(tail)) / (1 + replicates))
        out[name, metric] = Difference(estimate - base, *_percentiles(difference, level), p_value, redrawn)
    return out


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of a family of tests: rejecting those below 0.05 errs anywhere in the family with probability 0.05 at most.

    The i-th smallest of m is multiplied by m - i + 1 and is never below the one before it (Holm 1979, Scandinavian Journal of
    Statistics 6).

    Raises:
        ValueError: a value outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"holm: expected p-values in [0, 1], got {p[~((p >= 0) & (p <= 1))][0]:g}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1)
    return adjusted.tolist()


def summary(label: ArrayLike, probability: ArrayLike, replicates: int = 1000, seed: int = 0) -> dict[str, float]:
    """What ``metrics.json`` holds of one split.

    Returns:
        ``auroc``, ``aupr`` with ``_low`` and ``_high`` of the 95 % interval, ``brier``, ``n`` and ``positives``.

    Raises:
        ValueError: as ``auroc``.
    """
    y, p = check_predictions(label, probability)
    names = ("auroc", "aupr")
    values, _ = _resampled(y, [WEIGHTED[name](y, p) for name in names], replicates, seed)
    out: dict[str, float] = {}
    for name, replicate in zip(names, values, strict=True):
        low, high = _percentiles(replicate, 0.95)
        out |= {name: ESTIMATE[name](y, p), f"{name}_low": low, f"{name}_high": high}
    return out | {"brier": brier(y, p), "n": int(y.size), "positives": int(y.sum())}


def check_predictions(label: ArrayLike, probability: ArrayLike, both_classes: bool = True) -> tuple[NDArray, NDArray]:
    """Labels as int64 and probabilities as float64, both ``(n,)``; raises what ``auroc`` raises."""
    y, p = _array(label), _array(probability)
    if y.ndim != 1 or y.shape != p.shape or y.size == 0:
        raise ValueError(f"label and probability: expected the same shape (n,), got {y.shape} and {p.shape}; flatten or align them")
    if not np.isin(y, (0, 1)).all():
        raise ValueError(f"label: expected 0 or 1, got {y[~np.isin(y, (0, 1))][0]:g}; drop stays without an outcome")
    outside = ~((p >= 0) & (p <= 1))
    if outside.any():
        raise ValueError(f"probability: expected values in [0, 1], got {p[outside][0]:g}; hand in probabilities, not logits")
    if both_classes and (y == y[0]).all():
        raise ValueError(f"label: all {y.size} are {y[0]:g}, the metric needs both classes; use a larger split")
    return y.astype(np.int64), p


def _array(x: ArrayLike) -> NDArray:
    if hasattr(x, "detach"):
        x = x.detach().cpu().double().numpy()
    return np.asarray(x, dtype=np.float64)


def _name(metric: str | Callable[..., float]) -> str:
    name = metric if isinstance(metric, str) else getattr(metric, "__name__", repr(metric))
    if name not in WEIGHTED:
        raise ValueError(f"metric: unknown {name!r}; {choose(name, WEIGHTED)}")
    return name


def _percentiles(values: NDArray, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"level: expected a coverage in (0, 1), got {level}; for example 0.95")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled(label: NDArray, scorers: Sequence[Scorer], replicates: int, seed: int) -> tuple[NDArray, int]:
    """Each scorer on the same resamples ``(scorers, replicates)``, and how many resamples were drawn again."""
    if replicates < 1:
        raise ValueError(f"replicates: expected 1 or more, got {replicates}")
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // label.size)
    blocks, drawn, kept = [], 0, 0
    while kept < replicates:
        counts = _counts(rng, min(rows, replicates - kept), label.size)
        positives = counts @ label
        whole = (positives > 0) & (positives < label.size)
        drawn, kept = drawn + len(whole), kept + int(whole.sum())
        blocks.append([scorer(counts if whole.all() else counts[whole]) for scorer in scorers])
    return np.concatenate(blocks, axis=1), drawn - kept


def _counts(rng: np.random.Generator, rows: int, n: int) -> NDArray:
    """How often each of n stays is in each of ``rows`` resamples ``(rows, n)``."""
    index = rng.integers(0, n, size=(rows, n))
    index += n * np.arange(rows)[:, None]
    return np.bincount(index.ravel(), minlength=rows * n).reshape(rows, n)


def _by_distinct_score(label: NDArray, probability: NDArray) -> Callable[[NDArray], tuple[NDArray, NDArray]]:
    """From counts over stays to counts of positives and of all over the distinct scores, in ascending order."""
    order = np.argsort(probability, kind="stable")
    first = np.flatnonzero(np.diff(probability[order], prepend=-1.0))
    positive = label[order]

    def group(counts: NDArray) -> tuple[NDArray, NDArray]:
        counts = counts[:, order]
        of_positives = counts * positive
        if first.size < order.size:
            return np.add.reduceat(of_positives, first, axis=1), np.add.reduceat(counts, first, axis=1)
        return of_positives, counts

    return group


def _weighted_auroc(label: NDArray, probability: NDArray) -> Scorer:
    """Mann-Whitney: twice the pairs in the right order plus the tied ones, in whole numbers."""
    group = _by_distinct_score(label, probability)

    def score(counts: NDArray) -> NDArray:
        positive, every = group(counts)
        negative = every - positive
        below = np.cumsum(negative, axis=1)
        twice = np.einsum("rg,rg->r", positive, 2 * below - negative)
        return twice / (2 * positive.sum(axis=1) * below[:, -1])

    return score


def _weighted_aupr(label: NDArray, probability: NDArray) -> Scorer:
    """Mean over the positives of the precision at their own score as threshold."""
    group = _by_distinct_score(label, probability)

    def score(counts: NDArray) -> NDArray:
        positive, every = group(counts)
        true = np.cumsum(positive[:, ::-1], axis=1)
        called = np.maximum(np.cumsum(every[:, ::-1], axis=1), 1)
        return np.einsum("rg,rg->r", positive[:, ::-1], true / called) / true[:, -1]

    return score


def _weighted_brier(label: NDArray, probability: NDArray) -> Scorer:
    squares = (probability - label) ** 2
    return lambda counts: counts @ squares / label.size


def _weighted_break_even(label: NDArray, probability: NDArray) -> Scorer:
    """Positives among the highest scores, of which as many are taken as there are positives; the last distinct score in part."""
    group = _by_distinct_score(label, probability)

    def score(counts: NDArray) -> NDArray:
        positive, every = (part[:, ::-1] for part in group(counts))
        called, all_positives = np.cumsum(every, axis=1), positive.sum(axis=1)
        last = (called < all_positives[:, None]).sum(axis=1, keepdims=True)
        before = np.take_along_axis(called - every, last, axis=1)[:, 0]
        of_last = [np.take_along_axis(part, last, axis=1)[:, 0] for part in (positive, every)]
        true = np.take_along_axis(np.cumsum(positive, axis=1) - positive, last, axis=1)[:, 0]
        return (true + of_last[0] * (all_positives - before) / of_last[1]) / all_positives

    return score


ESTIMATE: dict[str, Callable[..., float]] = {"auroc": auroc, "aupr": aupr, "brier": brier, "break_even": break_even}
WEIGHTED: dict[str, Callable[[NDArray, NDArray], Scorer]] = {
    "auroc": _weighted_auroc,
    "aupr": _weighted_aupr,
    "brier": _weighted_brier,
    "break_even": _weighted_break_even,
}
