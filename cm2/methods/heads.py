"""Heads: one that is given in place of CM²'s own, and a linear one for each modality beside the fused one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cm2.containers import ModulesInOrder
from cm2.errors import InputError
from cm2.tasks import Task


class ModalityHeads(ModulesInOrder[nn.Linear]):
    """Outputs of the task from each modality's embedding.

    Args:
        count: M, number of modalities.
        dim: width of an embedding.
        task: what is predicted.
    """

    def __init__(self, count: int, dim: int, task: Task) -> None:
        super().__init__([nn.Linear(dim, task.outputs) for _ in range(count)])
        self.task = task

    def logits(self, z: Tensor) -> Tensor:
        """``(B, M, outputs)`` float32, of embeddings ``(B, M, d)``."""
        return torch.stack([head(z[:, m]) for m, head in enumerate(self)], dim=1).float()

    def prediction(self, z: Tensor, present: Tensor) -> Tensor:
        """Mean prediction over the observed modalities ``(B,)`` or ``(B, P)``."""
        each = self.task.prediction(self.logits(z))
        seen = present.view(*present.shape, *[1] * (each.ndim - 2))
        return torch.where(seen, each, 0.0).sum(dim=1) / seen.sum(dim=1)

    def loss(self, z: Tensor, present: Tensor, label: Tensor) -> Tensor:
        """Sum over the modalities of the mean loss of the stays that have it."""
        logits = self.logits(z)
        return torch.stack([self.task.loss(logits[:, m], label, present[:, m]) for m in range(len(self))]).sum()


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
