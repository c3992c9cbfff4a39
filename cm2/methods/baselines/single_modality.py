"""Single modality: encoder and classifier of one modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.kinds import build_encoder
from cm2.methods.baselines.base import Baseline
from cm2.networks.embedding import present_values, spread
from cm2.tasks import Task


class SingleModality(Baseline):
    """One modality's encoder and head; for a stay without the modality what the training stays have as a whole is predicted.

    Not in the paper; both variants are the same.

    Args:
        config: the run's configuration; ``config.baseline.modality`` names the modality, by default the cohort's first.
        modalities: the cohort's modalities, one or more.
        task: what is predicted; None: a binary outcome.

    Raises:
        ValueError: a modality that the cohort lacks.
    """

    name: ClassVar[str] = "single_modality"
    variants: ClassVar[tuple[str, ...]] = ("original",)
    fewest = 1

    def __init__(self, config: Config, modalities: Sequence[Modality], task: Task | None = None) -> None:
        super().__init__(config, modalities, task)
        self.modality = self.chosen(default=self.names[0])
        self.encoder = build_encoder(next(m for m in modalities if m.name == self.modality), config.encoder)
        self.dropout = nn.Dropout(self.config.dropout)
        self.head = self.new_head(self.encoder.output_dim)
        self.frequency = nn.Parameter(torch.zeros(self.task.outputs).squeeze())

    def logits(self, batch: Batch) -> Tensor:
        """Outputs ``(B, outputs)``, the same for all stays that lack the modality."""
        return self._parts(batch)[0]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Loss of the head over the stays with the modality, plus that of the constant over all stays."""
        self.check(batch)
        logits, present = self._parts(batch)
        own = self.task.loss(logits, batch.label, present) + self.task.loss(self._constant(batch), batch.label)
        return {"loss": own, "task": self.task.loss(logits.detach(), batch.label)}

    def _constant(self, batch: Batch) -> Tensor:
        return self.frequency.expand(len(batch), self.task.outputs)

    def _parts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        present = batch.present[:, self.names.index(self.modality)]
        if batch.rows[self.modality].numel() == 0:
            return self._constant(batch), present
        z = self.encoder(present_values(batch, self.modality))
        own = spread(self.head(self.dropout(z)).float(), batch, self.modality)
        return torch.where(present[:, None], own, self.frequency), present
