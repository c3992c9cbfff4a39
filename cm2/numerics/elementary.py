r"""Elementary functions in the log domain, with finite gradients wherever the value is finite.

The package represents a probability :math:`u` by its tails :math:`(\log u, \log(1-u))`, because neither alone distinguishes both
:math:`10^{-400}` from 0 and :math:`1 - 10^{-400}` from 1.
"""

import math
from collections.abc import Iterable

import torch
from torch import Size, Tensor

from cm2.numerics.context import Context

LOG_HALF = -math.log(2.0)
_UNDERFLOW = -37.0  # e^-37 is below half an ulp of 1 in float64: from here down -log(1 - e^x) equals e^x


class _Log1mExp(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.where(x > LOG_HALF, torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        return -grad * torch.exp(x - y)


def summed(terms: Iterable[Tensor]) -> Tensor:
    """The sum of one or more tensors."""
    first, *rest = terms
    for each in rest:
        first = first + each
    return first


def log1mexp(x: Tensor) -> Tensor:
    r""":math:`\log(1 - e^x)` for :math:`x < 0`, accurate at both ends (Mächler 2012, "Accurately computing log(1 - exp(-|a|))").

    Args:
        x: negative numbers, any shape.
    """
    return _Log1mExp.apply(x)


def log_expm1(x: Tensor) -> Tensor:
    r""":math:`\log(e^x - 1)` for :math:`x > 0`; no overflow."""
    return x + log1mexp(-x)


def log1pexp(x: Tensor) -> Tensor:
    r""":math:`\log(1 + e^x)` for any :math:`x`, without overflow."""
    return torch.logaddexp(x, torch.zeros_like(x))


class _WeightContext(Context):
    weight_shape: Size


class _LogExpPlus(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return torch.logaddexp(x, torch.log(weight))

    @staticmethod
    def setup_context(ctx: _WeightContext, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.weight_shape = inputs[1].shape

    @staticmethod
    def backward(ctx: _WeightContext, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, y = ctx.saved_tensors
        # the slope at a weight of exactly 0 may exceed the largest float
        steep = torch.exp(-y.clamp_min(math.log(torch.finfo(y.dtype).tiny)))
        return (grad * torch.exp(x - y)).sum_to_size(x.shape), (grad * steep).sum_to_size(ctx.weight_shape)


def log_exp_plus(x: Tensor, weight: Tensor) -> Tensor:
    r""":math:`\log(e^x + w)` for :math:`w \ge 0`, including exactly 0, where :math:`\log w` has no derivative; shapes broadcast."""
    return _LogExpPlus.apply(x, weight)


def log_neg_log(log_u: Tensor, log1m_u: Tensor | None) -> Tensor:
    r""":math:`\log(-\log u)` from both tails of :math:`u`.

    Near :math:`u = 1`, where :math:`\log u` underflows, the value equals :math:`\log(1-u)` to the last digit, which is used instead.

    Args:
        log_u: :math:`\log u`, any shape.
        log1m_u: :math:`\log(1-u)`, same shape; None if log u cannot have underflowed, for example because u was a float.
    """
    if log1m_u is None:
        return torch.log(-log_u)
    upper = log1m_u < _UNDERFLOW
    return torch.where(upper, log1m_u, torch.log(-torch.where(upper, -1.0, log_u)))


def exp_neg_exp_tails(x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Tails :math:`(\log u, \log(1-u))` of :math:`u = \exp(-e^x)`, the inverse of `log_neg_log`."""
    upper = x < _UNDERFLOW
    return -torch.exp(x), torch.where(upper, x, log1mexp(-torch.exp(torch.where(upper, 0.0, x))))


class _LogExpc(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        size = x.abs() + torch.finfo(x.dtype).tiny  # 0 / 0 at 0 otherwise
        return torch.log(torch.expm1(-size) / -size) + torch.relu(-x)

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (langevin(x / 2) - 1) / 2


def log_expc(x: Tensor) -> Tensor:
    r""":math:`\log\frac{1 - e^{-x}}{x}` for any real :math:`x`, smooth and 0 at 0; derivative :math:`(\coth(x/2) - 2/x - 1)/2`."""
    return _LogExpc.apply(x)


def langevin(x: Tensor) -> Tensor:
    r""":math:`\coth x - 1/x`, odd and smooth at 0 (a series for :math:`|x| < 1/4`, where the difference would cancel)."""
    small = x.abs() < 0.25
    square = x * x
    series = x * (1 / 3 - square * (1 / 45 - square * (2 / 945 - square * (1 / 4725 - square * (2 / 93555 - square * 1382 / 638512875)))))
    safe = torch.where(small, 1.0, x)
    return torch.where(small, series, 1 / torch.tanh(safe) - 1 / safe)
