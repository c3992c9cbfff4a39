"""Maximisation of smooth functions with as few evaluations as possible, because each is a pass over the data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_LIMIT = 80


@dataclass(frozen=True)
class ScalarMaximum:
    """A maximum on an interval.

    Attributes:
        point, value: location and value of the maximum.
        curvature: second derivative there, from the evaluated slopes; NaN at an end of the interval.
        converged: whether the last step was within the tolerance.
        at_boundary: whether the point is an end of the interval at which the function still increases outwards.
        evaluations: number of calls.
    """

    point: float
    value: float
    curvature: float
    converged: bool
    at_boundary: bool
    evaluations: int


def maximise_scalar(
    function: Callable[[float], tuple[float, float]],
    start: float,
    lower: float,
    upper: float,
    curvature: float | None = None,
    tolerance: float = 1e-9,
) -> ScalarMaximum:
    r"""Maximum of a unimodal function on [lower, upper], as the root of its slope.

    Newton steps with the derivative of the parabola through the last three slopes (of order 1.8, without second derivatives), inside the
    bracket given by the signs of the slopes. The last step is taken without another evaluation: its error is of the order of the product
    of the last two steps, which `tolerance` bounds relative to the point.

    Args:
        function: x -> (value, slope).
        start: first point.
        lower, upper: ends of the interval.
        curvature: second derivative near the maximum, if known, for the first step.
        tolerance: error of the point, relative to 1 + its size.
    """
    low, high = lower, upper
    x, reach, previous = min(max(start, lower), upper), 0.5, math.inf
    seen: list[tuple[float, float]] = []
    for count in range(1, _LIMIT + 1):
        value, slope = function(x)
        if not math.isfinite(slope):
            raise FloatingPointError(f"the log-likelihood has the slope {slope} at {x:g}; no step can be taken from there")
        seen = [*seen[-2:], (x, slope)]
        if slope == 0 or (x == lower and slope < 0) or (x == upper and slope > 0):
            return ScalarMaximum(x, value, _derivative(seen, x) if slope == 0 else math.nan, True, slope != 0, count)
        low, high = (x, high) if slope > 0 else (low, x)
        bend = _derivative(seen, x) if len(seen) > 1 else curvature
        # without a negative curvature, one that makes the step as long as allowed
        bend = bend if bend is not None and bend < 0 else -abs(slope) / (reach * (1 + abs(x)))
        limit = reach * (1 + abs(x))
        step = min(max(-slope / bend, -limit), limit)
        scale = 1 + abs(x)
        settled = abs(step) < limit and abs(step) / scale * min(1.0, previous / scale) <= tolerance
        if settled and (len(seen) > 1 or curvature is not None):
            return ScalarMaximum(x + step, value + slope * step / 2, _derivative(seen, x + step, bend), True, False, count)
        reach = 2 * reach if abs(step) == limit else reach
        previous = abs(step)
        ahead = x + step
        inside = low < ahead < high
        beyond = lower if ahead <= low == lower else upper if ahead >= high == upper else (low + high) / 2
        x = ahead if inside else beyond
    return ScalarMaximum(x, value, _derivative(seen, x), False, False, _LIMIT)


def _derivative(seen: list[tuple[float, float]], at: float, otherwise: float = math.nan) -> float:
    """Derivative at `at` of the polynomial through two or three points (x, y), by Newton's divided differences."""
    if len(seen) < 2:
        return otherwise
    (x1, y1), (x2, y2) = seen[-2:]
    if x1 == x2:
        return otherwise
    first = (y2 - y1) / (x2 - x1)
    x0, y0 = seen[0]
    if len(seen) == 2 or x0 in (x1, x2):
        return first
    second = (first - (y1 - y0) / (x1 - x0)) / (x2 - x0)
    return first + second * ((at - x1) + (at - x2))


@dataclass(frozen=True)
class Maximum:
    """An unconstrained maximum: point, value, whether the gradient vanishes there, and number of evaluations."""

    point: np.ndarray
    value: float
    converged: bool
    evaluations: int


def maximise(
    function: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    hessian: np.ndarray | None = None,
    tolerance: float = 1e-7,
) -> Maximum:
    """Local maximum by BFGS (L-BFGS for more than 100 parameters).

    Args:
        function: x -> (value, gradient), of order 1.
        start: first point.
        hessian: second derivatives near the maximum, if known; they save most of the steps.
        tolerance: largest component of the gradient that counts as zero.
    """
    from scipy import optimize  # imported late: a sixth of the time that importing the copulas takes

    calls = 0

    def descent(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal calls
        calls += 1
        value, gradient = function(x)
        if not math.isfinite(value):
            return math.inf, np.zeros_like(x)
        return -value, -gradient

    if len(start) > 100:
        found = optimize.minimize(descent, start, jac=True, method="L-BFGS-B", options={"gtol": tolerance, "ftol": 0.0, "maxiter": 2000})
    else:
        options: dict[str, float | np.ndarray] = {"gtol": tolerance, "maxiter": 500}
        if hessian is not None and np.linalg.eigvalsh(hessian).max() < 0:
            inverse = np.linalg.inv(-hessian)
            options["hess_inv0"] = (inverse + inverse.T) / 2
        found = optimize.minimize(descent, start, jac=True, method="BFGS", options=options)
    # if the line search stops because of rounding, the gradient decides whether the point is a maximum
    converged = bool(np.abs(found.jac).max() <= max(tolerance, 1e-5))
    return Maximum(found.x, -float(found.fun), converged, calls)


def hessian_of(gradient: Callable[[np.ndarray], np.ndarray], point: np.ndarray) -> np.ndarray:
    """Second derivatives at a point by central differences of an exact gradient: two evaluations per parameter, error about 1e-9."""
    columns = []
    for i, x in enumerate(point):
        step = np.zeros_like(point)
        step[i] = 1e-5 * (1 + abs(x))
        columns.append((gradient(point + step) - gradient(point - step)) / (2 * step[i]))
    matrix = np.stack(columns, -1)
    return (matrix + matrix.T) / 2  # differences are symmetric up to their error only
