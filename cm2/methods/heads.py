"""A linear classifier for each modality, beside the fused one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cm2.containers import ModulesInOrder
from cm2.methods.task_loss import cross_entropy


class ModalityHeads(ModulesInOrder[nn.Linear]):
    """One logit from each modality's embedding.

    Args:
        count: M, number of modalities.
        dim: width of an embedding.
    """

    def __init__(self, count: int, dim: int) -> None:
        super().__init__([nn.Linear(dim, 1) for _ in range(count)])

    def logits(self, z: Tensor) -> Tensor:
        """``(B, M)`` float32, of embeddings ``(B, M, d)``."""
        return torch.cat([head(z[:, m]) for m, head in enumerate(self)], dim=1).float()

    def probability(self, z: Tensor, present: Tensor) -> Tensor:
        """Mean probability over the observed modalities ``(B,)``."""
        return torch.where(present, self.logits(z).sigmoid(), 0.0).sum(dim=1) / present.sum(dim=1)

    def loss(self, z: Tensor, present: Tensor, label: Tensor) -> Tensor:
        """Sum over the modalities of the mean cross entropy of the stays that have it."""
        logits = self.logits(z)
        return torch.stack([cross_entropy(logits[:, m], label, present[:, m]) for m in range(len(self))]).sum()
