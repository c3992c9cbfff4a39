"""Checks of points of the unit cube: one clear error each."""

import torch
from torch import Tensor


def touches_boundary(u: Tensor, present: Tensor | None, dim: int) -> bool:
    """Checks points of the unit cube; True where one of them is exactly 0 or 1.

    Args:
        u: points, (..., dim).
        present: optional bool mask, (..., dim); absent values are not looked at.
        dim: number of coordinates expected.

    Raises:
        ValueError: wrong last dimension, a mask that is none, NaN, or a value outside [0, 1].
    """
    if u.dim() == 0 or u.shape[-1] != dim:
        raise ValueError(f"u has shape {tuple(u.shape)}; the last dimension must be {dim}, one value per coordinate of the copula")
    if present is not None:
        if present.dtype != torch.bool or present.shape[-1:] != u.shape[-1:]:
            raise ValueError(
                f"present has dtype {present.dtype} and shape {tuple(present.shape)}; give a bool mask of shape {tuple(u.shape)}"
            )
        u = torch.where(present, u, 0.5)
    if u.numel() == 0:
        return False
    least, most = (end.item() for end in torch.aminmax(u.detach()))
    if least != least:
        raise ValueError("u holds NaN; mark missing coordinates as absent with present=, or drop them")
    if least < 0 or most > 1:
        raise ValueError(
            f"u holds {least if least < 0 else most:g}, outside [0, 1]; map values to uniforms (ranks over n + 1, or a CDF) first"
        )
    return least == 0 or most == 1


def refuse_boundary(given: Tensor) -> None:
    """Refuses values that are exactly 0 or 1.

    Raises:
        ValueError: such a value.
    """
    edge = (given <= 0) | (given >= 1)
    if edge.any():
        raise ValueError(f"a coordinate to condition on is exactly {given[edge][0].item():g}; it must lie in (0, 1)")
