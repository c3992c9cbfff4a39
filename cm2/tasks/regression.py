"""A number, such as the length of a stay in days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cm2.calibration import Forecast, Mean, Recalibration, fitted_line
from cm2.errors import InputError
from cm2.tasks.contract import Task
from cm2.tasks.measures import explained, mean_of
from cm2.tasks.records import Count, Metric, Single
from cm2.tasks.scales import at_least_single

DIGITS = 4
"""Significant digits of mean and scale: a unit of the network's output, for which more are not needed."""


def _square(label: NDArray, prediction: NDArray) -> NDArray:
    return (prediction - label) ** 2


def _distance(label: NDArray, prediction: NDArray) -> NDArray:
    return np.abs(prediction - label)


METRICS = (
    Metric("rmse", "RMSE", mean_of(_square, root=True), higher=False, share=False),
    Metric("mae", "MAE", mean_of(_distance), higher=False, share=False),
    Metric("r2", "R²", explained, share=False),
)
"""Root of the mean squared error and mean absolute error, in the unit of the labels, and R²."""
IN_UNIT = ("rmse", "mae")
"""Those in the unit of the labels."""


@dataclass(frozen=True)
class Regression(Task):
    """Labels are numbers; the output is the label in standard deviations of the training stays, the loss half its squared error.

    The loss is that of a normal distribution with variance 1 on this scale, up to a constant, so that its weight beside other terms does
    not depend on the unit.

    Args:
        name: of the number.
        description: what it is.
        unit: for example ``d``; empty for a dimensionless number.
        mean: of the training stays; ``write_cohort`` fills it in.
        scale: their standard deviation, likewise.

    Raises:
        ValueError: a mean that is not finite, or a scale that is not above 0.
    """

    unit: str = ""
    mean: float = 0.0
    scale: float = 1.0

    type: ClassVar[str] = "regression"
    quantity: ClassVar[str] = "value"
    criterion: ClassVar[str] = "rmse"
    offers: ClassVar[tuple[Metric, ...]] = METRICS
    unknown: ClassVar[float] = float("nan")
    stored: ClassVar[str] = "float64"
    expected: ClassVar[str] = "finite numbers, or NaN (unknown)"
    range: ClassVar[str] = "finite numbers"
    uncalibrated: ClassVar[str] = ""
    unjudged: ClassVar[str] = (
        "A prediction is a mean without a distribution around it, so whether intervals of single stays cover cannot be judged."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (np.isfinite(self.mean) and np.isfinite(self.scale) and self.scale > 0):
            raise InputError(f"{self.name}: mean {self.mean} and scale {self.scale}; give a finite mean and a finite scale above 0")

    @property
    def metrics(self) -> dict[str, Metric]:
        """As `METRICS`, with the unit in the headings."""
        unit = f" ({self.unit})" if self.unit else ""
        return {metric.name: replace(metric, heading=metric.heading + unit * (metric.name in IN_UNIT)) for metric in METRICS}

    def settings(self) -> dict[str, Any]:
        """Unit, mean and scale."""
        return {"unit": self.unit, "mean": self.mean, "scale": self.scale}

    @classmethod
    def schema(cls) -> Mapping[str, Any]:
        """Unit, mean and scale."""
        return {"unit?": str, "mean?": float, "scale?": float}

    def fitted(self, label: NDArray) -> Task:
        """With mean and standard deviation of these labels, unless they were given."""
        known = label[~np.isnan(label)]
        if (self.mean, self.scale) != (0.0, 1.0) or len(known) < 2 or np.ptp(known) == 0:
            return self
        return replace(self, mean=float(f"{known.mean():.{DIGITS}g}"), scale=float(f"{known.std():.{DIGITS}g}"))

    def _fits(self, column: str, values: NDArray) -> NDArray:
        return np.isfinite(values)

    def counts(self, label: NDArray) -> dict[str, Count]:
        """Stays."""
        return {"all": Count(int((~np.isnan(label)).sum()))}

    def lacks(self, label: NDArray, training: bool = False) -> str:
        """Labels have to differ."""
        known = label[~np.isnan(label)]
        return self._lacking(label) if len(known) < 2 or np.ptp(known) == 0 else ""

    def _lacking(self, label: NDArray) -> str:
        # not which: it may be a single stay's
        return f"{'do not differ' if (~np.isnan(label)).any() else 'are none'}; a method needs different ones there"

    def losses(self, output: Tensor, label: Tensor) -> Tensor:
        """Half the squared errors ``(B,)`` in standard deviations."""
        wide = at_least_single(output.reshape(label.shape))
        return (wide - (label - self.mean) / self.scale).square() / 2

    def start(self, label: Tensor) -> Tensor:
        """The mean."""
        known = label[~label.isnan()]
        return ((known.sum() / max(len(known), 1) - self.mean) / self.scale).reshape(1) if len(known) else label.new_zeros(1)

    def prediction(self, output: Tensor) -> Tensor:
        """In the unit of the labels."""
        return self.mean + self.scale * output.squeeze(-1)

    def pooled(self, output: Tensor, present: Tensor) -> Tensor:
        """The mean."""
        return torch.where(present[..., None], output, 0).sum(dim=1) / present.sum(dim=1, keepdim=True)

    def plausible(self, prediction: NDArray) -> NDArray:
        """Those that are finite."""
        return np.isfinite(prediction)

    def singles(self, label: NDArray) -> list[Single]:
        """The number in standard deviations."""
        return [Single((label - self.mean) / self.scale, 0)]

    def forecasts(self, label: NDArray, prediction: NDArray) -> dict[str, Forecast]:
        """The mean."""
        return {"mean": Mean(prediction, label)}

    def recalibration(self, label: NDArray, prediction: NDArray) -> Recalibration:
        """A line."""
        return Recalibration.by_line(fitted_line(Mean(prediction, label)))

    def compact(self, prediction: NDArray) -> NDArray:
        """In standard deviations."""
        return ((prediction - self.mean) / self.scale).astype(np.float16)

    def expanded(self, compact: NDArray) -> NDArray:
        """In the unit of the labels."""
        return self.mean + self.scale * compact.astype(np.float64)
