"""Regression with an L2 penalty on tabular summaries: logistic, multinomial, linear or of hazards, as the task asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.errors import InputError
from cm2.methods.baselines.base import Baseline, history_row, preference
from cm2.methods.baselines.standardised import Standardised
from cm2.methods.baselines.summaries import Summaries, chunks
from cm2.methods.contract import Stays
from cm2.methods.task_loss import check_outcomes
from cm2.tasks import Task, known_stays

INVERSE_PENALTIES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)
"""Inverse penalties C of the logistic regression, of which validation stays choose one."""


class Logistic(Baseline):
    r"""Regression on the columns of ``Summaries``, standardised, with a penalty on the squared weights.

    Outputs are :math:`b + Wx`: of a binary task scikit-learn's logistic regression, of any other task the same penalised likelihood with
    the loss of the task. The columns of a missing modality count as their means, and one column for each modality says
    whether it is there. Not in the paper; both variants are the same.

    Args:
        config: the run's configuration; ``tree_tokens`` of ``config.baseline`` is read.
        modalities: the cohort's modalities, one or more.
        task: what is predicted; None: a binary outcome.
    """

    name: ClassVar[str] = "logistic"
    variants: ClassVar[tuple[str, ...]] = ("original",)
    fewest = 1

    def __init__(self, config: Config, modalities: Sequence[Modality], task: Task | None = None) -> None:
        super().__init__(config, modalities, task)
        self.summaries = Summaries(modalities, self.config.tree_tokens)
        columns = sum(self.summaries.widths) + len(modalities)
        self.scale = Standardised(columns)
        self.classifier = nn.Linear(columns, self.task.outputs, dtype=torch.float64).requires_grad_(False)

    def fit_stays(self, train: Stays, valid: Stays) -> list[dict[str, float]]:
        """Fits the weights; C is chosen by the task's criterion on validation stays, ties by its loss.

        Args:
            train: stays to fit to; those whose outcome is unknown only choose the tokens and scale the columns.
            valid: stays to choose C on.

        Returns:
            One row: ``epoch``, ``train_task``, ``valid_task``, metrics after ``valid_``, ``inverse_penalty`` (C).

        Raises:
            ValueError: training stays from which the task cannot be learnt, or columns of which none varies over them.
        """
        check_outcomes(self.name, self.task, train.label)
        self.summaries.choose_tokens(chunks(train))
        x, other = (torch.cat([self._columns(batch) for batch in chunks(stays)]) for stays in (train, valid))
        if not self.scale.fit(x):
            raise InputError(f"{self.name}: no column varies over the {len(x)} training stays; use other modalities")
        return [fit_logistic(self.task, self.classifier, self.scale(x), train.label, self.scale(other), valid.label)]

    def logits(self, batch: Batch) -> Tensor:
        """Outputs ``(B, outputs)``."""
        return self.classifier(self.scale(self._columns(batch))).float()

    def _columns(self, batch: Batch) -> Tensor:
        return torch.cat([self.summaries(batch), batch.present.float()], dim=1)


def fit_logistic(task: Task, classifier: nn.Linear, x: Tensor, label: Tensor, valid: Tensor, valid_label: Tensor) -> dict[str, float]:
    """Sets a linear layer's weights to those of a penalised regression.

    Args:
        task: what is predicted.
        classifier: ``(columns) -> (outputs)``, float64.
        x: ``(n, columns)`` float64.
        label: ``(n,)`` or ``(n, L)``, NaN where the outcome is unknown: such rows are not read.
        valid: the same of the stays that choose the penalty by the task's criterion, ties by its loss.
        valid_label: their labels.

    Returns:
        A row of a history: ``epoch``, ``train_task``, ``valid_task``, metrics after ``valid_`` and ``inverse_penalty``.
    """
    known = known_stays(label)
    x, label, rows = x[known], label[known], []
    for c in INVERSE_PENALTIES:
        weights = SOLVERS.get(task.type, penalised)(task, x, label, c)
        classifier.load_state_dict(weights)
        own, logits = (classifier(each) for each in (x, valid))
        rows.append((history_row(task, 0, own, label, logits, valid_label) | {"inverse_penalty": c}, weights))
    best, weights = max(rows, key=lambda each: preference(task, each[0]))
    classifier.load_state_dict(weights)
    return best


def penalised(task: Task, x: Tensor, label: Tensor, c: float) -> dict[str, Tensor]:
    r"""Weights and biases with the largest penalised likelihood, by L-BFGS.

    .. math:: \min_{W, b}\; \tfrac12 \lVert W \rVert^2 + C \sum_i \ell(b + W x_i, y_i)

    Args:
        task: whose `losses` are summed.
        x: ``(n, columns)`` float64.
        label: ``(n,)`` or ``(n, L)``; unknown labels count nothing.
        c: C.

    Returns:
        ``weight`` ``(outputs, columns)`` and ``bias`` ``(outputs,)``.
    """
    from scipy.optimize import minimize

    label, count = label.double(), int(task.known(label).sum())
    split = (task.outputs * x.shape[1], task.outputs)

    def objective(flat: NDArray) -> tuple[float, NDArray]:
        point = torch.from_numpy(flat).requires_grad_()
        weight, bias = point.split(split)
        with torch.enable_grad():
            value = weight.square().sum() / 2 + c * count * task.loss(x @ weight.view(-1, x.shape[1]).T + bias, label)
            (slope,) = torch.autograd.grad(value, point)
        return value.item(), slope.numpy()

    start = torch.cat([x.new_zeros(split[0]), task.start(label).double()]).numpy()
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "gtol": 1e-4 * max(c, 1e-3)})
    weight, bias = torch.from_numpy(found.x).split(split)
    return {"weight": weight.view(-1, x.shape[1]), "bias": bias}


def _of_two_outcomes(task: Task, x: Tensor, label: Tensor, c: float) -> dict[str, Tensor]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, max_iter=1000).fit(x.numpy(), label.numpy())
    return {"weight": torch.from_numpy(model.coef_), "bias": torch.from_numpy(model.intercept_)}


SOLVERS: dict[str, Callable[[Task, Tensor, Tensor, float], dict[str, Tensor]]] = {"binary": _of_two_outcomes}
"""Programs of others by type of task, in the place of `penalised`, which minimises the same."""
