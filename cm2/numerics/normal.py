r"""The standard normal law through the logarithms of its tails."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

LOG_SQRT_TAU = 0.5 * math.log(2 * math.pi)
_SQRT_HALF = math.sqrt(0.5)
_SQRT_HALF_PI = math.sqrt(math.pi / 2)
_MANY = 4096  # points from which the vectorised path is the faster one
_FAR = {torch.float64: -690.0, torch.float32: -80.0}  # where exp(log p) is about to underflow


def inverse_mills(z: Tensor) -> Tensor:
    r""":math:`\varphi(z)/\Phi(z)`, the derivative of :math:`\log\Phi`, without underflow in either tail."""
    below = z < 0
    low = 1 / (_SQRT_HALF_PI * torch.special.erfcx(-_SQRT_HALF * torch.where(below, z, 0.0)))
    high = torch.where(below, 0.0, z)
    return torch.where(below, low, torch.exp(-high * high / 2 - LOG_SQRT_TAU) / torch.special.ndtr(high))


class _LogNdtr(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return torch.special.log_ndtr(z)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return grad * inverse_mills(z)


def log_ndtr(z: Tensor) -> Tensor:
    r""":math:`\log\Phi(z)`; unlike `torch.special.log_ndtr` its gradient stays finite at :math:`z = -1000`."""
    return _LogNdtr.apply(z)


def _mills_far(z: Tensor) -> Tensor:
    r""":math:`-z\,\Phi(z)/\varphi(z) = 1 - z^{-2} + 3z^{-4} - \ldots` (Abramowitz and Stegun 26.2.12), for z below -12 or so."""
    x = 1 / (z * z)
    return 1 - x * (1 - 3 * x * (1 - 5 * x * (1 - 7 * x * (1 - 9 * x))))


def _log_ndtri_far(log_p: Tensor) -> Tensor:
    r"""Fixed point of :math:`z^2 = -2\log p - \log 2\pi - \log z^2 + 2\log(1 - z^{-2} + 3z^{-4} - \ldots)`, each turn z² times nearer."""
    start = -2 * log_p
    square = start - 2 * LOG_SQRT_TAU - torch.log(start)
    start = start.sub_(2 * LOG_SQRT_TAU)
    for _ in range(3):
        x = 1 / square
        series = (x * (-74 / 3)).add_(5).mul_(x).sub_(2).mul_(x)
        square = series.add_(start).sub_(square.log_())
    return square.sqrt_().neg_()


class _LogNdtri(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_p: Tensor) -> Tensor:
        limit = _FAR[log_p.dtype]
        far = log_p < limit
        z = torch.special.ndtri(torch.exp(log_p))
        z = torch.where(far, _log_ndtri_far(log_p.clamp(max=limit)), z)
        ctx.save_for_backward(log_p, z)
        return z

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        log_p, z = ctx.saved_tensors
        far = log_p < _FAR[log_p.dtype]
        beyond, within = torch.where(far, z, -40.0), torch.where(far, 0.0, log_p + z * z / 2 + LOG_SQRT_TAU)
        return grad * torch.where(far, _mills_far(beyond) / -beyond, torch.exp(within))


def log_ndtri(log_p: Tensor) -> Tensor:
    r"""The :math:`z` with :math:`\log\Phi(z) = \log p`, for :math:`p \le 1/2` (use `normal_quantile` for both halves).

    Accurate down to :math:`\log p = -10^6` and beyond; the gradient is implicit, :math:`dz/d\log p = \Phi(z)/\varphi(z)`.
    """
    return _LogNdtri.apply(log_p)


def normal_quantile(log_u: Tensor, log1m_u: Tensor) -> Tensor:
    r""":math:`\Phi^{-1}(u)` from both tails: whichever tail is the smaller one is inverted.

    Args:
        log_u: :math:`\log u`, any shape.
        log1m_u: :math:`\log(1-u)`, same shape.
    """
    lower = log_u < log1m_u
    z = log_ndtri(torch.where(lower, log_u, log1m_u))
    return torch.where(lower, z, -z)


class _NormalQuantileAt(torch.autograd.Function):
    @staticmethod
    def forward(u: Tensor) -> Tensor:
        if not (u.is_cpu and u.numel() > _MANY and u.dtype == torch.float64):
            return torch.special.ndtri(u)
        centred = torch.sub(u * 2, 1).contiguous()
        z = torch.erfinv(centred).mul_(math.sqrt(2))
        # 2u - 1 forgets the last digits of a small u: the tails come from the slower function of u itself
        tails = torch.nonzero(centred.abs_().flatten() > 0.95).squeeze(-1)
        z.view(-1).index_copy_(0, tails, torch.special.ndtri(u.flatten().index_select(0, tails)))
        return z

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return grad * torch.exp(z * z * 0.5 + LOG_SQRT_TAU)


def normal_quantile_at(u: Tensor) -> Tensor:
    r""":math:`\Phi^{-1}(u)` for a float u in (0, 1), any shape; derivative :math:`1/\varphi(z)`.

    `torch.special.ndtri` is a scalar loop on the host; there many points go through the vectorised inverse error function and only the
    outer 5 % through the loop.
    """
    return _NormalQuantileAt.apply(u)


def normal_cdf(z: Tensor) -> Tensor:
    r""":math:`\Phi(z)`, relatively exact in the lower tail."""
    return torch.erfc(z * -_SQRT_HALF) * 0.5


def normal_tails(z: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`(\log\Phi(z), \log\Phi(-z))`."""
    return log_ndtr(z), log_ndtr(-z)
