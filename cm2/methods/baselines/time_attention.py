"""Attention from a grid of times to observed times."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TimeEmbedding(nn.Module):
    r"""Embedding of a time, :math:`[\omega_0 t + \alpha_0, \sin(\omega_k t + \alpha_k)]`, with learnt frequencies and phases.

    Args:
        width: width of the embedding, 2 or more.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.periodic = nn.Linear(1, width - 1)

    def forward(self, t: Tensor) -> Tensor:
        """Times ``(...)`` to ``(..., width)``."""
        return torch.cat((self.linear(t[..., None]), self.periodic(t[..., None]).sin()), dim=-1)


class TimeAttention(nn.Module):
    """Interpolates a sequence at every point of a grid of times (Shukla and Marlin, ICLR 2021, "mTAND").

    Attention depends on times only: grid times are the queries, observed times the keys, both embedded and mapped for each head; each
    head's weighted mean of the observations is mapped to the common width. Grid and observations both run from 0 to 1.

    Args:
        width: width of an observation.
        dim: width of the output at a grid point.
        time: width of a time's embedding, a multiple of ``heads``.
        heads: attention heads.
        dropout: dropout rate of the attention weights.
    """

    def __init__(self, width: int, dim: int, time: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key = nn.Linear(time, time), nn.Linear(time, time)
        self.output = nn.Linear(heads * width, dim)

    def forward(self, x: Tensor, mask: Tensor, time: TimeEmbedding, steps: int, observed: Tensor | None = None) -> Tensor:
        """Values of the sequence on the grid.

        Args:
            x: observations ``(n, L, width)``, the unmasked ones evenly spaced in time.
            mask: ``(n, L)`` bool, at least one observation in each row.
            time: the embedding of times.
            steps: number of grid points.
            observed: ``(n, L, width)`` bool, which features were measured at an observation; each is then interpolated from its own times
                alone, as in the original, and is 0 if there are none. None: all of them.

        Returns:
            ``(n, steps, dim)``.
        """
        place = mask.float().cumsum(dim=1) - 1
        when = place / place[:, -1:].clamp(min=1)
        grid = torch.linspace(0, 1, steps, device=x.device)
        query, key = self._split(self.query(time(grid))), self._split(self.key(time(when)))
        if observed is not None:
            return self.output(self._each_feature(query, key, x, observed & mask[..., None]))
        value = x[:, None].expand(-1, self.heads, -1, -1)
        seen = mask[:, None, None, :].expand(-1, 1, steps, -1)
        dropout = self.dropout if self.training else 0.0
        read = F.scaled_dot_product_attention(query.expand(len(x), -1, -1, -1), key, value, seen, dropout_p=dropout)
        return self.output(read.transpose(1, 2).flatten(2))

    def _each_feature(self, query: Tensor, key: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        """``(n, steps, heads * width)``: for each feature a softmax over its own times, as a ratio of two sums of the same exponentials."""
        scores = query @ key.mT / sqrt(key.shape[-1])
        weight = (scores - scores.amax(dim=-1, keepdim=True)).exp()
        seen = observed[:, None].to(weight)
        total = weight @ seen
        # one dropout mask for all features
        read = F.dropout(weight, self.dropout, self.training) @ (seen * x[:, None])
        return (read / total.clamp(min=torch.finfo(total.dtype).tiny)).transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
