"""Base class of the baselines: single-head classifier trained by cross entropy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from cm2.batch import Batch, Modality
from cm2.config import Config, EncoderConfig
from cm2.config.names import choose
from cm2.errors import InputError
from cm2.kinds import build_encoder
from cm2.methods.baselines.text import build_released_encoder
from cm2.methods.contract import Method
from cm2.methods.task_loss import cross_entropy
from cm2.metrics import aupr, auroc
from cm2.networks.embedding import check_modalities
from cm2.networks.encoders import Encoder


class Baseline(Method):
    """A method that CM² is compared with, trained by the same trainer on the same batches.

    A subclass with one head implements ``logits``; one with several also overrides ``loss`` and, if no head gives the prediction,
    ``probability``.

    Args:
        config: the run's configuration; ``config.baseline`` and ``config.encoder`` are read.
        modalities: the cohort's modalities, ``fewest`` or more.

    Raises:
        ValueError: too few modalities.
    """

    variants: ClassVar[tuple[str, ...]] = ("original", "released")
    """Values of ``baseline.variant`` that differ; only one for a method that the released program lacks."""

    def __init__(self, config: Config, modalities: Sequence[Modality]) -> None:
        super().__init__(config, modalities)
        self.config = config.baseline

    @property
    def released(self) -> bool:
        """Whether this is the variant of the CM² authors' program."""
        return self.config.variant == "released"

    def build_encoder(self, modality: Modality, config: EncoderConfig) -> Encoder:
        """Builds this variant's encoder of a modality."""
        return build_released_encoder(modality, config, self.config.text_dim) if self.released else build_encoder(modality, config)

    @abstractmethod
    def logits(self, batch: Batch) -> Tensor:
        """Log-odds of the outcome ``(B,)``."""

    def probability(self, batch: Batch) -> Tensor:
        """Probability of the outcome ``(B,)``."""
        return self.logits(batch).sigmoid()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """``loss`` (to be minimised) and ``task`` (cross entropy of the prediction), scalars averaged over the batch."""
        self.check(batch)
        task = cross_entropy(self.logits(batch), batch.label)
        return {"loss": task, "task": task.detach()}

    def predictive(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Probability and its variance between draws, each ``(B,)``; baselines draw nothing, so the variance is 0."""
        self.check(batch)
        probability = self.probability(batch).float()
        return probability, torch.zeros_like(probability)

    def check(self, batch: Batch) -> None:
        """Raises ValueError for a batch of other modalities."""
        check_modalities(batch, self.names)

    def chosen(self, default: str) -> str:
        """The modality named in the configuration, or the default. Raises ValueError for one that the cohort lacks."""
        name = self.config.modality or default
        if name not in self.names:
            raise InputError(f"baseline.modality: the cohort has no modality {name!r}; {choose(name, self.names)}")
        return name


def history_row(epoch: int, logits: Tensor, label: Tensor, valid_logits: Tensor, valid_label: Tensor) -> dict[str, float]:
    """A history's row of a method that is fitted to all stays at once.

    Args:
        epoch: its number.
        logits: ``(n,)`` log-odds of the training stays.
        label: ``(n,)`` their outcomes, NaN where unknown.
        valid_logits: those of the validation stays.
        valid_label: their outcomes.

    Returns:
        ``epoch``, ``train_task`` and ``valid_task`` (cross entropies), ``valid_auroc`` and ``valid_aupr``.
    """
    truth, probability = valid_label.numpy(), valid_logits.float().sigmoid().numpy()
    losses = {"train_task": float(cross_entropy(logits, label)), "valid_task": float(cross_entropy(valid_logits, valid_label))}
    return {"epoch": epoch} | losses | {"valid_auroc": auroc(truth, probability), "valid_aupr": aupr(truth, probability)}
