"""Attention with heads of any width, from one sequence to another, blind to what is masked."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Scaled dot-product attention with several heads (Vaswani et al., NeurIPS 2017).

    Args:
        dim: width of the sequence that asks, and of what it is given.
        heads: number of heads.
        head_width: width of a head.
        context: width of the sequence that is asked; without it, ``dim``.
        dropout: of the attention weights.
    """

    def __init__(self, dim: int, heads: int, head_width: int, context: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(dim, heads * head_width, bias=False)
        self.key_value = nn.Linear(context or dim, 2 * heads * head_width, bias=False)
        self.output = nn.Linear(heads * head_width, dim)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """What every position of ``x`` is given.

        Args:
            x: ``(B, Q, dim)``.
            context: the sequence that is asked ``(B, L, context)``; without it, ``x`` itself.
            mask: which of its positions may be read ``(B, L)`` bool; without it, all.

        Returns:
            ``(B, Q, dim)``, zero for a row of which nothing may be read.
        """
        context = x if context is None else context
        key, value = (self._split(part) for part in self.key_value(context).chunk(2, dim=-1))
        dropout = self.dropout if self.training else 0.0
        if mask is None:
            read = F.scaled_dot_product_attention(self._split(self.query(x)), key, value, dropout_p=dropout)
            return self.output(read.transpose(1, 2).flatten(2))
        some = mask.any(dim=1)[:, None, None]
        seen = (mask | ~some.squeeze(1))[:, None, None, :].expand(-1, 1, x.shape[1], -1)
        read = F.scaled_dot_product_attention(self._split(self.query(x)), key, value, seen, dropout_p=dropout)
        return torch.where(some, self.output(read.transpose(1, 2).flatten(2)), 0)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
