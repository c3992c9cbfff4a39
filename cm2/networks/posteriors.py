"""Stochastic embeddings: a Gaussian around each encoder's output."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cm2.containers import ModulesInOrder

_LOG_SQRT_TAU = 0.5 * math.log(2 * math.pi)
_START = -2.0
"""Of the raw scale: a standard deviation of about 0.13."""


class DiagonalPosteriors(nn.Module):
    """q(z | x) = N(e(x), diag s(x)^2) for each modality: e the embedding, s a linear layer and softplus of it (Kingma, Welling 2014).

    Args:
        modalities: M.
        dim: d.
    """

    def __init__(self, modalities: int, dim: int) -> None:
        super().__init__()
        self.raw_scale = ModulesInOrder([nn.Linear(dim, dim) for _ in range(modalities)])
        for layer in self.raw_scale:
            nn.init.zeros_(layer.weight)
            nn.init.constant_(layer.bias, _START)

    def scale(self, mean: Tensor) -> Tensor:
        """Standard deviations, ``(B, M, d)``."""
        return F.softplus(torch.stack([layer(mean[:, m]) for m, layer in enumerate(self.raw_scale)], dim=1)) + 1e-4

    def forward(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        """One draw ``(B, M, d)`` for embeddings ``(B, M, d)``, and log q of it ``(B, M)``."""
        scale, noise = self.scale(mean), torch.randn_like(mean)
        log_prob = -0.5 * noise.square() - scale.log() - _LOG_SQRT_TAU
        return mean + scale * noise, log_prob.sum(dim=-1)
