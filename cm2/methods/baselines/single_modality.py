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
from cm2.methods.task_loss import cross_entropy
from cm2.networks.embedding import present_values, spread


class SingleModality(Baseline):
    """One modality's encoder and head; a stay without the modality gets the outcome's frequency among the training stays.

    Not in the paper; both variants are the same.

    Args:
        config: the run's configuration; ``config.baseline.modality`` names the modality, by default the cohort's first.
        modalities: the cohort's modalities, one or more.

    Raises:
        ValueError: a modality that the cohort lacks.
    """

    name: ClassVar[str] = "single_modality"
    variants: ClassVar[tuple[str, ...]] = ("original",)
    fewest = 1

    def __init__(self, config: Config, modalities: Sequence[Modality]) -> None:
        super().__init__(config, modalities)
        self.modality = self.chosen(default=self.names[0])
        self.encoder = build_encoder(next(m for m in modalities if m.name == self.modality), config.encoder)
        self.dropout = nn.Dropout(self.config.dropout)
        self.head = nn.Linear(self.encoder.output_dim, 1)
        self.frequency = nn.Parameter(torch.zeros(()))

    def logits(self, batch: Batch) -> Tensor:
        """Log-odds ``(B,)``, those of the frequency where the modality is missing."""
        return self._parts(batch)[0]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Cross entropy of the head over the stays with the modality, plus that of the frequency over all stays."""
        self.check(batch)
        logits, present = self._parts(batch)
        own = cross_entropy(logits, batch.label, present) + cross_entropy(self.frequency.expand(len(batch)), batch.label)
        return {"loss": own, "task": cross_entropy(logits.detach(), batch.label)}

    def _parts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        present = batch.present[:, self.names.index(self.modality)]
        if batch.rows[self.modality].numel() == 0:
            return self.frequency.expand(len(batch)), present
        z = self.encoder(present_values(batch, self.modality))
        own = spread(self.head(self.dropout(z)).squeeze(-1).float(), batch, self.modality)
        return torch.where(present, own, self.frequency), present
