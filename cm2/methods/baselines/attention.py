"""Masked multi-head attention from one sequence to another, with heads of any width."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Scaled dot-product attention with several heads (Vaswani et al., NeurIPS 2017).

    Args:
        dim: width of the querying sequence and of the output.
        heads: number of heads.
        head_width: width of a head.
        context: width of the sequence attended to; by default ``dim``.
        dropout: dropout rate of the attention weights.
    """

    def __init__(self, dim: int, heads: int, head_width: int, context: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(dim, heads * head_width, bias=False)
        self.key_value = nn.Linear(context or dim, 2 * heads * head_width, bias=False)
        self.output = nn.Linear(heads * head_width, dim)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Attention output at every position of ``x``.

        Args:
            x: queries ``(B, Q, dim)``.
            context: the sequence attended to ``(B, L, context)``; by default ``x``.
            mask: positions that may be attended to ``(B, L)`` bool; by default all.

        Returns:
            ``(B, Q, dim)``, zero for a row whose positions are all masked.
        """
        context = x if context is None else context
        key, value = (self._split(part) for part in self.key_value(context).chunk(2, dim=-1))
        dropout = self.dropout if self.training else 0.0
        if mask is None:
            read = F.scaled_dot_product_attention(self._split(self.query(x)), key, value, dropout_p=dropout)
            return self.output(read.transpose(1, 2).flatten(2))
        some = mask.any(dim=1)[:, None, None]
        # a fully masked row attends to everything and is zeroed below: a softmax over nothing is NaN
        seen = (mask | ~some.squeeze(1))[:, None, None, :].expand(-1, 1, x.shape[1], -1)
        read = F.scaled_dot_product_attention(self._split(self.query(x)), key, value, seen, dropout_p=dropout)
        return torch.where(some, self.output(read.transpose(1, 2).flatten(2)), 0)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
