r"""The time to an event, which of some stays is known only to be later than the end of their observation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from cm2.calibration import EventBy, Forecast, Line, Probability, Recalibration, fitted_line
from cm2.errors import InputError
from cm2.tasks.contract import Task
from cm2.tasks.measures import Measured, concordance, mean_of
from cm2.tasks.records import Count, Metric
from cm2.tasks.scales import at_least_single, compact_logits, expanded_logits, start_log_odds

EVENTS = 10
"""Events of training stays in an interval, at least: fewer say nothing of its hazard, and of a credentialed cohort its ends too much."""
DIGITS = 3
"""Significant digits of the ends of intervals."""
TINY = 1e-6
"""Smallest hazard and survival that are pooled: float32 has no smaller difference from 1."""


def _hazards(prediction: NDArray) -> NDArray:
    """Of each interval ``(n, J)``, from survival curves ``(n, J)``."""
    before = np.concatenate([np.ones((len(prediction), 1)), prediction[:, :-1]], axis=1)
    return np.clip(1 - prediction.astype(np.float64) / np.maximum(before, TINY), TINY, 1 - TINY)


def _recalibrated(line: Line, prediction: NDArray) -> NDArray:
    return np.cumprod(1 - line(_hazards(prediction)), axis=1)


def _concordance(task: Survival, label: NDArray, prediction: NDArray) -> Measured:
    ends = np.array((0.0, *task.edges))
    # the area below the curve: expected time up to the last edge
    curve = np.concatenate([np.ones((len(prediction), 1)), prediction], axis=1)
    return concordance(label, (curve[:, :-1] + curve[:, 1:]) / 2 @ np.diff(ends))


def _log_loss(task: Survival, label: NDArray, prediction: NDArray) -> Measured:
    known, hazard = ~np.isnan(label).any(axis=1), _hazards(prediction)
    each = task.losses(torch.from_numpy(np.log(hazard / (1 - hazard))), torch.from_numpy(np.where(known[:, None], label, 1.0)))
    return mean_of(lambda *_: np.where(known, each.numpy(), np.nan))(label, prediction)


METRICS = (
    Metric("concordance", "Concordance", _concordance, of_task=True),
    Metric("log_loss", "Log loss", _log_loss, higher=False, share=False, of_task=True),
)
"""Concordance of the expected time up to the last edge, and the mean -log-likelihood of a stay."""


@dataclass(frozen=True)
class Survival(Task):
    r"""Labels ``(2,)`` are a time and whether it is that of the event (1) or of censoring (0); outputs are hazards of intervals.

    Time is divided at :math:`0 = t_0 < t_1 < \dots < t_J`; the output :math:`x_j` is the log-odds of the hazard
    :math:`h_j = P(T \le t_j \mid T > t_{j-1})`, and the prediction the survival curve :math:`S_j = \prod_{i \le j} (1 - h_i)`. With an
    event in interval j the loss is :math:`-\log h_j - \sum_{i<j} \log(1 - h_i)`; a stay censored in interval j counts for the intervals
    before, which it survived; what happens after :math:`t_J` is not told apart. Any shape of the hazard can be learnt, and hazards need
    not be proportional.

    References:
        Gensheimer, Narasimhan, "A scalable discrete-time survival model for neural networks", PeerJ 2019
        Kvamme, Borgan, "Continuous and discrete-time survival prediction with neural networks", Lifetime Data Analysis 2021

    Args:
        name: of the event.
        description: what the event is, and from when time is counted.
        unit: of time, for example ``d``.
        bins: J at most, where ``edges`` are not given.
        edges: :math:`t_1, \dots, t_J`; by default ``write_cohort`` takes quantiles of the training stays' events.
        horizon: last edge; 0: after the last event.

    Raises:
        ValueError: edges that do not ascend from above 0, no bins, or a horizon below 0.
    """

    unit: str = ""
    bins: int = 16
    edges: tuple[float, ...] = ()
    horizon: float = 0.0

    type: ClassVar[str] = "survival"
    quantity: ClassVar[str] = "survival"
    criterion: ClassVar[str] = "concordance"
    offers: ClassVar[tuple[Metric, ...]] = METRICS
    unknown: ClassVar[float] = float("nan")
    stored: ClassVar[str] = "float64"
    uncalibrated: ClassVar[str] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        ends = (0.0, *self.edges)
        if not all(np.isfinite(ends)) or any(later <= earlier for earlier, later in pairwise(ends)):
            raise InputError(f"{self.name}: edges {list(self.edges)}; give the ends of the intervals of time, ascending, all above 0")
        if self.bins < 1 or not self.horizon >= 0:
            raise InputError(f"{self.name}: bins {self.bins} and horizon {self.horizon}; give one bin or more and a horizon of 0 or more")

    @property
    def expected(self) -> str:  # type: ignore[override]  # of its two columns
        """What either column holds."""
        return f"a time above 0 in {self.name}.time and 0 or 1 in {self.name}.event, or NaN and -1 (unknown)"

    @property
    def outputs(self) -> int:
        """J."""
        return len(self.edges) or self.bins

    @property
    def parts(self) -> tuple[str, ...]:
        """``time`` and ``event``."""
        return ("time", "event")

    @property
    def predicted(self) -> tuple[str, ...]:
        """The intervals, by their ends."""
        return tuple(f"{edge:g}" for edge in self.edges) or tuple(map(str, range(1, self.bins + 1)))

    def settings(self) -> dict[str, Any]:
        """Unit, edges and horizon."""
        return {"unit": self.unit, "bins": self.bins, "edges": list(self.edges), "horizon": self.horizon}

    @classmethod
    def schema(cls) -> Mapping[str, Any]:
        """Unit, edges and horizon."""
        return {"unit?": str, "bins?": int, "edges?": [float], "horizon?": float}

    def fitted(self, label: NDArray) -> Task:
        """With edges at quantiles of the times of these events, unless they were given."""
        time, event = label.T
        times = time[event == 1]
        times = times[times <= self.horizon] if self.horizon else times
        if self.edges or not len(times):
            return self
        bins = int(np.clip(len(times) // EVENTS, 1, self.bins))
        inner = [float(f"{edge:.{DIGITS}g}") for edge in np.quantile(times, np.arange(1, bins) / bins)]
        last = self.horizon or _rounded_up(float(times.max()))
        return replace(self, edges=(*sorted({edge for edge in inner if 0 < edge < last}), last))

    def check(self, stays: pd.DataFrame, called: Callable[[int], str]) -> None:
        """As `Task.check`; and a time has an event or a censoring, and the reverse."""
        super().check(stays, called)
        time, event = (pd.to_numeric(stays[column]).to_numpy(dtype=np.float64, na_value=np.nan) for column in self.columns)
        lonely = np.isnan(time) != (np.isnan(event) | (event == -1))
        if lonely.any():
            row = int(np.flatnonzero(lonely)[0])
            has, lacks = self.columns[::-1] if np.isnan(time[row]) else self.columns
            raise InputError(f"{lacks}: {called(row)} has none, though it has {has}; give both, or NaN and -1 where the outcome is unknown")

    def written(self, stays: pd.DataFrame) -> dict[str, pd.Series]:
        """Time as a number, the event as 0, 1 or -1."""
        time, event = self.columns
        happened = pd.to_numeric(stays[event]).astype("float64").fillna(-1).astype("int8")
        return {time: stays[time].astype("float64"), event: happened}

    def read(self, stays: pd.DataFrame) -> NDArray:
        """Times and events ``(n, 2)``, NaN where unknown."""
        time, event = (stays[column].to_numpy(dtype=np.float64) for column in self.columns)
        known = ~np.isnan(time) & (event >= 0)
        return np.where(known[:, None], np.stack([time, event], axis=1), np.nan)

    def _fits(self, column: str, values: NDArray) -> NDArray:
        if column == self.columns[0]:
            return np.isfinite(values) & (values > 0)
        return np.isin(values, (0, 1, -1))

    def counts(self, label: NDArray) -> dict[str, Count]:
        """Stays and events."""
        known = ~np.isnan(label).any(axis=1)
        return {"event": Count(int(known.sum()), int((label[known, 1] == 1).sum()))}

    def smallest(self, label: NDArray) -> int:
        """Stays with the event: of the others there may be none."""
        return self.counts(label)["event"].positives or 0

    def enough(self, label: NDArray) -> bool:
        """Ten events at least."""
        return self.smallest(label) >= EVENTS

    def lacks(self, label: NDArray, training: bool = False) -> str:
        """Two stays whose events come in a known order."""
        known = ~np.isnan(label).any(axis=1)
        time, event = label[known].T
        ordered = len(time) > 1 and bool((event == 1).any()) and time[event == 1].min() < time.max()
        return "" if ordered else self._lacking(label)

    def _lacking(self, label: NDArray) -> str:
        events = self.counts(label)["event"].positives
        return f"have {'all the same time' if events else 'no event'}; a method needs an event before the end of another stay there"

    def _interval(self, label: Tensor) -> tuple[Tensor, Tensor]:
        """Number of intervals that a stay survived, and whether its event is in the next one, each ``(B,)``."""
        if not self.edges:
            raise InputError(f"{self.name}: the task has no edges; give them, or take the task from a cohort, which has them")
        ends = torch.tensor(self.edges, dtype=label.dtype, device=label.device)
        time, event = label[..., 0].contiguous(), label[..., 1] == 1
        before, through = torch.bucketize(time, ends), torch.bucketize(time, ends, right=True)
        return torch.where(event, before, through), event & (before < len(self.edges))

    def known(self, label: Tensor) -> Tensor:
        """Stays with a time ``(B,)``."""
        return ~label.isnan().any(dim=-1)

    def losses(self, output: Tensor, label: Tensor) -> Tensor:
        """-log-likelihoods ``(B,)``."""
        wide = at_least_single(output)
        survived, ended = self._interval(label)
        at = torch.arange(wide.shape[-1], device=wide.device)
        through = torch.where(at < survived[:, None], logsigmoid(-wide), 0).sum(dim=-1)
        ending = torch.where((at == survived[:, None]) & ended[:, None], logsigmoid(wide), 0).sum(dim=-1)
        return -through - ending

    def start(self, label: Tensor) -> Tensor:
        """Log-odds of each interval's hazard: events among the stays at risk."""
        survived, ended = self._interval(label[self.known(label)])
        at = torch.arange(self.outputs, device=label.device)
        events = ((at == survived[:, None]) & ended[:, None]).sum(dim=0)
        return start_log_odds(events, (at < survived[:, None]).sum(dim=0))

    def prediction(self, output: Tensor) -> Tensor:
        """Survival curve ``(..., J)`` at the edges."""
        return logsigmoid(-at_least_single(output)).cumsum(dim=-1).exp()

    def pooled(self, output: Tensor, present: Tensor) -> Tensor:
        """Log-odds of the hazards of the mean survival curve."""
        curve = self.prediction(output)
        mean = torch.where(present[..., None], curve, 0).sum(dim=1) / present.sum(dim=1, keepdim=True)
        before = torch.cat((torch.ones_like(mean[:, :1]), mean[:, :-1]), dim=1).clamp(min=TINY)
        return (1 - mean / before).clamp(TINY, 1 - TINY).logit()

    @property
    def horizons(self) -> tuple[int, ...]:
        """Intervals at whose ends calibration is asked for: about a quarter, half and three quarters of them, so of the training events."""
        return tuple(sorted({max(0, round(share * len(self.edges)) - 1) for share in (0.25, 0.5, 0.75)}))

    def forecasts(self, label: NDArray, prediction: NDArray) -> dict[str, Forecast]:
        """The probability of an event by each of the `horizons`."""
        unit = f" {self.unit}" if self.unit else ""
        return {f"by {self.edges[j]:g}{unit}": EventBy(1 - prediction[:, j], label, self.edges[j]) for j in self.horizons}

    def recalibration(self, label: NDArray, prediction: NDArray) -> Recalibration:
        """A line on the scale of the hazards' log-odds, fitted to every interval that a stay entered and whose end is known."""
        given = torch.from_numpy(label[~np.isnan(label).any(axis=1)])
        survived, ended = (each.numpy()[:, None] for each in self._interval(given))
        hazard, at = _hazards(prediction[~np.isnan(label).any(axis=1)]), np.arange(len(self.edges))
        comes = (at == survived) & ended
        entered = (at < survived) | comes
        line = fitted_line(Probability(hazard[entered], comes[entered].astype(np.float64)))
        return Recalibration.by_line(line, None if isinstance(line, str) else partial(_recalibrated, line))

    def compact(self, prediction: NDArray) -> NDArray:
        """Log-odds of the hazards, of which rounding makes no curve that rises."""
        return compact_logits(_hazards(prediction))

    def expanded(self, compact: NDArray) -> NDArray:
        """Survival curves."""
        return np.cumprod(1 - expanded_logits(compact), axis=-1)


def _rounded_up(time: float) -> float:
    """To two significant digits."""
    step = 10.0 ** (np.floor(np.log10(time)) - 1)
    return float(f"{np.ceil(time / step * (1 - 1e-12)) * step:.6g}")
