"""Gradient-boosted trees on tabular summaries of every channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.methods.baselines.base import Baseline, history_row
from cm2.methods.baselines.summaries import CHUNK, Summaries, chunks
from cm2.methods.contract import Stays
from cm2.methods.task_loss import check_outcomes

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier


class BoostedTrees(Baseline):
    r"""Boosted trees of scikit-learn (``HistGradientBoostingClassifier``) on the columns of ``Summaries``.

    Log-odds are :math:`b + \sum_t v_t(x)`. The columns of a missing modality are NaN, and every split learns a direction for NaN, so
    nothing is imputed. The fitted trees are stored as tensors: they are saved, loaded and moved like any method's weights, and predict
    by tensor operations. Not in the paper; both variants are the same.

    References:
        Friedman, "Greedy function approximation: a gradient boosting machine", Annals of Statistics 2001.

    Args:
        config: the run's configuration; the fields of ``config.baseline`` that begin with ``tree`` are read.
        modalities: the cohort's modalities, one or more.
    """

    name: ClassVar[str] = "boosted_trees"
    variants: ClassVar[tuple[str, ...]] = ("original",)
    fewest = 1
    intercept: Tensor
    feature: Tensor
    threshold: Tensor
    child: Tensor
    missing_left: Tensor
    value: Tensor

    def __init__(self, config: Config, modalities: Sequence[Modality]) -> None:
        super().__init__(config, modalities)
        self.seed = config.seed
        self.summaries = Summaries(modalities, self.config.tree_tokens)
        shape = (self.config.trees, 2 ** (self.config.tree_depth + 1) - 1)
        self.register_buffer("intercept", torch.zeros((), dtype=torch.float64))
        self.register_buffer("feature", torch.zeros(shape, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(shape, dtype=torch.float64))
        # a leaf's children are the leaf itself, so all trees can be descended by the same number of steps
        self.register_buffer("child", torch.zeros(*shape, 2, dtype=torch.int64))
        self.register_buffer("missing_left", torch.zeros(shape, dtype=torch.bool))
        self.register_buffer("value", torch.zeros(shape, dtype=torch.float64))

    def fit_stays(self, train: Stays, valid: Stays) -> list[dict[str, float]]:
        """Grows the trees; their number is chosen, like every method's epoch, by validation AUROC, ties by cross entropy.

        Args:
            train: stays to fit the trees to; those whose outcome is unknown only choose the tokens that are counted.
            valid: stays to choose the number of trees on.

        Returns:
            One row per round: ``epoch``, ``train_task``, ``valid_task``, ``valid_auroc``, ``valid_aupr``.

        Raises:
            ValueError: training stays that all have the same outcome.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier

        check_outcomes(self.name, train.label)
        self.summaries.choose_tokens(chunks(train))
        trees = HistGradientBoostingClassifier(
            learning_rate=self.config.tree_learning_rate,
            max_iter=self.config.trees,
            max_leaf_nodes=None,
            max_depth=self.config.tree_depth,
            min_samples_leaf=self.config.tree_stays,
            early_stopping=False,
            random_state=self.seed,
        )
        known = ~train.label.isnan()
        columns, label = self._columns(train)[known], train.label[known]
        trees.fit(columns.numpy(), label.numpy())
        self.keep(trees)
        history = self._history(columns, label, self._columns(valid), valid.label)
        best = max(history, key=lambda row: (row["valid_auroc"], -row["valid_task"]))
        self.value[int(best["epoch"]) + 1 :] = 0
        return history

    @torch.no_grad()
    def keep(self, trees: HistGradientBoostingClassifier) -> None:
        """Copies a fitted classifier with no more and no deeper trees than configured into the buffers."""
        self.intercept.fill_(float(np.ravel(trees._baseline_prediction)[0]))
        for buffer in (self.feature, self.threshold, self.child, self.missing_left, self.value):
            buffer.zero_()
        for t, (tree,) in enumerate(trees._predictors):
            nodes = tree.nodes
            n, itself, leaf = len(nodes), np.arange(len(nodes)), nodes["is_leaf"].astype(bool)
            children = np.stack([np.where(leaf, itself, nodes[side].astype(np.int64)) for side in ("left", "right")], axis=1)
            self.feature[t, :n] = torch.from_numpy(np.where(leaf, 0, nodes["feature_idx"].astype(np.int64)))
            self.threshold[t, :n] = torch.from_numpy(nodes["num_threshold"].copy())
            self.child[t, :n] = torch.from_numpy(children)
            self.missing_left[t, :n] = torch.from_numpy(nodes["missing_go_to_left"].astype(bool))
            self.value[t, :n] = torch.from_numpy(np.where(leaf, nodes["value"], 0.0))

    def logits(self, batch: Batch) -> Tensor:
        """Log-odds of the outcome ``(B,)``."""
        return (self.intercept + self.steps(self.summaries(batch)).sum(dim=1)).float()

    def steps(self, columns: Tensor) -> Tensor:
        """Contribution of every tree to the log-odds, ``(n, columns) -> (n, trees)``."""
        columns = columns.double()
        tree = torch.arange(self.config.trees, device=columns.device)
        node = tree.new_zeros(len(columns), len(tree))
        for _ in range(self.config.tree_depth):
            x = columns.gather(1, self.feature[tree, node])
            left = torch.where(x.isnan(), self.missing_left[tree, node], x <= self.threshold[tree, node])
            node = torch.where(left, self.child[tree, node, 0], self.child[tree, node, 1])
        return self.value[tree, node]

    def _columns(self, stays: Stays) -> Tensor:
        return torch.cat([self.summaries(batch) for batch in chunks(stays)])

    def _history(self, train: Tensor, label: Tensor, valid: Tensor, valid_label: Tensor) -> list[dict[str, float]]:
        train, valid = (self.intercept + self._sums(columns) for columns in (train, valid))
        return [history_row(epoch, train[:, epoch], label, valid[:, epoch], valid_label) for epoch in range(self.config.trees)]

    def _sums(self, columns: Tensor) -> Tensor:
        return torch.cat([self.steps(part).cumsum(dim=1) for part in columns.split(CHUNK)])
