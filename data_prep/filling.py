"""Carrying charted values forward."""

from __future__ import annotations

import numpy as np


def forward_fill(values: np.ndarray) -> np.ndarray:
    """The last value charted up to each bin, along axis 1 of ``(n, T, F)``; NaN before the first."""
    steps = np.arange(values.shape[1])[None, :, None]
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, steps), axis=1)
    return np.take_along_axis(values, last, axis=1)
