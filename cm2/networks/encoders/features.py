"""Feature maps: an encoder's representation of a modality before pooling."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """A feature map of any rank, channels last.

    Args:
        values: ``(B, *positions, C)``: steps of a series ``(B, T, C)``, a map of an image ``(B, H, W, C)``, tokens of a text
            ``(B, L, C)``; a vector ``(B, C)`` has no positions.
        mask: ``(B, *positions)`` bool, False for padding, at least one position per row; by default no padding. Only texts have one.
        summary: ``(B, S)``, a representation that goes past the map to the encoder's pooling; None: none.
    """

    values: Tensor
    mask: Tensor | None = None
    summary: Tensor | None = None

    def mean(self) -> Tensor:
        """Mean over the unmasked positions (global average pooling), ``(B, C)``."""
        if self.values.ndim == 2:
            return self.values
        tokens = self.values.flatten(1, -2)
        if self.mask is None:
            return tokens.mean(dim=1)
        weight = self.mask.flatten(1).to(tokens.dtype)[..., None]
        return (tokens * weight).sum(dim=1) / weight.sum(dim=1)

    def affine(self, scale: Tensor, shift: Tensor | None = None) -> Features:
        """Every position times ``scale`` plus ``shift``, each ``(B, C)``."""
        shape = (scale.shape[0], *[1] * (self.values.ndim - 2), scale.shape[1])
        values = self.values * scale.view(shape)
        return replace(self, values=values if shift is None else values + shift.view(shape))

    def tokens(self) -> tuple[Tensor, Tensor]:
        """The positions as a sequence: values ``(B, L, C)`` and mask ``(B, L)``; a vector is one token."""
        values = self.values.flatten(1, -2) if self.values.ndim > 2 else self.values[:, None]
        mask = values.new_ones(values.shape[:2], dtype=torch.bool) if self.mask is None else self.mask.flatten(1)
        return values, mask
