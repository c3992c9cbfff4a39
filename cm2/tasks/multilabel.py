"""Several outcomes at once, such as the 25 phenotypes of the MIMIC benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cm2.calibration import Forecast, Probability, Recalibration, fitted_line
from cm2.calibration.recalibration import numbers
from cm2.config.schema import plain_name
from cm2.tasks.contract import Task, distinct_names
from cm2.tasks.measures import all_labels, each_label, mean_of
from cm2.tasks.records import Count, Metric, Single
from cm2.tasks.scales import at_least_single, compact_logits, expanded_logits, mean_log_odds, start_log_odds


def _brier(label: NDArray, prediction: NDArray) -> NDArray:
    """Mean over a stay's known labels of the squared distance; NaN where none is known."""
    known = ~np.isnan(label)
    total = np.where(known, (prediction - np.nan_to_num(label)) ** 2, 0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


def _only(label: NDArray) -> float:
    """Log-odds of a label that has one value alone, with half a stay of either more."""
    return float(np.log((np.sum(label == 1) + 0.5) / (np.sum(label == 0) + 0.5)))


METRICS = (
    Metric("macro_auroc", "Macro AUROC", each_label("auroc")),
    Metric("macro_aupr", "Macro AUPR", each_label("aupr")),
    Metric("micro_auroc", "Micro AUROC", all_labels("auroc")),
    Metric("brier", "Brier score", mean_of(_brier), higher=False),
)
"""AUROC and AUPR averaged over the labels, AUROC of all labels at once, and the mean Brier score."""


@dataclass(frozen=True)
class Multilabel(Task):
    """Labels ``(L,)`` of 0 and 1, any of which may be unknown; outputs are log-odds, the loss the mean cross-entropy of what is known.

    Macro metrics are means over the labels that have both outcomes among the stays.

    References:
        Harutyunyan, Khachatrian, Kale, Ver Steeg, Galstyan, "Multitask learning and benchmarking with clinical time series data",
        Scientific Data 2019 (the phenotypes)

    Args:
        name: of the task.
        description: what the labels are.
        labels: their names, two or more.

    Raises:
        ValueError: fewer than two labels, or two of one name.
    """

    labels: tuple[str, ...] = ()

    type: ClassVar[str] = "multilabel"
    criterion: ClassVar[str] = "macro_auroc"
    offers: ClassVar[tuple[Metric, ...]] = METRICS
    expected: ClassVar[str] = "0, 1 or -1 (unknown)"
    uncalibrated: ClassVar[str] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        distinct_names(self.labels, self.name, "labels")

    @property
    def outputs(self) -> int:
        """L."""
        return len(self.labels)

    @property
    def parts(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    @property
    def predicted(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    def settings(self) -> dict[str, Any]:
        """The labels."""
        return {"labels": list(self.labels)}

    @classmethod
    def schema(cls) -> Mapping[str, Any]:
        """The labels."""
        return {"labels": [plain_name]}

    def _fits(self, column: str, values: NDArray) -> NDArray:
        return np.isin(values, (0, 1))

    def counts(self, label: NDArray) -> dict[str, Count]:
        """Stays and positives of each label."""
        known, positives = (~np.isnan(label)).sum(axis=0), np.nansum(label, axis=0)
        return {name: Count(int(n), int(k)) for name, n, k in zip(self.labels, known, positives, strict=True)}

    def _lacking(self, label: NDArray) -> str:
        return "do not have both values of any label; a method needs both of one at least there"

    def losses(self, output: Tensor, label: Tensor) -> Tensor:
        """Cross-entropies ``(B, L)``."""
        wide = at_least_single(output)
        return F.binary_cross_entropy_with_logits(wide, label.to(wide.dtype), reduction="none")

    def start(self, label: Tensor) -> Tensor:
        """Log-odds of the prevalences."""
        return start_log_odds((label == 1).sum(dim=0), (label == 0).sum(dim=0))

    def prediction(self, output: Tensor) -> Tensor:
        """Probabilities ``(..., L)``."""
        return output.sigmoid()

    def pooled(self, output: Tensor, present: Tensor) -> Tensor:
        """Log-odds of the mean probabilities."""
        return mean_log_odds(output, present)

    def singles(self, label: NDArray) -> list[Single]:
        """Every label."""
        return [Single(y, 2, None if {0, 1} <= set(y) else _only(y)) for y in label.T]

    def forecasts(self, label: NDArray, prediction: NDArray) -> dict[str, Forecast]:
        """The probability of each label."""
        return {name: Probability(prediction[:, k], label[:, k]) for k, name in enumerate(self.labels)}

    def recalibration(self, label: NDArray, prediction: NDArray) -> Recalibration:
        """A line on the scale of log-odds for each label with enough outcomes."""
        fitted = {name: fitted_line(forecast) for name, forecast in self.forecasts(label, prediction).items()}
        lines = {name: line for name, line in fitted.items() if not isinstance(line, str)}
        at = {name: self.labels.index(name) for name in lines}

        def apply(p: NDArray) -> NDArray:
            changed = p.astype(np.float64)
            for name, line in lines.items():
                changed[:, at[name]] = line(p[:, at[name]])
            return changed

        return Recalibration(
            apply,
            {name: numbers(line) for name, line in lines.items()},
            {name: why for name, why in fitted.items() if isinstance(why, str)},
        )

    def compact(self, prediction: NDArray) -> NDArray:
        """Log-odds."""
        return compact_logits(prediction)

    def expanded(self, compact: NDArray) -> NDArray:
        """Probabilities."""
        return expanded_logits(compact)
