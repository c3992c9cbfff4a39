"""Late fusion: a model of its own for every modality, their probabilities averaged."""

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
from cm2.methods.baselines.base import Baseline, cross_entropy
from cm2.networks.embedding import present_values, spread


class LateFusion(Baseline):
    """Each modality has its encoder and head, trained on the stays that have it; a stay's probability is the mean over its modalities.

    Nothing passes between modalities, so this is what a method has to beat whose gain is said to come from their dependence. Not in
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
        """Log-odds of every modality's own model ``(B, M)``, 0 where it is absent."""
        return torch.stack([self._one(batch, name) for name in self.names], dim=1)

    def logits(self, batch: Batch) -> Tensor:
        """Log-odds of the averaged probability ``(B,)``."""
        return mean_log_odds(self.each(batch), batch.present)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``: the sum over modalities of the cross entropy of the stays that have them; ``task``: that of the prediction."""
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
    """Log-odds of the mean of the present probabilities, ``(B, M)`` and ``(B, M)`` to ``(B,)``, exact however sure they are."""
    one = torch.where(present, logsigmoid(logits), -torch.inf).logsumexp(dim=1)
    zero = torch.where(present, logsigmoid(-logits), -torch.inf).logsumexp(dim=1)
    return one - zero
