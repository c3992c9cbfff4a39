"""Late fusion: a separate model per modality, their predictions averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.containers import ModulesByName
from cm2.kinds import build_encoder
from cm2.methods.baselines.base import Baseline
from cm2.networks.embedding import present_values, spread
from cm2.tasks import Task


class LateFusion(Baseline):
    """An encoder and a head per modality, trained on the stays with it; a stay's prediction is the mean over its observed modalities.

    The models exchange nothing, so a method has to beat them before its gain can be ascribed to dependence between modalities. Not in
    the paper; both variants are the same.

    Args:
        config: the run's configuration.
        modalities: two or more modalities of the cohort.
        task: what is predicted; None: a binary outcome.
    """

    name: ClassVar[str] = "late_fusion"
    variants: ClassVar[tuple[str, ...]] = ("original",)

    def __init__(self, config: Config, modalities: Sequence[Modality], task: Task | None = None) -> None:
        super().__init__(config, modalities, task)
        self.encoders = ModulesByName({m.name: build_encoder(m, config.encoder) for m in modalities})
        self.heads = nn.ModuleDict({name: self.new_head(encoder.output_dim) for name, encoder in self.encoders.items()})
        self.dropout = nn.Dropout(self.config.dropout)

    def each(self, batch: Batch) -> Tensor:
        """Outputs of every modality's model ``(B, M, outputs)``, 0 where the modality is missing."""
        return torch.stack([self._one(batch, name) for name in self.names], dim=1)

    def logits(self, batch: Batch) -> Tensor:
        """Outputs ``(B, outputs)`` that predict the mean of the models' predictions."""
        return self.task.pooled(self.each(batch), batch.present)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``: sum over modalities of the loss over the stays with them; ``task``: loss of the prediction."""
        self.check(batch)
        logits = self.each(batch)
        parts = [self.task.loss(logits[:, m], batch.label, batch.present[:, m]) for m in range(len(self.names))]
        task = self.task.loss(self.task.pooled(logits.detach(), batch.present), batch.label)
        return {"loss": torch.stack(parts).sum(), "task": task}

    def _one(self, batch: Batch, name: str) -> Tensor:
        if batch.rows[name].numel() == 0:
            return batch.label.new_zeros(len(batch), self.task.outputs, dtype=torch.float32)
        z = self.encoders[name](present_values(batch, name))
        return spread(self.heads[name](self.dropout(z)).float(), batch, name)
