"""Points of the unit interval as the pair of their tails (log u, log(1 - u)), and the way back."""

import torch
from torch import Size, Tensor

from cm2.numerics.elementary import log1mexp

Tails = tuple[Tensor, Tensor]
"""(log u, log(1 - u)), of one shape."""


def to_unit_interval(log_u: Tensor, log1m_u: Tensor) -> Tensor:
    """The number in the open interval (0, 1) nearest to a pair of tails (a drawn 1 - 1e-20 would otherwise round to 1)."""
    return open_unit_interval(torch.where(log_u < log1m_u, torch.exp(log_u), -torch.expm1(log1m_u)))


def open_unit_interval(u: Tensor) -> Tensor:
    """The float in the open interval nearest to a number in [0, 1] that was rounded to it."""
    limits = torch.finfo(u.dtype)
    return u.clamp(limits.tiny, 1 - limits.eps / 2)


def uniform_tails(shape: Size, like: Tensor) -> Tails:
    """Tails (log p, log(1 - p)) of independent uniform draws, of `like`'s dtype and device; never infinite."""
    log_p = -torch.empty(shape, dtype=like.dtype, device=like.device).exponential_()
    return log_p, log1mexp(log_p)


def many(u: Tensor, parameter: Tensor) -> bool:
    """Whether a formula may ask for the parameter's value: one value, on the host, and points enough to make it worth the while."""
    return parameter.dim() == 0 and parameter.is_cpu and u.is_cpu and u.numel() > 8192


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
