"""Gradient-boosted trees on tabular summaries of every channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.methods.baselines.base import Baseline, history_row, preference
from cm2.methods.baselines.summaries import CHUNK, Summaries, chunks
from cm2.methods.contract import Stays
from cm2.methods.task_loss import check_outcomes
from cm2.tasks import Single, Task, known_stays

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor


class BoostedTrees(Baseline):
    r"""Boosted trees of scikit-learn (``HistGradientBoostingClassifier`` and ``Regressor``) on the columns of ``Summaries``.

    Every output, such as the log-odds of a binary outcome, is :math:`b + \sum_t v_t(x)`. Of several labels each has trees of its own;
    several classes are grown together. The columns of a missing modality are NaN, and every split learns a direction for NaN, so
    nothing is imputed. The fitted trees are stored as tensors: they are saved, loaded and moved like any method's weights, and predict
    by tensor operations. Not in the paper; both variants are the same.

    References:
        Friedman, "Greedy function approximation: a gradient boosting machine", Annals of Statistics 2001.

    Args:
        config: the run's configuration; the fields of ``config.baseline`` that begin with ``tree`` are read.
        modalities: the cohort's modalities, one or more.
        task: what is predicted; None: a binary outcome.
    """

    name: ClassVar[str] = "boosted_trees"
    variants: ClassVar[tuple[str, ...]] = ("original",)
    fewest = 1
    unable: ClassVar[Mapping[str, str]] = {"survival": "has trees of scikit-learn, which knows no censored times"}
    intercept: Tensor
    feature: Tensor
    threshold: Tensor
    child: Tensor
    missing_left: Tensor
    value: Tensor

    def __init__(self, config: Config, modalities: Sequence[Modality], task: Task | None = None) -> None:
        super().__init__(config, modalities, task)
        self.seed = config.seed
        self.summaries = Summaries(modalities, self.config.tree_tokens)
        shape = (self.config.trees, 2 ** (self.config.tree_depth + 1) - 1)
        shape = (self.task.outputs * shape[0], shape[1])  # all trees of the first output, then those of the second
        self.register_buffer("intercept", torch.zeros(self.task.outputs, dtype=torch.float64).squeeze())
        self.register_buffer("feature", torch.zeros(shape, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(shape, dtype=torch.float64))
        # a leaf's children are the leaf itself, so all trees can be descended by the same number of steps
        self.register_buffer("child", torch.zeros(*shape, 2, dtype=torch.int64))
        self.register_buffer("missing_left", torch.zeros(shape, dtype=torch.bool))
        self.register_buffer("value", torch.zeros(shape, dtype=torch.float64))

    def fit_stays(self, train: Stays, valid: Stays) -> list[dict[str, float]]:
        """Grows the trees; their number is chosen, like every method's epoch, by the task's criterion on validation stays, ties by its
        loss.

        Args:
            train: stays to fit the trees to; those whose outcome is unknown only choose the tokens that are counted.
            valid: stays to choose the number of trees on.

        Returns:
            One row per round: ``epoch``, ``train_task``, ``valid_task``, and metrics after ``valid_``.

        Raises:
            ValueError: training stays from which the task cannot be learnt.
        """
        check_outcomes(self.name, self.task, train.label)
        self.summaries.choose_tokens(chunks(train))
        known = known_stays(train.label)
        columns, label = self._columns(train)[known], train.label[known]
        self.keep(*(self._grown(columns, single) for single in self.task.singles(label.numpy())))
        history = self._history(columns, label, self._columns(valid), valid.label)
        best = max(history, key=partial(preference, self.task))
        self.value.view(self.task.outputs, self.config.trees, -1)[:, int(best["epoch"]) + 1 :] = 0
        return history

    def _grown(self, columns: Tensor, single: Single) -> HistGradientBoostingClassifier | HistGradientBoostingRegressor | float:
        """The trees of one outcome, or the only output that there is where it never varies."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        if single.constant is not None:
            return single.constant
        make = HistGradientBoostingClassifier if single.classes else HistGradientBoostingRegressor
        trees = make(
            learning_rate=self.config.tree_learning_rate,
            max_iter=self.config.trees,
            max_leaf_nodes=None,
            max_depth=self.config.tree_depth,
            min_samples_leaf=self.config.tree_stays,
            early_stopping=False,
            random_state=self.seed,
        )
        known = ~np.isnan(single.target)
        return trees.fit(columns.numpy()[known], single.target[known])

    @torch.no_grad()
    def keep(self, *fitted: HistGradientBoostingClassifier | HistGradientBoostingRegressor | float) -> None:
        """Copies what was fitted, with no more and no deeper trees than configured, into the buffers.

        Args:
            fitted: trees of one output, or of several that were grown together, or the number that an output always is.
        """
        for buffer in (self.feature, self.threshold, self.child, self.missing_left, self.value):
            buffer.zero_()
        starts: list[float] = []
        for trees in fitted:
            if isinstance(trees, float):
                starts.append(trees)
                continue
            for step, together in enumerate(trees._predictors):
                for k, tree in enumerate(together):
                    self._keep_tree((len(starts) + k) * self.config.trees + step, tree.nodes)
            starts += map(float, np.ravel(trees._baseline_prediction))
        self.intercept.copy_(torch.tensor(starts, dtype=torch.float64).squeeze())

    def _keep_tree(self, t: int, nodes: NDArray) -> None:
        n, itself, leaf = len(nodes), np.arange(len(nodes)), nodes["is_leaf"].astype(bool)
        children = np.stack([np.where(leaf, itself, nodes[side].astype(np.int64)) for side in ("left", "right")], axis=1)
        self.feature[t, :n] = torch.from_numpy(np.where(leaf, 0, nodes["feature_idx"].astype(np.int64)))
        self.threshold[t, :n] = torch.from_numpy(nodes["num_threshold"].copy())
        self.child[t, :n] = torch.from_numpy(children)
        self.missing_left[t, :n] = torch.from_numpy(nodes["missing_go_to_left"].astype(bool))
        self.value[t, :n] = torch.from_numpy(np.where(leaf, nodes["value"], 0.0))

    def logits(self, batch: Batch) -> Tensor:
        """Outputs ``(B, outputs)``."""
        return (self.intercept + self._each(self.steps(self.summaries(batch))).sum(dim=2)).float()

    def steps(self, columns: Tensor) -> Tensor:
        """Contribution of every tree to its output, ``(n, columns) -> (n, outputs * trees)``."""
        columns = columns.double()
        tree = torch.arange(len(self.value), device=columns.device)
        node = tree.new_zeros(len(columns), len(tree))
        for _ in range(self.config.tree_depth):
            x = columns.gather(1, self.feature[tree, node])
            left = torch.where(x.isnan(), self.missing_left[tree, node], x <= self.threshold[tree, node])
            node = torch.where(left, self.child[tree, node, 0], self.child[tree, node, 1])
        return self.value[tree, node]

    def _columns(self, stays: Stays) -> Tensor:
        return torch.cat([self.summaries(batch) for batch in chunks(stays)])

    def _history(self, train: Tensor, label: Tensor, valid: Tensor, valid_label: Tensor) -> list[dict[str, float]]:
        train, valid = (self.intercept[..., None] + self._sums(columns) for columns in (train, valid))
        rounds = range(self.config.trees)
        return [history_row(self.task, t, train[..., t], label, valid[..., t], valid_label) for t in rounds]

    def _sums(self, columns: Tensor) -> Tensor:
        return torch.cat([self._each(self.steps(part)).cumsum(dim=2) for part in columns.split(CHUNK)])

    def _each(self, steps: Tensor) -> Tensor:
        """``(n, outputs * trees) -> (n, outputs, trees)``."""
        return steps.view(len(steps), self.task.outputs, self.config.trees)
