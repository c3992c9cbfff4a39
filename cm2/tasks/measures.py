r"""Metrics of tasks, each with its dependence on the stays, from which intervals and tests over stays and seeds follow.

Deviations are derivatives by the weights of the stays (the infinitesimal jackknife, see `cm2.uncertainty`). Where labels are unknown
(NaN), a stay takes no part and its deviation is 0.

References:
    Harrell, Califf, Pryor, Lee, Rosati, "Evaluating the yield of medical tests", JAMA 1982 (concordance)
    Hand, Till, "A simple generalisation of the area under the ROC curve for multiple class classification problems", Machine Learning 2001,
    who discuss the mean over classes, one against the rest, that is computed here
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cm2.errors import InputError
from cm2.uncertainty import Measured, measure, measure_mean

BLOCK = 4_000_000
"""Pairs of stays compared at a time."""
Measure = Callable[[NDArray, NDArray], Measured]


def spread_out(measured: Measured, known: NDArray) -> Measured:
    """A measure of the stays ``known`` ``(n,)`` with deviations for all of them: 0 for the others."""
    deviations = np.zeros(len(known))
    deviations[known] = measured.deviations
    return replace(measured, deviations=deviations)


def averaged(parts: Sequence[Measured]) -> Measured:
    """The mean of several measures on the same stays; degrees of freedom by Satterthwaite's rule.

    Raises:
        ValueError: there is none.
    """
    if not parts:
        raise InputError("no label has both outcomes among these stays; use more stays")
    variances = np.array([float(part.deviations @ part.deviations) for part in parts])
    scattered = float((variances**2 / [part.df for part in parts]).sum())
    df = float(variances.sum()) ** 2 / scattered if scattered else min(part.df for part in parts)
    deviations = np.sum([part.deviations for part in parts], axis=0) / len(parts)
    return Measured(float(np.mean([part.value for part in parts])), deviations, df)


def each_label(metric: str) -> Measure:
    """The mean of a binary metric over the columns of labels ``(n, L)`` and probabilities ``(n, L)``; of those with both outcomes."""

    def measured(label: NDArray, prediction: NDArray) -> Measured:
        parts = []
        for y, p in zip(label.T, prediction.T, strict=True):
            known = ~np.isnan(y)
            if len(np.unique(y[known])) == 2:
                parts.append(spread_out(measure(y[known], p[known], metric), known))
        return averaged(parts)

    return measured


def all_labels(metric: str) -> Measure:
    """A binary metric over all known labels ``(n, L)`` and probabilities ``(n, L)`` at once; a stay brings several."""

    def measured(label: NDArray, prediction: NDArray) -> Measured:
        known = ~np.isnan(label)
        found = measure(label[known], prediction[known], metric)
        stays = np.bincount(np.nonzero(known)[0], found.deviations, minlength=len(label))
        return Measured(found.value, stays, float(max(known.any(axis=1).sum() - 1, 1)))

    return measured


def each_class(metric: str) -> Measure:
    """The same of each class against the rest, of labels ``(n,)`` and probabilities ``(n, K)``."""

    def measured(label: NDArray, prediction: NDArray) -> Measured:
        one_hot = np.where(np.isnan(label)[:, None], np.nan, label[:, None] == np.arange(prediction.shape[1]))
        return each_label(metric)(one_hot, prediction)

    return measured


def mean_of(score: Callable[[NDArray, NDArray], NDArray], root: bool = False) -> Measure:
    """The mean of a score ``(n,)`` of each stay, or its root; a score of NaN is that of a stay that takes no part."""

    def measured(label: NDArray, prediction: NDArray) -> Measured:
        scores = score(label, prediction)
        known = ~np.isnan(scores)
        return spread_out(measure_mean(scores[known], root), known)

    return measured


def of_binary(metric: str) -> Measure:
    """A metric of `cm2.uncertainty.measure`."""

    def measured(label: NDArray, prediction: NDArray) -> Measured:
        known = ~np.isnan(label)
        return spread_out(measure(label[known], prediction[known], metric), known)

    return measured


def explained(label: NDArray, prediction: NDArray) -> Measured:
    """R²: 1 minus the mean squared error over the variance of the labels; both ``(n,)``.

    Raises:
        ValueError: fewer than two stays, or labels that are all equal.
    """
    known = ~np.isnan(label)
    y, p = label[known], prediction[known]
    if len(y) < 2 or np.ptp(y) == 0:
        raise InputError(f"all {len(y)} labels are equal, of which there is nothing to explain; use more stays")
    error, centred = (y - p) ** 2, (y - y.mean()) ** 2
    mean, variance = float(error.mean()), float(centred.mean())
    slope = -((error - mean) - mean / variance * (centred - variance)) / variance
    n = len(y)
    return spread_out(Measured(1 - mean / variance, slope / math.sqrt(n * (n - 1)), n - 1), known)


def concordance(label: NDArray, score: NDArray) -> Measured:
    """Harrell's concordance index: of the pairs of which it is known who had the event first, the share in the predicted order.

    A tie of the scores counts one half. A pair is known if the earlier time is that of an event; at equal times an event comes before a
    censoring, and two events are no pair.

    Args:
        label: times and events ``(n, 2)``.
        score: ``(n,)``, larger for a later event.

    Raises:
        ValueError: no pair whose order is known.
    """
    known = ~np.isnan(label).any(axis=1)
    time, event, s = label[known, 0], label[known, 1] > 0, score[known]
    won, pairs = (np.zeros(len(s)) for _ in range(2))
    rows = max(1, BLOCK // max(len(s), 1))
    for start in range(0, len(s), rows):
        here = slice(start, start + rows)
        first = event[here, None] & ((time[here, None] < time) | ((time[here, None] == time) & ~event))
        right = first * ((s[here, None] < s) + 0.5 * (s[here, None] == s))
        # a stay takes part as the earlier one of its row's pairs and as the later one of its column's
        won[here] += right.sum(axis=1)
        pairs[here] += first.sum(axis=1)
        won += right.sum(axis=0)
        pairs += first.sum(axis=0)
    total = float(pairs.sum()) / 2
    if not total:
        raise InputError("no pair of stays of which it is known whose event came first; use more stays with an event")
    value, n = float(won.sum()) / 2 / total, len(s)
    deviations = (won - value * pairs) / total
    return spread_out(Measured(value, deviations * math.sqrt(n / (n - 1)), float(n - 1)), known)
