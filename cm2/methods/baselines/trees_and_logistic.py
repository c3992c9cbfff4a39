"""The mean of boosted trees and a logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.methods.baselines.base import Baseline, history_row, preference
from cm2.methods.baselines.boosted_trees import BoostedTrees
from cm2.methods.baselines.logistic import Logistic
from cm2.methods.baselines.summaries import chunks
from cm2.methods.contract import Stays
from cm2.tasks import Task


class TreesAndLogistic(Baseline):
    """Mean of the outputs of `BoostedTrees` and `Logistic`, each fitted alone: two kinds of error on the same columns.

    Not in the paper; both variants are the same.

    Args:
        config: the run's configuration; the fields of ``config.baseline`` that begin with ``tree`` are read.
        modalities: the cohort's modalities, one or more.
        task: what is predicted; None: a binary outcome.
    """

    name: ClassVar[str] = "trees_and_logistic"
    variants: ClassVar[tuple[str, ...]] = ("original",)
    fewest = 1
    unable = BoostedTrees.unable

    def __init__(self, config: Config, modalities: Sequence[Modality], task: Task | None = None) -> None:
        super().__init__(config, modalities, task)
        self.trees = BoostedTrees(config, modalities, task)
        self.logistic = Logistic(config, modalities, task)

    def fit_stays(self, train: Stays, valid: Stays) -> list[dict[str, float]]:
        """Fits both.

        Args:
            train: stays to fit to.
            valid: stays that choose the number of trees and the penalty.

        Returns:
            One row: ``epoch``, ``train_task``, ``valid_task``, metrics of the mean after ``valid_``, ``inverse_penalty`` (C), and
            ``trees``, how many.

        Raises:
            ValueError: as `BoostedTrees` and `Logistic`.
        """
        grown = max(self.trees.fit_stays(train, valid), key=partial(preference, self.task))
        weights = self.logistic.fit_stays(train, valid)[0]
        own, logits = (torch.cat([self.logits(batch) for batch in chunks(stays)]) for stays in (train, valid))
        row = history_row(self.task, 0, own, train.label, logits, valid.label)
        return [row | {"inverse_penalty": weights["inverse_penalty"], "trees": grown["epoch"] + 1}]

    def logits(self, batch: Batch) -> Tensor:
        """Outputs ``(B, outputs)``."""
        return (self.trees.logits(batch) + self.logistic.logits(batch)) / 2
