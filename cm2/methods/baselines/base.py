"""Base class of the baselines: a single head, trained by the loss of the task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from cm2.batch import Batch, Modality
from cm2.config import Config, EncoderConfig
from cm2.config.names import choose
from cm2.errors import InputError
from cm2.kinds import build_encoder
from cm2.methods.baselines.text import build_released_encoder
from cm2.methods.contract import Method
from cm2.networks.embedding import check_modalities
from cm2.networks.encoders import Encoder
from cm2.tasks import Task


class Baseline(Method):
    """A method that CM² is compared with, trained by the same trainer on the same batches.

    A subclass with one head implements ``logits``; one with several also overrides ``loss``. `new_head` builds one.

    Args:
        config: the run's configuration; ``config.baseline`` and ``config.encoder`` are read.
        modalities: the cohort's modalities, ``fewest`` or more.
        task: what is predicted; None: a binary outcome.

    Raises:
        ValueError: too few modalities.
    """

    variants: ClassVar[tuple[str, ...]] = ("original", "released")
    """Values of ``baseline.variant`` that differ; only one for a method that the released program lacks."""

    def __init__(self, config: Config, modalities: Sequence[Modality], task: Task | None = None) -> None:
        super().__init__(config, modalities, task)
        self.config = config.baseline

    def new_head(self, width: int) -> nn.Linear:
        """A linear layer from vectors of this width to the outputs of the task."""
        return nn.Linear(width, self.task.outputs)

    @property
    def released(self) -> bool:
        """Whether this is the variant of the CM² authors' program."""
        return self.config.variant == "released"

    def build_encoder(self, modality: Modality, config: EncoderConfig) -> Encoder:
        """Builds this variant's encoder of a modality."""
        return build_released_encoder(modality, config, self.config.text_dim) if self.released else build_encoder(modality, config)

    @abstractmethod
    def logits(self, batch: Batch) -> Tensor:
        """Outputs ``(B, outputs)``: of a binary task the log-odds; see `cm2.tasks.Task`."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """``loss`` (to be minimised) and ``task`` (loss of the prediction), scalars averaged over the batch."""
        self.check(batch)
        task = self.task.loss(self.logits(batch), batch.label)
        return {"loss": task, "task": task.detach()}

    def predictive(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Prediction and its variance between draws, ``(B,)`` or ``(B, P)``; baselines draw nothing, so the variance is 0."""
        self.check(batch)
        predicted = self.task.prediction(self.logits(batch)).float()
        return predicted, torch.zeros_like(predicted)

    def check(self, batch: Batch) -> None:
        """Raises ValueError for a batch of other modalities."""
        check_modalities(batch, self.names)

    def chosen(self, default: str) -> str:
        """The modality named in the configuration, or the default. Raises ValueError for one that the cohort lacks."""
        name = self.config.modality or default
        if name not in self.names:
            raise InputError(f"baseline.modality: the cohort has no modality {name!r}; {choose(name, self.names)}")
        return name


def history_row(task: Task, epoch: int, logits: Tensor, label: Tensor, valid_logits: Tensor, valid_label: Tensor) -> dict[str, float]:
    """A history's row of a method that is fitted to all stays at once.

    Args:
        task: what is predicted.
        epoch: its number.
        logits: ``(n, outputs)`` of the training stays.
        label: ``(n,)`` or ``(n, L)``, their outcomes, NaN where unknown.
        valid_logits: those of the validation stays.
        valid_label: their outcomes.

    Returns:
        ``epoch``, ``train_task`` and ``valid_task`` (losses), and the metrics of the task, each after ``valid_``.
    """
    losses = {"train_task": float(task.loss(logits, label)), "valid_task": float(task.loss(valid_logits, valid_label))}
    found = task.values(valid_label.double().numpy(), task.prediction(valid_logits.float()).double().numpy())
    return {"epoch": epoch} | losses | {f"valid_{name}": value for name, value in found.items()}


def preference(task: Task, row: Mapping[str, float]) -> tuple[float, float]:
    """What orders rows of a history, the best one last: the task's criterion on validation stays, ties by its loss."""
    return task.chooses.gain(row[f"valid_{task.criterion}"]), -row["valid_task"]
