"""Classifiers: one that is given in place of CM²'s own, and a linear one for each modality beside the fused one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cm2.containers import ModulesInOrder
from cm2.errors import InputError
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


def checked_head(head: nn.Module, width: int, outputs: int) -> nn.Module:
    """A classifier that was given.

    Args:
        head: ``(B, width) -> (B, outputs)``.
        width: of the fusion's vector.
        outputs: that the task asks for.

    Raises:
        InputError: it maps such vectors to something else.
    """
    training = head.training
    try:
        with torch.no_grad():
            made = head.eval()(torch.zeros(2, width))
    except Exception as error:  # of whatever network it is
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:160]
        raise InputError(f"head: the module does not read vectors (2, {width}) of the fusion: {reason}") from error
    head.train(training)
    if not isinstance(made, Tensor) or made.shape != (2, outputs):
        told = f"shape {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise InputError(f"head: expected (B, {outputs}) for B = 2 vectors of the fusion, got {told}")
    return head
