"""Logistic regression with an L2 penalty on tabular summaries, alone and beside boosted trees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.errors import InputError
from cm2.methods.baselines.base import Baseline, history_row
from cm2.methods.baselines.standardised import Standardised
from cm2.methods.baselines.summaries import Summaries, chunks
from cm2.methods.contract import Stays
from cm2.methods.task_loss import check_outcomes

INVERSE_PENALTIES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)
"""Inverse penalties C of the logistic regression, of which validation stays choose one."""


class Logistic(Baseline):
    r"""Logistic regression of scikit-learn on the columns of ``Summaries``, standardised, with a penalty on the squared weights.

    Log-odds are :math:`b + w^\top x`. The columns of a missing modality count as their means, and one column for each modality says
    whether it is there. Not in the paper; both variants are the same.

    Args:
        config: the run's configuration; ``tree_tokens`` of ``config.baseline`` is read.
        modalities: the cohort's modalities, one or more.
    """

    name: ClassVar[str] = "logistic"
    variants: ClassVar[tuple[str, ...]] = ("original",)
    fewest = 1

    def __init__(self, config: Config, modalities: Sequence[Modality]) -> None:
        super().__init__(config, modalities)
        self.summaries = Summaries(modalities, self.config.tree_tokens)
        columns = sum(self.summaries.widths) + len(modalities)
        self.scale = Standardised(columns)
        self.classifier = nn.Linear(columns, 1, dtype=torch.float64).requires_grad_(False)

    def fit_stays(self, train: Stays, valid: Stays) -> list[dict[str, float]]:
        """Fits the weights; C is chosen by validation AUROC, ties by cross entropy.

        Args:
            train: stays to fit to; those whose outcome is unknown only choose the tokens and scale the columns.
            valid: stays to choose C on.

        Returns:
            One row: ``epoch``, ``train_task``, ``valid_task``, ``valid_auroc``, ``valid_aupr``, ``inverse_penalty`` (C).

        Raises:
            ValueError: training stays that all have the same outcome, or columns of which none varies over them.
        """
        check_outcomes(self.name, train.label)
        self.summaries.choose_tokens(chunks(train))
        x, other = (torch.cat([self._columns(batch) for batch in chunks(stays)]) for stays in (train, valid))
        if not self.scale.fit(x):
            raise InputError(f"{self.name}: no column varies over the {len(x)} training stays; use other modalities")
        return [fit_logistic(self.classifier, self.scale(x), train.label, self.scale(other), valid.label)]

    def logits(self, batch: Batch) -> Tensor:
        """Log-odds of the outcome ``(B,)``."""
        return self.classifier(self.scale(self._columns(batch))).squeeze(1).float()

    def _columns(self, batch: Batch) -> Tensor:
        return torch.cat([self.summaries(batch), batch.present.float()], dim=1)


def fit_logistic(classifier: nn.Linear, x: Tensor, label: Tensor, valid: Tensor, valid_label: Tensor) -> dict[str, float]:
    """Sets a linear layer's weights to those of a penalised logistic regression.

    Args:
        classifier: ``(columns) -> (1)``, float64.
        x: ``(n, columns)`` float64.
        label: ``(n,)``, 0 or 1, both of them, or NaN where the outcome is unknown: such rows are not read.
        valid: the same of the stays that choose the penalty by AUROC, ties by cross entropy.
        valid_label: their labels.

    Returns:
        A row of a history: ``epoch``, ``train_task``, ``valid_task``, ``valid_auroc``, ``valid_aupr`` and ``inverse_penalty``.
    """
    from sklearn.linear_model import LogisticRegression

    known = ~label.isnan()
    x, label, rows = x[known], label[known], []
    for c in INVERSE_PENALTIES:
        model = LogisticRegression(C=c, max_iter=1000).fit(x.numpy(), label.numpy())
        weights = {"weight": torch.from_numpy(model.coef_), "bias": torch.from_numpy(model.intercept_)}
        classifier.load_state_dict(weights)
        own, logits = (classifier(each).squeeze(1) for each in (x, valid))
        rows.append((history_row(0, own, label, logits, valid_label) | {"inverse_penalty": c}, weights))
    best, weights = max(rows, key=lambda each: (each[0]["valid_auroc"], -each[0]["valid_task"]))
    classifier.load_state_dict(weights)
    return best
