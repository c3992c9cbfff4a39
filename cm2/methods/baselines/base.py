"""What every compared method shares: one head's probability, its cross entropy, no variance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cm2.baselines.text import build_released_encoder
from cm2.batch import Batch, Modality
from cm2.config import Config, EncoderConfig, did_you_mean
from cm2.embedding import check_modalities
from cm2.encoders import build_encoder


class Baseline(nn.Module, ABC):
    """A method that CM² is compared with, trained by the same trainer on the same batches.

    A method of one head gives ``logits``; one with more overrides ``loss`` and, where the prediction is no head's, ``probability``.

    Args:
        config: the run's configuration; ``config.baseline`` and ``config.encoder`` are read.
        modalities: those of the cohort, ``fewest`` or more.

    Raises:
        ValueError: too few modalities.
    """

    version = "1"
    fewest: ClassVar[int] = 2
    """The smallest number of modalities that the method makes sense for."""
    unused_parameters: Mapping[str, str] = {}
    """Why parameters whose name starts with the key receive no gradient from the loss."""

    def __init__(self, config: Config, modalities: Sequence[Modality]) -> None:
        super().__init__()
        if len(modalities) < self.fewest:
            given = [m.name for m in modalities]
            raise ValueError(f"{config.method} joins modalities: expected {self.fewest} or more, got {given}; add one to the cohort")
        self.config = config.baseline
        self.names = tuple(m.name for m in modalities)
        self.epoch = 0

    @property
    def released(self) -> bool:
        """Whether this is the variant of the CM² authors' program."""
        return self.config.variant == "released"

    def build_encoder(self, modality: Modality, config: EncoderConfig) -> nn.Module:
        """The encoder that this variant has for a modality."""
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

    def predict(self, batch: Batch) -> Tensor:
        """Probability of the outcome ``(B,)``."""
        return self.predictive(batch)[0]

    def predictive(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Probability and its variance between draws, each ``(B,)``; nothing is drawn, so the variance is 0."""
        self.check(batch)
        probability = self.probability(batch).float()
        return probability, torch.zeros_like(probability)

    def check(self, batch: Batch) -> None:
        """Raises ValueError for a batch of other modalities."""
        check_modalities(batch, self.names)

    def chosen(self, default: str) -> str:
        """The modality that the configuration names, or the default. Raises ValueError for one that the cohort lacks."""
        name = self.config.modality or default
        if name not in self.names:
            near = did_you_mean(name, self.names)
            raise ValueError(f"baseline.modality: the cohort has no modality {name!r}; choose one of {', '.join(self.names)}{near}")
        return name


def cross_entropy(logits: Tensor, label: Tensor, present: Tensor | None = None) -> Tensor:
    """Binary cross entropy of the stays ``(B,)``, or of those that are ``present`` (mean over them; 0 where there is none)."""
    each = F.binary_cross_entropy_with_logits(logits.float(), label.float(), reduction="none")
    if present is None:
        return each.mean()
    return torch.where(present, each, 0).sum() / present.sum().clamp(min=1)
