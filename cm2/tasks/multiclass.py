"""One of several classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor
from torch.nn import functional as F

from cm2.calibration import Forecast, Probability, Recalibration, temperature
from cm2.calibration.recalibration import REVERSED, TOO_FEW
from cm2.config.schema import plain_name
from cm2.tasks.contract import Task, distinct_names
from cm2.tasks.measures import each_class, mean_of
from cm2.tasks.records import Count, Metric, Single
from cm2.tasks.scales import at_least_single

FLOOR = 1e-12
"""Smallest probability whose logarithm counts: float32 has no smaller ones beside 1."""
CONFIDENCE = "confidence"
"""The largest probability, as a forecast that its class is the right one."""


def _right(label: NDArray, prediction: NDArray) -> NDArray:
    return np.where(np.isnan(label), np.nan, prediction.argmax(axis=1) == label)


def _surprise(label: NDArray, prediction: NDArray) -> NDArray:
    own = np.take_along_axis(prediction, np.nan_to_num(label).astype(np.int64)[:, None], axis=1)[:, 0]
    return np.where(np.isnan(label), np.nan, -np.log(np.maximum(own, FLOOR)))


METRICS = (
    Metric("macro_auroc", "Macro AUROC", each_class("auroc")),
    Metric("macro_aupr", "Macro AUPR", each_class("aupr")),
    Metric("accuracy", "Accuracy", mean_of(_right)),
    Metric("log_loss", "Log loss", mean_of(_surprise), higher=False, share=False),
)
"""AUROC and AUPR of each class against the rest, averaged; accuracy; mean of -log of the probability of the true class."""


@dataclass(frozen=True)
class Multiclass(Task):
    """Labels 0 to K - 1, one of K classes; the outputs are logits of a softmax, the loss the cross-entropy.

    Args:
        name: of the outcome.
        description: what the classes are.
        classes: their names, in the order of the labels, two or more.

    Raises:
        ValueError: fewer than two classes, or two of one name.
    """

    classes: tuple[str, ...] = ()

    type: ClassVar[str] = "multiclass"
    criterion: ClassVar[str] = "macro_auroc"
    offers: ClassVar[tuple[Metric, ...]] = METRICS
    stored: ClassVar[str] = "int16"
    uncalibrated: ClassVar[str] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        distinct_names(self.classes, self.name, "classes")

    @property
    def expected(self) -> str:  # type: ignore[override]  # of this object, as it depends on the classes
        """The range of the labels."""
        return f"0 to {len(self.classes) - 1} or -1 (unknown)"

    @property
    def outputs(self) -> int:
        """K."""
        return len(self.classes)

    @property
    def predicted(self) -> tuple[str, ...]:
        """The classes."""
        return self.classes

    def settings(self) -> dict[str, Any]:
        """The classes."""
        return {"classes": list(self.classes)}

    @classmethod
    def schema(cls) -> Mapping[str, Any]:
        """The classes."""
        return {"classes": [plain_name]}

    def _fits(self, column: str, values: NDArray) -> NDArray:
        return np.isin(values, np.arange(len(self.classes)))

    def strata(self, label: NDArray) -> NDArray:
        """The classes."""
        return label

    def stratum(self, group: float) -> str:
        """The class."""
        return f"of the class {self.classes[int(group)]}"

    def counts(self, label: NDArray) -> dict[str, Count]:
        """Stays of each class."""
        known = label[~np.isnan(label)]
        sizes = np.bincount(known.astype(np.int64), minlength=len(self.classes))
        return {name: Count(len(known), int(size)) for name, size in zip(self.classes, sizes, strict=True)}

    def lacks(self, label: NDArray, training: bool = False) -> str:
        """Training stays have to be of every class, others of two."""
        empty = [name for name, count in self.counts(label).items() if not count.positives]
        if training and empty and len(empty) < len(self.classes) - 1:
            return f"are none of the class {empty[0]}; leave the class out"
        return super().lacks(label, training)

    def _lacking(self, label: NDArray) -> str:
        known = label[~np.isnan(label)]
        return f"{f'are all {self.classes[int(known[0])]}' if len(known) else 'are none'}; a method needs two classes there"

    def losses(self, output: Tensor, label: Tensor) -> Tensor:
        """Cross-entropies ``(B,)``."""
        return F.cross_entropy(at_least_single(output), label.long(), reduction="none")

    def start(self, label: Tensor) -> Tensor:
        """Logarithms of the classes' frequencies, each with half a stay more."""
        known = label[~label.isnan()].long()
        return (F.one_hot(known, len(self.classes)).sum(dim=0) + 0.5).log()

    def prediction(self, output: Tensor) -> Tensor:
        """Probabilities ``(..., K)``."""
        return output.softmax(dim=-1)

    def pooled(self, output: Tensor, present: Tensor) -> Tensor:
        """Logarithms of the mean probabilities, up to a constant."""
        return torch.where(present[..., None], output.log_softmax(dim=-1), -torch.inf).logsumexp(dim=1)

    def singles(self, label: NDArray) -> list[Single]:
        """The class itself; of two classes the first output is 0, and the second the log-odds of the second."""
        alone = [Single(label, 2, 0.0)] if len(self.classes) == 2 else []
        return [*alone, Single(label, len(self.classes))]

    def forecasts(self, label: NDArray, prediction: NDArray) -> dict[str, Forecast]:
        """The probability of each class, and the largest one beside whether its class was the right one: the confidence."""
        known = ~np.isnan(label)
        of_class = {name: Probability(prediction[:, k], np.where(known, label == k, np.nan)) for k, name in enumerate(self.classes)}
        return {**of_class, CONFIDENCE: Probability(prediction.max(axis=1), _right(label, prediction))}

    def recalibration(self, label: NDArray, prediction: NDArray) -> Recalibration:
        """A temperature."""
        if not self.enough(label):
            return Recalibration.none(TOO_FEW)
        logits = np.log(np.maximum(prediction, FLOOR))
        fitted = temperature(label, logits)
        if np.isinf(fitted):
            return Recalibration.none(REVERSED)
        return Recalibration(lambda p: softmax(np.log(np.maximum(p, FLOOR)) / fitted, axis=1), {"all": {"temperature": fitted}})

    def compact(self, prediction: NDArray) -> NDArray:
        """Logarithms of the probabilities."""
        return np.log(np.maximum(prediction.astype(np.float64), FLOOR)).astype(np.float16)

    def expanded(self, compact: NDArray) -> NDArray:
        """Probabilities, which sum to 1 again."""
        raw = np.exp(compact.astype(np.float64))
        return raw / raw.sum(axis=-1, keepdims=True)
