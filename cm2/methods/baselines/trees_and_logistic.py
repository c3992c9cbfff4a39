"""The mean of boosted trees and a logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.methods.baselines.base import Baseline, history_row
from cm2.methods.baselines.boosted_trees import BoostedTrees
from cm2.methods.baselines.logistic import Logistic
from cm2.methods.baselines.summaries import chunks
from cm2.methods.contract import Stays


class TreesAndLogistic(Baseline):
    """Mean of the log-odds of `BoostedTrees` and `Logistic`, each fitted alone: two kinds of error on the same columns.

    Not in the paper; both variants are the same.

    Args:
        config: the run's configuration; the fields of ``config.baseline`` that begin with ``tree`` are read.
        modalities: the cohort's modalities, one or more.
    """

    name: ClassVar[str] = "trees_and_logistic"
    variants: ClassVar[tuple[str, ...]] = ("original",)
    fewest = 1

    def __init__(self, config: Config, modalities: Sequence[Modality]) -> None:
        super().__init__(config, modalities)
        self.trees = BoostedTrees(config, modalities)
        self.logistic = Logistic(config, modalities)

    def fit_stays(self, train: Stays, valid: Stays) -> list[dict[str, float]]:
        """Fits both.

        Args:
            train: stays to fit to.
            valid: stays that choose the number of trees and the penalty.

        Returns:
            One row: ``epoch``, ``train_task``, ``valid_task``, ``valid_auroc``, ``valid_aupr`` of the mean, ``inverse_penalty`` (C), and
            ``trees``, how many.

        Raises:
            ValueError: as `BoostedTrees` and `Logistic`.
        """
        grown = max(self.trees.fit_stays(train, valid), key=lambda row: (row["valid_auroc"], -row["valid_task"]))
        weights = self.logistic.fit_stays(train, valid)[0]
        own, logits = (torch.cat([self.logits(batch) for batch in chunks(stays)]) for stays in (train, valid))
        row = history_row(0, own, train.label, logits, valid.label)
        return [row | {"inverse_penalty": weights["inverse_penalty"], "trees": grown["epoch"] + 1}]

    def logits(self, batch: Batch) -> Tensor:
        """Log-odds of the outcome ``(B,)``."""
        return (self.trees.logits(batch) + self.logistic.logits(batch)) / 2
