r"""The reliability curve and its summaries, each with its dependence on the stays.

With link g, predictions p and outcomes y, calibration in the large is the :math:`a` of :math:`g(E[y]) = a + g(p)`, and the slope the
:math:`b` of :math:`g(E[y]) = a + b\, g(p)`; both are solutions of likelihood equations, whose standard errors do not ask for the model to
be right (the sandwich, from the infinitesimal jackknife of `cm2.uncertainty`). Calibrated predictions have :math:`a = 0` and :math:`b = 1`;
predictions that are too extreme have :math:`b < 1`.

The squared error is the mean over equal groups of stays of the squared difference of mean prediction and mean outcome. By chance alone a
difference is not 0, and its square is too large by its variance, which is subtracted: the result is unbiased, and may be below 0. What
cancels out within a group is not seen.

References:
    Cox, "Two further applications of a model for binary regression", Biometrika 1958 (intercept and slope)
    Van Calster, McLernon, van Smeden, Wynants, Steyerberg, "Calibration: the Achilles heel of predictive analytics", BMC Medicine 2019
    Bröcker, "Estimating reliability and resolution of probability forecasts through decomposition of the empirical score", Climate Dynamics
    2012; Kumar, Liang, Ma, "Verified uncertainty calibration", NeurIPS 2019 (the unbiased squared error)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from cm2.calibration.forecasts import Forecast, Scale
from cm2.errors import InputError
from cm2.metrics import Interval
from cm2.uncertainty import FEWEST, Measured, interval_of

BINS = 10
"""Groups of stays of a curve, where there are enough."""


class Bin(NamedTuple):
    """A group of stays with neighbouring predictions."""

    predicted: float
    """Mean prediction."""
    observed: Interval
    """Mean outcome with its 95 % interval."""
    n: int
    """Stays that take part."""
    positives: int | None
    """Those of them in which the claim came true; None where nothing is told apart."""


@dataclass(frozen=True)
class Calibration:
    """How far a forecast is calibrated. None where fewer than ten outcomes are of a kind, or where the stays do not determine a number."""

    n: int
    """Stays that take part."""
    positives: int | None
    """Those of them in which the claim came true; None where nothing is told apart."""
    smaller: int
    """Size of the smaller group of outcomes."""
    predicted: float
    """Mean prediction."""
    observed: Interval
    """Mean outcome with its 95 % interval."""
    large: Measured | None
    """Calibration in the large, on the link's scale: 0 is right, above 0 predictions are too low."""
    slope: Measured | None
    """1 is right, below 1 predictions are too extreme."""
    error: Measured | None
    """Squared calibration error, unbiased."""
    bins: tuple[Bin, ...]
    """The reliability curve."""


def calibration(forecast: Forecast, bins: int = BINS) -> Calibration:
    """Everything about one forecast.

    Args:
        forecast: see `cm2.tasks.Task.forecasts`.
        bins: groups of stays; fewer where a group would have fewer than ten.

    Raises:
        InputError: no bins.
    """
    mean = float(forecast.predicted[forecast.known].mean()) if forecast.n else math.nan
    counts, told = (forecast.n, forecast.positives, forecast.smaller), forecast.smaller >= FEWEST
    large, line, squared = (in_the_large(forecast), intercept_and_slope(forecast), error(forecast, bins)) if told else (None, None, None)
    slope = None if line is None else line[1]
    return Calibration(*counts, mean, forecast.observed(), large, slope, squared, reliability(forecast, bins))


def reliability(forecast: Forecast, bins: int = BINS) -> tuple[Bin, ...]:
    """Groups of equal numbers of stays by their prediction, the lowest first; equal predictions share a group. As `calibration`."""
    at, parts = groups(forecast, bins), []
    for group in range(at.max(initial=-1) + 1):
        part = forecast.within(at == group)
        parts.append(Bin(float(part.predicted.mean()), part.observed(), part.n, part.positives))
    return tuple(parts)


def groups(forecast: Forecast, bins: int = BINS) -> NDArray:
    """Group of each stay ``(n,)``, from 0 on; -1 for stays that take no part. Errors as `calibration`."""
    if bins < 1:
        raise InputError(f"calibration: {bins} bins; give one or more")
    known = forecast.known
    at = np.full(len(known), -1)
    if not known.any():
        return at
    p = forecast.predicted[known]
    count = max(1, min(bins, len(p) // FEWEST))
    place = np.searchsorted(np.quantile(p, np.arange(1, count) / count), p)
    # of many equal predictions a group may be empty, or left with one stay, of which there is no variance: it joins the one below
    sizes = np.bincount(place, minlength=count)
    starts = np.cumsum(sizes > 1)
    at[known] = np.maximum(starts[place] - 1, 0)
    return at


def in_the_large(forecast: Forecast) -> Measured | None:
    """Calibration in the large with its dependence on the stays; None where all outcomes are the same, so that no finite one fits."""
    some = forecast.weight > 0
    if forecast.positives is not None and not forecast.smaller:
        return None
    line = forecast.scale.link(forecast.predicted[some])
    return _solved(forecast, some, np.ones((int(some.sum()), 1)), line)[0]


def intercept_and_slope(forecast: Forecast) -> tuple[Measured, Measured] | None:
    """Both coefficients of the calibration line. None where predictions are all equal or separate the outcomes: no slope fits best then."""
    some = forecast.weight > 0
    line, outcome = forecast.scale.link(forecast.predicted[some]), forecast.target[some]
    if len(line) < 3 or np.ptp(line) == 0 or (forecast.positives is not None and _separate(line, outcome)):
        return None
    intercept, slope = _solved(forecast, some, np.stack([np.ones_like(line), line], axis=1), np.zeros_like(line))
    return intercept, slope


def error(forecast: Forecast, bins: int = BINS) -> Measured | None:
    """The squared calibration error, unbiased, with its dependence on the stays; None of fewer than two stays. See `root`."""
    at, n = groups(forecast, bins), forecast.n
    if n < 2:
        return None
    difference = forecast.weight * (forecast.target - forecast.predicted)
    sizes = np.bincount(at[at >= 0])
    mean = np.bincount(at[at >= 0], difference[at >= 0]) / sizes
    centred = np.where(at >= 0, difference - mean[at], 0)
    variance = np.bincount(at[at >= 0], centred[at >= 0] ** 2) / np.maximum(sizes - 1, 1) / sizes
    value = float((sizes * (mean**2 - variance)).sum() / n)
    # of a group: its squared difference counts with its size, and the difference changes with each of its stays
    influence = mean[at] ** 2 + 2 * mean[at] * centred
    influence = np.where(at >= 0, influence - float((sizes * mean**2).sum() / n), 0)
    return Measured(value, influence / math.sqrt(n * (n - 1)), float(max(forecast.smaller - 1, 1)))


def root(squared: Measured) -> Interval:
    """The root of a squared error, with its 95 % interval: in the unit of the predictions, 0 where the square is below 0."""
    found = interval_of(squared)
    estimate, low, high = (math.sqrt(max(value, 0.0)) for value in (found.estimate, found.low, found.high))
    return Interval(estimate, low, high)


def _separate(line: NDArray, outcome: NDArray) -> bool:
    """Whether a threshold tells the outcomes apart: the slope that fits best is infinite then."""
    one, zero = line[outcome == 1], line[outcome == 0]
    return not len(one) or not len(zero) or one.min() >= zero.max() or one.max() <= zero.min()


def _solved(forecast: Forecast, some: NDArray, design: NDArray, offset: NDArray) -> list[Measured]:
    """Coefficients that solve the likelihood equations, each with its dependence on all stays.

    Args:
        forecast: whose outcomes are explained.
        some: stays with a weight, bool ``(n,)``, k of them.
        design: ``(k, c)``.
        offset: ``(k,)``, what is explained already.
    """
    target, weight = forecast.target[some], forecast.weight[some]
    found = solve(forecast.scale, design, target, weight, offset)
    mean = forecast.scale.mean(design @ found + offset)
    bread = (design * (weight * forecast.scale.variance(mean))[:, None]).T @ design
    deviations = np.zeros((len(some), design.shape[1]))
    n = forecast.n
    deviations[some] = np.linalg.solve(bread, (design * (weight * (target - mean))[:, None]).T).T * math.sqrt(n / (n - 1))
    df = float(max(forecast.smaller - 1, 1))
    return [Measured(float(value), column, df) for value, column in zip(found, deviations.T, strict=True)]


def solve(scale: Scale, design: NDArray, target: NDArray, weight: NDArray, offset: NDArray) -> NDArray:
    """Coefficients ``(c,)`` of the largest weighted likelihood on a scale.

    Args:
        scale: with its potential.
        design: ``(k, c)``.
        target: ``(k,)``.
        weight: ``(k,)``, not all 0.
        offset: ``(k,)``.
    """
    share = weight / weight.sum()

    def loss(coefficients: NDArray) -> float:
        line = design @ coefficients + offset
        return float(share @ (scale.potential(line) - target * line))

    def gradient(coefficients: NDArray) -> NDArray:
        return design.T @ (share * (scale.mean(design @ coefficients + offset) - target))

    def curvature(coefficients: NDArray) -> NDArray:
        return (design * (share * scale.variance(scale.mean(design @ coefficients + offset)))[:, None]).T @ design

    start = np.zeros(design.shape[1])
    start[1:] = 1.0  # calibrated
    found = minimize(loss, start, jac=gradient, hess=curvature, method="trust-exact", options={"gtol": 1e-9}).x
    # the loss cannot tell the last digits, its gradient can
    return found - np.linalg.solve(curvature(found), gradient(found))
