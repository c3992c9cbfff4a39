"""Recalibration: a change of predictions with one or two numbers, fitted on stays that neither trained the method nor test it.

References:
    Platt, "Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods", 1999
    Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017 (temperature)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from cm2.calibration.forecasts import Forecast, Scale
from cm2.calibration.reliability import intercept_and_slope
from cm2.uncertainty import FEWEST

HOTTEST = 20.0
"""Largest temperature, and one over it the smallest: beyond them a prediction is a constant or a certainty."""
TOO_FEW = "too few outcomes"
ANY_LINE = "no line fits best"
REVERSED = "outcomes do not rise with predictions"


class Line(NamedTuple):
    """A straight line on the scale of a link."""

    scale: Scale
    intercept: float
    slope: float

    def __call__(self, predicted: NDArray) -> NDArray:
        """Predictions, changed."""
        return self.scale.mean(self.intercept + self.slope * self.scale.link(predicted))

    def __str__(self) -> str:
        return f"intercept {self.intercept:+.3g}, slope {self.slope:.3g}"


@dataclass(frozen=True)
class Recalibration:
    """A change of a task's predictions.

    Args:
        apply: from predictions ``(n,)`` or ``(n, P)`` to changed ones.
        told: by forecast, or by "all", what was fitted; numbers of the fitting stays.
        lacking: by forecast, or by "all", why nothing was: predictions stay as they were there.
    """

    apply: Callable[[NDArray], NDArray]
    told: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def none(cls, why: str) -> Recalibration:
        """One that leaves all predictions as they are."""
        return cls(lambda prediction: prediction, lacking={"all": why})

    def changes(self, name: str) -> bool:
        """Whether it changes a forecast."""
        return not {name, "all"} & set(self.lacking)

    @classmethod
    def by_line(cls, line: Line | str, apply: Callable[[NDArray], NDArray] | None = None) -> Recalibration:
        """One line for all predictions, or why there is none.

        Args:
            line: see `fitted_line`.
            apply: how predictions change; by default they are what the line is about.
        """
        if isinstance(line, str):
            return cls.none(line)
        return cls(line.__call__ if apply is None else apply, {"all": numbers(line)})


def numbers(line: Line) -> dict[str, float]:
    """Intercept and slope."""
    return {"intercept": line.intercept, "slope": line.slope}


def fitted_line(forecast: Forecast) -> Line | str:
    """The calibration line of a forecast, by which the same predictions would be calibrated; or why there is none.

    Fewer than ten outcomes of a kind fit nothing, and predictions that are all equal or separate the outcomes fit no line best. A line that
    does not rise would reverse the order of the stays: that is no calibration of these predictions.
    """
    if forecast.smaller < FEWEST:
        return TOO_FEW
    found = intercept_and_slope(forecast)
    if found is None:
        return ANY_LINE
    return Line(forecast.scale, found[0].value, found[1].value) if found[1].value > 0 else REVERSED


def temperature(label: NDArray, log_probability: NDArray) -> float:
    """The temperature T of ``softmax(log p / T)`` under which labels are most likely; infinite where labels do not follow the predictions.

    Args:
        label: classes ``(n,)``, NaN where unknown.
        log_probability: ``(n, K)``, up to a constant for each stay.
    """
    known = ~np.isnan(label)
    own, logits = label[known].astype(np.int64), log_probability[known]

    def loss(log_temperature: float) -> float:
        cooled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(cooled[np.arange(len(own)), own].mean())

    limit = float(np.log(HOTTEST))
    found = float(minimize_scalar(loss, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-8}).x)
    return float(np.exp(found)) if found < limit - 1e-4 else math.inf
