"""Columns of a table on one scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

REACH = 5.0
"""Standard deviations at which a column is clipped."""
TINY = 1e-6
"""What is rounding error beside 1: of a column's spread, of a principal component's variance."""


class Standardised(nn.Module):
    """Standardises columns, clips them, and centres what is left; a value that is not known counts as the mean.

    Args:
        columns: number of columns.
    """

    centre: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(columns, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(columns, dtype=torch.float64))
        self.register_buffer("offset", torch.zeros(columns, dtype=torch.float64))

    def fit(self, x: Tensor) -> bool:
        """Fits means and spreads.

        Args:
            x: ``(n, columns)``; what is not finite is left out of means and spreads. NaN then counts as the mean, infinity is clipped.

        Returns:
            Whether any column varies.
        """
        x = x.double()
        known = x.isfinite()
        count = known.sum(0).clamp(min=1)
        self.centre = torch.where(known, x, 0).sum(0) / count
        spread = (torch.where(known, x - self.centre, 0).square().sum(0) / count).sqrt()
        # a constant column stays at 0; so does one that varies by rounding errors alone, such as the slope of a constant series
        varies = spread > TINY * (self.centre.abs() + spread.amax())
        self.scale = torch.where(varies, spread, torch.inf)
        self.offset = torch.zeros_like(self.centre)
        self.offset = self._clipped(x).sum(0) / max(len(x), 1)
        return bool(varies.any())

    def forward(self, x: Tensor) -> Tensor:
        """``(n, columns)``, any type, to float64."""
        return self._clipped(x.double()) - self.offset

    def _clipped(self, x: Tensor) -> Tensor:
        return ((x - self.centre) / self.scale).nan_to_num(nan=0.0, posinf=REACH, neginf=-REACH).clamp(-REACH, REACH)
