"""Late fusion: a separate model per modality, their probabilities averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.containers import ModulesByName
from cm2.kinds import build_encoder
from cm2.methods.baselines.base import Baseline
from cm2.methods.task_loss import cross_entropy
from cm2.networks.embedding import present_values, spread


class LateFusion(Baseline):
    """An encoder and a head per modality, trained on the stays with it; a stay's probability is the mean over its observed modalities.

    The models exchange nothing, so a method has to beat them before its gain can be ascribed to dependence between modalities. Not in
    the paper; both variants are the same.

    Args:
        config: the run's configuration.
        modalities: two or more modalities of the cohort.
    """

    name: ClassVar[str] = "late_fusion"
    variants: ClassVar[tuple[str, ...]] = ("original",)

    def __init__(self, config: Config, modalities: Sequence[Modality]) -> None:
        super().__init__(config, modalities)
        self.encoders = ModulesByName({m.name: build_encoder(m, config.encoder) for m in modalities})
        self.heads = nn.ModuleDict({name: nn.Linear(encoder.output_dim, 1) for name, encoder in self.encoders.items()})
        self.dropout = nn.Dropout(self.config.dropout)

    def each(self, batch: Batch) -> Tensor:
        """Log-odds of every modality's model ``(B, M)``, 0 where the modality is missing."""
        return torch.stack([self._one(batch, name) for name in self.names], dim=1)

    def logits(self, batch: Batch) -> Tensor:
        """Log-odds of the averaged probability ``(B,)``."""
        return mean_log_odds(self.each(batch), batch.present)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``: sum over modalities of the cross entropy over the stays with them; ``task``: cross entropy of the prediction."""
        self.check(batch)
        logits = self.each(batch)
        parts = [cross_entropy(logits[:, m], batch.label, batch.present[:, m]) for m in range(len(self.names))]
        task = cross_entropy(mean_log_odds(logits.detach(), batch.present), batch.label)
        return {"loss": torch.stack(parts).sum(), "task": task}

    def _one(self, batch: Batch, name: str) -> Tensor:
        if batch.rows[name].numel() == 0:
            return batch.label.new_zeros(len(batch), dtype=torch.float32)
        z = self.encoders[name](present_values(batch, name))
        return spread(self.heads[name](self.dropout(z)).squeeze(-1).float(), batch, name)


def mean_log_odds(logits: Tensor, present: Tensor) -> Tensor:
    """Log-odds of the mean probability of the observed modalities, ``(B, M)`` and ``(B, M)`` to ``(B,)``; accurate near 0 and 1."""
    one = torch.where(present, logsigmoid(logits), -torch.inf).logsumexp(dim=1)
    zero = torch.where(present, logsigmoid(-logits), -torch.inf).logsumexp(dim=1)
    return one - zero
