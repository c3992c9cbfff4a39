"""Conversions between points of the unit interval and their tails (log u, log(1 - u)); checks of points."""

import torch
from torch import Size, Tensor

from cm2.errors import InputError
from cm2.numerics.elementary import log1mexp

Tails = tuple[Tensor, Tensor]
"""(log u, log(1 - u)), of one shape."""


def to_unit_interval(log_u: Tensor, log1m_u: Tensor) -> Tensor:
    """The float in the open interval (0, 1) nearest to a pair of tails (a drawn 1 - 1e-20 would otherwise round to 1)."""
    # from the smaller tail, which determines u to the last digit
    return open_unit_interval(torch.where(log_u < log1m_u, torch.exp(log_u), -torch.expm1(log1m_u)))


def open_unit_interval(u: Tensor) -> Tensor:
    """Replaces a 0 or 1 that is due to rounding by the nearest float in the open interval (0, 1)."""
    limits = torch.finfo(u.dtype)
    return u.clamp(limits.tiny, 1 - limits.eps / 2)  # floats just below 1 are eps / 2 apart


def uniform_tails(shape: Size, like: Tensor) -> Tails:
    """Tails (log p, log(1 - p)) of independent uniform draws, of `like`'s dtype and device; never infinite."""
    log_p = -torch.empty(shape, dtype=like.dtype, device=like.device).exponential_()  # minus the logarithm of a uniform is exponential
    return log_p, log1mexp(log_p)


def many(u: Tensor, parameter: Tensor) -> bool:
    """Whether to use a formula that reads the parameter's value: a single value on the host, and enough points to make it pay."""
    return parameter.dim() == 0 and parameter.is_cpu and u.is_cpu and u.numel() > 8192


def touches_boundary(u: Tensor, present: Tensor | None, dim: int) -> bool:
    """Checks points of the unit cube; True if any observed value is exactly 0 or 1.

    Args:
        u: points, (..., dim).
        present: optional bool mask of the observed values, (..., dim); the others are not checked.
        dim: number of coordinates expected.

    Raises:
        ValueError: wrong last dimension, a mask of another shape or type, NaN, or a value outside [0, 1].
    """
    if u.dim() == 0 or u.shape[-1] != dim:
        raise InputError(f"u has shape {tuple(u.shape)}; the last dimension must be {dim}, one value per coordinate of the copula")
    if present is not None:
        if present.dtype != torch.bool or present.shape[-1:] != u.shape[-1:]:
            raise InputError(
                f"present has dtype {present.dtype} and shape {tuple(present.shape)}; give a bool mask of shape {tuple(u.shape)}"
            )
        u = torch.where(present, u, 0.5)
    if u.numel() == 0:
        return False
    least, most = (end.item() for end in torch.aminmax(u.detach()))
    if least != least:  # the smallest and largest value are NaN if any value is
        raise InputError("u holds NaN; mark missing coordinates with present=, or drop them")
    if least < 0 or most > 1:
        raise InputError(
            f"u holds {least if least < 0 else most:g}, outside [0, 1]; map values to uniforms (ranks over n + 1, or a CDF) first"
        )
    return least == 0 or most == 1


def refuse_boundary(given: Tensor) -> None:
    """Refuses values that are exactly 0 or 1.

    Raises:
        ValueError: a value that is exactly 0 or 1; the message names it.
    """
    edge = (given <= 0) | (given >= 1)
    if edge.any():
        raise InputError(f"a coordinate to condition on is exactly {given[edge][0].item():g}; it must lie in (0, 1)")
