"""Points of the unit interval as the pair of their tails (log u, log(1 - u)), and the way back."""

import torch
from torch import Size, Tensor

from cm2.numerics.elementary import log1mexp

Tails = tuple[Tensor, Tensor]


def to_unit_interval(log_u: Tensor, log1m_u: Tensor) -> Tensor:
    """The number in the open interval (0, 1) nearest to a pair of tails (a drawn 1 - 1e-20 would otherwise round to 1)."""
    return open_unit_interval(torch.where(log_u < log1m_u, torch.exp(log_u), -torch.expm1(log1m_u)))


def open_unit_interval(u: Tensor) -> Tensor:
    """The float in the open interval nearest to a number in [0, 1] that was rounded to it."""
    limits = torch.finfo(u.dtype)
    return u.clamp(limits.tiny, 1 - limits.eps / 2)


def uniform_tails(shape: Size, like: Tensor) -> tuple[Tensor, Tensor]:
    """Tails (log p, log(1 - p)) of independent uniform draws, of `like`'s dtype and device; never infinite."""
    log_p = -torch.empty(shape, dtype=like.dtype, device=like.device).exponential_()
    return log_p, log1mexp(log_p)


def many(u: Tensor, parameter: Tensor) -> bool:
    """Whether a formula may ask for the parameter's value: one value, on the host, and points enough to make it worth the while."""
    return parameter.dim() == 0 and parameter.is_cpu and u.is_cpu and u.numel() > 8192
