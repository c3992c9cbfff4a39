"""One outcome that a stay has or has not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cm2 import metrics as of_probabilities
from cm2.calibration import Forecast, Probability, Recalibration, fitted_line
from cm2.metrics import aupr, auroc
from cm2.tasks.contract import Task
from cm2.tasks.measures import of_binary
from cm2.tasks.records import Count, Metric, Single
from cm2.tasks.scales import compact_logits, expanded_logits, mean_log_odds, start_log_odds

METRICS = (
    Metric("auroc", "AUROC", of_binary("auroc")),
    Metric("aupr", "AUPR", of_binary("aupr")),
    Metric("brier", "Brier score", of_binary("brier"), higher=False),
    Metric("break_even", "Break-even", of_binary("break_even")),
)
"""AUROC, AUPR, Brier score, and sensitivity where it equals the positive predictive value."""


@dataclass(frozen=True)
class Binary(Task):
    """Labels 0 and 1; the output is the log-odds of 1, the loss the cross-entropy.

    Args:
        name: of the outcome.
        description: when it is 1.
    """

    type: ClassVar[str] = "binary"
    criterion: ClassVar[str] = "auroc"
    offers: ClassVar[tuple[Metric, ...]] = METRICS
    expected: ClassVar[str] = "0, 1 or -1 (unknown)"
    uncalibrated: ClassVar[str] = ""

    @property
    def reported(self) -> tuple[str, ...]:
        """AUROC and AUPR with their intervals, and the positives."""
        return ("auroc", "auroc_low", "auroc_high", "aupr", "aupr_low", "aupr_high", "positives")

    def strange(self, label: NDArray) -> str:
        """As `Task.strange`; a stored label is known."""
        return "" if np.isin(label, (0, 1)).all() else "label: expected 0 or 1"

    def _fits(self, column: str, values: NDArray) -> NDArray:
        return np.isin(values, (0, 1))

    def strata(self, label: NDArray) -> NDArray:
        """Both outcomes."""
        return label

    def stratum(self, group: float) -> str:
        """The outcome."""
        return f"with outcome {group:.0f}"

    def positives(self, label: NDArray) -> int | None:
        """Stays whose outcome is 1."""
        return int((label == 1).sum())

    def counts(self, label: NDArray) -> dict[str, Count]:
        """Stays and positives."""
        return {"positive": Count(int((~np.isnan(label)).sum()), int(np.nansum(label)))}

    def _lacking(self, label: NDArray) -> str:
        known = label[~np.isnan(label)]
        return f"{f'are all {int(known[0])}' if len(known) else 'are none'}; a method needs both there"

    @property
    def identity(self) -> str:
        """Nothing, as before there were other types."""
        return ""

    def entry(self, label: NDArray, split: NDArray, splits: Iterable[str]) -> dict[str, Any]:
        """Description, and how many outcomes are positive or unknown; no type, which is what a manifest had before there were others."""
        by_split = {name: int(((label == 1) & (split == name)).sum()) for name in splits}
        positives, unknown = int((label == 1).sum()), int(np.isnan(label).sum())
        return {"description": self.description, "positives": positives, "unknown": unknown, "positives_by_split": by_split}

    def losses(self, output: Tensor, label: Tensor) -> Tensor:
        """Cross-entropies ``(B,)``; ``output`` may lack its last axis."""
        return F.binary_cross_entropy_with_logits(output.reshape(label.shape).float(), label.float(), reduction="none")

    def start(self, label: Tensor) -> Tensor:
        """Log-odds of the prevalence."""
        known = label[~label.isnan()]
        return start_log_odds(known.sum(), (1 - known).sum()).reshape(1)

    def prediction(self, output: Tensor) -> Tensor:
        """Probability of 1."""
        return output.squeeze(-1).sigmoid()

    def pooled(self, output: Tensor, present: Tensor) -> Tensor:
        """Log-odds of the mean probability."""
        return mean_log_odds(output, present)

    def values(self, label: NDArray, prediction: NDArray) -> dict[str, float]:
        """AUROC and AUPR."""
        known = ~np.isnan(label)
        return {"auroc": auroc(label[known], prediction[known]), "aupr": aupr(label[known], prediction[known])}

    def summary(self, label: NDArray, prediction: NDArray) -> dict[str, float]:
        """AUROC and AUPR with bootstrap intervals, Brier score, ``n`` and ``positives``; see `cm2.metrics.summary`."""
        known = ~np.isnan(label)
        return of_probabilities.summary(label[known], prediction[known])

    def singles(self, label: NDArray) -> list[Single]:
        """The outcome itself."""
        return [Single(label, 2)]

    def forecasts(self, label: NDArray, prediction: NDArray) -> dict[str, Forecast]:
        """The probability of 1."""
        return {"positive": Probability(prediction, label)}

    def recalibration(self, label: NDArray, prediction: NDArray) -> Recalibration:
        """A line on the scale of log-odds."""
        return Recalibration.by_line(fitted_line(Probability(prediction, label)))

    def compact(self, prediction: NDArray) -> NDArray:
        """Log-odds."""
        return compact_logits(prediction)

    def expanded(self, compact: NDArray) -> NDArray:
        """Probabilities."""
        return expanded_logits(compact)


def cross_entropy(logits: Tensor, label: Tensor, used: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy of the stays whose outcome is known; 0 if there are none.

    Args:
        logits: ``(B,)`` log-odds.
        label: ``(B,)``, 0 or 1, or NaN where the outcome is unknown.
        used: ``(B,)`` bool, stays to be counted; None: all.
    """
    return Binary().loss(logits, label, used)
