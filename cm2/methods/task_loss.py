"""The loss of a binary outcome, and what is asked of the training stays of any task."""

from __future__ import annotations

from torch import Tensor

from cm2.errors import InputError
from cm2.tasks import Task
from cm2.tasks.binary import cross_entropy

__all__ = ["check_outcomes", "cross_entropy"]


def check_outcomes(method: str, task: Task, label: Tensor) -> None:
    """Raises ValueError for training stays from which the task cannot be learnt, such as those that all have the same outcome."""
    if why := task.lacks(label.numpy(), training=True):
        raise InputError(f"{method}: the known outcomes of all {len(label)} training stays {why}; use other stays")
