r"""Logarithms of the regularised incomplete gamma functions for an integer shape, and their inverse.

For :math:`T \sim \mathrm{Gamma}(d, 1)`, :math:`P(d, t) = \Pr(T \le t)` and :math:`Q(d, t) = \Pr(T > t)`. Minus the sum of the
logarithms of :math:`d` independent uniforms has this distribution, by which an embedding of :math:`d` coordinates is mapped to one
uniform. Each tail underflows long before its logarithm, so both are returned as logarithms.

References:
    NIST Digital Library of Mathematical Functions, 8.7.1 and 8.8.9-10 (series and finite sum), https://dlmf.nist.gov/8
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from cm2.numerics.context import Context

_SMALL = 1e-280
_NEWTON_STEPS = 6


def log_gamma_tails(shape: int, t: Tensor) -> tuple[Tensor, Tensor]:
    r"""Both log tails of the Gamma(d, 1) distribution, :math:`\log Q(d, t)` and :math:`\log P(d, t)`.

    Evaluated in float64 and returned in the dtype of ``t``: relative error below 1e-13 in float64 at either end, even if the
    probability itself underflows. The derivatives are exact: :math:`\mp t^{d-1} e^{-t} / \Gamma(d)` over the tail.

    Args:
        shape: :math:`d \ge 1`, an integer.
        t: any shape, :math:`t \ge 0`; not checked. At 0 :math:`\log P` is ``-inf`` with an infinite derivative.

    Returns:
        ``(log_q, log_p)``, each of the shape of ``t``.

    Raises:
        ValueError: a shape that is not a positive integer.
    """
    _check_shape(shape)
    log_q, log_p = _LogGammaTails.apply(shape, t.double())
    return log_q.to(t.dtype), log_p.to(t.dtype)


def inverse_log_gamma_tails(shape: int, log_q: Tensor, log_p: Tensor) -> Tensor:
    r"""The :math:`t` with :math:`\log Q(d, t)` = ``log_q`` and :math:`\log P(d, t)` = ``log_p``.

    Only the smaller tail is inverted, so both may be rounded. Newton's method on its logarithm, with a fixed number of steps: log P is
    concave in log t and log Q in t, so the iteration cannot leave the right side. The derivative is that of the implicit function:
    :math:`dt / d\log Q = -Q(d, t) / g(t)` with :math:`g` the Gamma density, or :math:`P / g` on the other side.

    Args:
        shape: :math:`d \ge 1`, an integer.
        log_q: any shape, :math:`\log v` with :math:`v` uniform if :math:`T` has the Gamma distribution.
        log_p: the same shape, :math:`\log(1 - v)`.

    Returns:
        :math:`t`, of the shape of ``log_q``.

    Raises:
        ValueError: a shape that is not a positive integer.
    """
    _check_shape(shape)
    t = _InverseLogGammaTails.apply(shape, log_q.double(), log_p.double())
    return t.to(log_q.dtype)


def _check_shape(shape: int) -> None:
    if not isinstance(shape, int) or shape < 1:
        raise ValueError(f"shape of the Gamma distribution: expected an integer >= 1, got {shape!r}; pass the number of coordinates")


class _ShapeContext(Context):
    shape: int


class _LogGammaTails(torch.autograd.Function):
    @staticmethod
    def forward(shape: int, t: Tensor) -> tuple[Tensor, Tensor]:
        return _forward(shape, t)

    @staticmethod
    def setup_context(ctx: _ShapeContext, inputs: tuple[int, Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.shape = inputs[0]
        ctx.save_for_backward(inputs[1], *output)

    @staticmethod
    def backward(ctx: _ShapeContext, grad_q: Tensor, grad_p: Tensor) -> tuple[None, Tensor]:
        t, log_q, log_p = ctx.saved_tensors
        log_g = _log_density(ctx.shape, t)
        return None, grad_p * (log_g - log_p).exp() - grad_q * (log_g - log_q).exp()


class _InverseLogGammaTails(torch.autograd.Function):
    @staticmethod
    def forward(shape: int, log_q: Tensor, log_p: Tensor) -> Tensor:
        upper = log_q < log_p
        t = _guess(shape, log_q, log_p)
        for _ in range(_NEWTON_STEPS):
            now_q, now_p = _forward(shape, t)
            log_g = _log_density(shape, t)
            step_q = (now_q - log_q) * (now_q - log_g).exp()
            step_p = (log_p - now_p) * (now_p - log_g).exp() / t
            # step in log t below the median, in t above it: on these scales the smaller log tail is concave
            t = torch.where(upper, (t + step_q).clamp(min=0.5 * t), t * step_p.clamp(-1e3, 2.0).exp())
        return t

    @staticmethod
    def setup_context(ctx: _ShapeContext, inputs: tuple[int, Tensor, Tensor], output: Tensor) -> None:
        ctx.shape, log_q, log_p = inputs
        ctx.save_for_backward(output, log_q, log_p)

    @staticmethod
    def backward(ctx: _ShapeContext, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        t, log_q, log_p = ctx.saved_tensors
        upper = log_q < log_p
        slope = grad * (torch.where(upper, log_q, log_p) - _log_density(ctx.shape, t)).exp()
        return None, torch.where(upper, -slope, 0.0), torch.where(upper, 0.0, slope)


def _log_density(shape: int, t: Tensor) -> Tensor:
    power = (shape - 1) * t.log() if shape > 1 else 0.0
    return power - t - math.lgamma(shape)


def _forward(shape: int, t: Tensor) -> tuple[Tensor, Tensor]:
    """The tail away from the bulk by a series of positive, decreasing terms; the other tail is its complement.

    Above d: Q is the density times the finite sum 1 + (d-1)/t + (d-1)(d-2)/t^2 + ... Below d: P is t/d times the density times
    1 + t/(d+1) + t^2/((d+1)(d+2)) + ... (``torch.special.gammaincc`` is off by 5e-10 near t = d.)
    """
    n = torch.arange(1, 1 + _terms(shape), dtype=t.dtype, device=t.device)
    above = t >= shape
    below = (~above).to(t.dtype)
    numerator = torch.where(above, float(shape), t)[..., None] - (1 - below)[..., None] * n  # 0 at n = d ends the finite sum
    denominator = torch.where(above, t, float(shape))[..., None] + below[..., None] * n
    series = (numerator / denominator).cumprod(-1).sum(-1).log1p()
    near = (shape - 1 + below) * t.log() - t - math.lgamma(shape) - below * math.log(shape) + series
    near = torch.where(t == math.inf, -t, near)  # else NaN, from inf - inf
    far = torch.log1p(-near.exp())
    return torch.where(above, near, far), torch.where(above, far, near)


@lru_cache
def _terms(shape: int) -> int:
    """Number of terms after which the slower series, at t = d from below, has converged to 1e-17."""
    n, log_term = 0, 0.0
    while log_term > math.log(1e-17):
        n += 1
        log_term -= math.log1p(n / shape)
    return n


def _guess(shape: int, log_q: Tensor, log_p: Tensor) -> Tensor:
    """Start: the normal approximation of Wilson and Hilferty, or the leading power of P where its cube root is small or negative."""
    tail = torch.special.ndtri(torch.minimum(log_q, log_p).exp().clamp(min=_SMALL))
    x = torch.where(log_q < log_p, -tail, tail)  # too small for tails below _SMALL, from where Newton's method still converges
    root = 1 - 1 / (9 * shape) + x / (3 * math.sqrt(shape))
    power = ((log_p + math.lgamma(shape + 1)) / shape).exp()
    return torch.where(root > 0.2, shape * root**3, power).clamp(min=torch.finfo(log_q.dtype).tiny)
