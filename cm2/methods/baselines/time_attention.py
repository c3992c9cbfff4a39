"""Attention from a grid of times to observed times."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TimeEmbedding(nn.Module):
    r"""A time as one linear feature and sines of learnt frequency and phase, :math:`[\omega_0 t + \alpha_0, \sin(\omega_k t + \alpha_k)]`.

    Args:
        width: of the embedding, 2 or more.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.periodic = nn.Linear(1, width - 1)

    def forward(self, t: Tensor) -> Tensor:
        """Times ``(...)`` to ``(..., width)``."""
        return torch.cat((self.linear(t[..., None]), self.periodic(t[..., None]).sin()), dim=-1)


class TimeAttention(nn.Module):
    """What a sequence has to say at every point of a grid of times (Shukla and Marlin, ICLR 2021, "mTAND").

    Times alone decide who is attended to: grid and observed times, embedded and mapped for each head, are compared; each head's mean
    of the observations is mapped to the common width. Grid and observations both run from 0 to 1.

    Args:
        width: of an observation.
        dim: of a point of the grid.
        time: width of a time's embedding, a multiple of ``heads``.
        heads: attention heads.
        dropout: of the attention weights.
    """

    def __init__(self, width: int, dim: int, time: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key = nn.Linear(time, time), nn.Linear(time, time)
        self.output = nn.Linear(heads * width, dim)

    def forward(self, x: Tensor, mask: Tensor, time: TimeEmbedding, steps: int) -> Tensor:
        """The sequence on the grid.

        Args:
            x: observations ``(n, L, width)``, evenly spaced in time over those that count.
            mask: which of them count ``(n, L)``, one or more in each row.
            time: the embedding of times.
            steps: points of the grid.

        Returns:
            ``(n, steps, dim)``.
        """
        place = mask.float().cumsum(dim=1) - 1
        observed = place / place[:, -1:].clamp(min=1)
        grid = torch.linspace(0, 1, steps, device=x.device)
        query, key = self._split(self.query(time(grid))), self._split(self.key(time(observed)))
        value = x[:, None].expand(-1, self.heads, -1, -1)
        seen = mask[:, None, None, :].expand(-1, 1, steps, -1)
        dropout = self.dropout if self.training else 0.0
        read = F.scaled_dot_product_attention(query.expand(len(x), -1, -1, -1), key, value, seen, dropout_p=dropout)
        return self.output(read.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
