r"""What a prediction claims of each stay, beside what became of it.

The outcome of a stay that was censored before the horizon of an `EventBy` is unknown. The stays whose outcome is known stand for it, with
the inverse probability of not being censored as their weight, so that the weighted mean of the outcomes is one minus the Kaplan-Meier
curve, exactly.

References:
    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927 (intervals of shares)
    Rothman, "Estimation of confidence limits for the cumulative probability of survival in life-table analysis", J. Chronic Diseases 1978
    (the same with the number of stays that Greenwood's variance is worth)
    Graf, Schmoor, Sauerbrei, Schumacher, "Assessment and comparison of prognostic classification schemes for survival data", Statistics in
    Medicine 1999 (weights)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri

from cm2.errors import InputError
from cm2.metrics import Interval
from cm2.uncertainty import interval_of, measure_mean

FINEST = 2.0**-24
"""Distance of the largest float32 below 1 from 1. On the scale of log-odds, probabilities of exactly 0 and 1 count as that far from it."""
Function = Callable[[NDArray], NDArray]


class Scale(NamedTuple):
    """A scale on which calibration is a straight line, and the likelihood of a canonical generalised linear model on it."""

    link: Function
    """From means to the scale."""
    mean: Function
    """Back."""
    variance: Function
    """Derivative of ``mean``, from means."""
    potential: Function
    """Integral of ``mean``."""


LOG_ODDS = Scale(
    lambda p: logit(np.clip(p, FINEST, 1 - FINEST)), expit, lambda mean: mean * (1 - mean), lambda odds: np.logaddexp(0.0, odds)
)
UNIT = Scale(lambda value: value, lambda value: value, np.ones_like, lambda value: value**2 / 2)


@dataclass(frozen=True)
class Forecast(ABC):
    """A number that is claimed of each stay, and the outcome that it is about.

    Args:
        predicted: ``(n,)``, finite.
        outcome: ``(n,)``, NaN where unknown; of `EventBy` ``(n, 2)``.

    Raises:
        InputError: shapes that disagree, or a prediction that is no such number.
    """

    predicted: NDArray
    outcome: NDArray

    scale: ClassVar[Scale] = LOG_ODDS

    def __post_init__(self) -> None:
        if self.predicted.ndim != 1 or len(self.outcome) != len(self.predicted):
            raise InputError(
                f"calibration: {self.predicted.shape} predictions of {len(self.outcome)} outcomes; give one (n,) for each stay"
            )
        wrong = ~self._possible(self.predicted)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise InputError(f"calibration: the prediction of stay {at + 1} is {self.predicted[at]:g}; {self._expected}")

    _expected: ClassVar[str] = "give probabilities from 0 to 1"

    def _possible(self, predicted: NDArray) -> NDArray:
        return (predicted >= 0) & (predicted <= 1)

    def within(self, stays: NDArray) -> Self:
        """The same of some of the stays, by rows or by bool ``(n,)``."""
        return replace(self, predicted=self.predicted[stays], outcome=self.outcome[stays])

    @property
    def known(self) -> NDArray:
        """Stays that take part, bool ``(n,)``."""
        return ~np.isnan(self.outcome)

    @property
    def target(self) -> NDArray:
        """Outcomes ``(n,)`` as numbers, 0 where ``weight`` is 0."""
        return np.nan_to_num(self.outcome)

    @property
    def weight(self) -> NDArray:
        """For how many stays each stands ``(n,)``; 0 where nothing is known."""
        return self.known.astype(np.float64)

    @property
    def n(self) -> int:
        """Stays that take part."""
        return int(self.known.sum())

    @property
    def positives(self) -> int | None:
        """Those of them in which the claim came true; None where nothing is told apart."""
        return int(self.target[self.known].sum())

    @property
    def smaller(self) -> int:
        """Size of the smaller group of outcomes: what an interval depends on."""
        return self.n if self.positives is None else min(self.positives, self.n - self.positives)

    @abstractmethod
    def observed(self) -> Interval:
        """The mean outcome with its 95 % interval, NaN where there are too few stays for one."""


class Probability(Forecast):
    """The probability that an outcome is 1; outcomes are 0 and 1."""

    def observed(self) -> Interval:
        """The share of ones with Wilson's interval."""
        return wilson((self.positives or 0) / self.n, self.n) if self.n else NOTHING


class Mean(Forecast):
    """The mean of a number, given what was known."""

    scale: ClassVar[Scale] = UNIT
    _expected: ClassVar[str] = "give finite numbers"

    def _possible(self, predicted: NDArray) -> NDArray:
        return np.isfinite(predicted)

    @property
    def positives(self) -> None:
        """Nothing is told apart."""
        return None

    def observed(self) -> Interval:
        """The mean with the interval of Student's t."""
        values = self.outcome[self.known]
        return interval_of(measure_mean(values)) if len(values) > 1 else NOTHING


@dataclass(frozen=True)
class EventBy(Forecast):
    """The probability that an event comes at a time or before; outcomes are times and whether they are those of the event ``(n, 2)``.

    Args:
        horizon: the time, above 0.
    """

    horizon: float = math.inf

    @property
    def known(self) -> NDArray:
        """Stays with a time, which need not be long enough to know the outcome."""
        return ~np.isnan(self.outcome).any(axis=1)

    @cached_property
    def _status(self) -> tuple[NDArray, NDArray]:
        """Stays whose event came by the horizon, and those that were observed to the horizon without it, bool ``(n,)``."""
        time, event = self.outcome.T
        came = (event == 1) & (time <= self.horizon)
        return came, self.known & ~came & (time >= self.horizon)

    @property
    def target(self) -> NDArray:
        """Whether the event came by the horizon."""
        return self._status[0].astype(np.float64)

    @cached_property
    def weight(self) -> NDArray:
        """Inverse probability of not being censored before the event or the horizon; 0 for stays that were."""
        came, free = self._status
        weight, told = np.zeros(len(came)), came | free
        if told.any():
            weight[told] = 1 / self._uncensored(np.minimum(self.outcome[told, 0], self.horizon))
        return weight

    @property
    def positives(self) -> int:
        """Stays whose event came by the horizon."""
        return int(self._status[0].sum())

    @property
    def smaller(self) -> int:
        """The smaller group of stays whose outcome is known: those censored before the horizon are in neither."""
        return min(int(part.sum()) for part in self._status)

    def _uncensored(self, times: NDArray) -> NDArray:
        """Probability that a stay is not censored before each of ``times``; at equal times an event comes before a censoring."""
        time, event = self.outcome[self.known].T
        at, lost = np.unique(time[event == 0], return_counts=True)
        risk = len(time) - np.searchsorted(np.sort(time), at, side="right") + lost
        kept = np.concatenate([[1.0], np.cumprod(1 - lost / risk)])
        return kept[np.searchsorted(at, times, side="left")]

    def observed(self) -> Interval:
        """One minus the Kaplan-Meier curve at the horizon, with Rothman's interval, which is Wilson's where nobody was censored."""
        if not self.n:
            return NOTHING
        time, event = self.outcome[self.known].T
        at, events = np.unique(time[(event == 1) & (time <= self.horizon)], return_counts=True)
        risk = len(time) - np.searchsorted(np.sort(time), at, side="left")
        survival = float(np.prod(1 - events / risk))
        spread = float((events / (risk * np.maximum(risk - events, 1))).sum())
        beyond = int((time >= self.horizon).sum())
        # stays without censoring that would have this variance; of no event, or nobody left, those at risk at the end
        size = (1 - survival) / (survival * spread) if 0 < survival < 1 else max(beyond, int(risk[-1]) if len(risk) else 0)
        return wilson(1 - survival, size) if size else Interval(1 - survival, math.nan, math.nan)


NOTHING = Interval(math.nan, math.nan, math.nan)


def wilson(share: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's interval of a share of n stays, which need not be a whole number."""
    z = float(ndtri((1 + level) / 2))
    centre, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return Interval(share, max((centre - half) / (1 + z**2 / n), 0.0), min((centre + half) / (1 + z**2 / n), 1.0))
