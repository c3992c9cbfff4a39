r"""Distribution function, quantile and tails of the standard normal distribution, also as logarithms.

`torch.special.log_ndtr`, the `erfcx` in its derivative and `torch.special.ndtri` are scalar loops on the host (10 to 100 ns an element),
and a comparison with `torch.where` costs as much as an exponential; this module uses arithmetic and vectorised functions instead.
"""

import math
from typing import TypeVar

import torch
from torch import Tensor

from cm2.numerics.context import Context

Number = TypeVar("Number", float, Tensor)

LOG_SQRT_TAU = 0.5 * math.log(2 * math.pi)
_SQRT_HALF = math.sqrt(0.5)
_SQRT_HALF_PI = math.sqrt(math.pi / 2)
_MANY = 4096  # number of points from which the vectorised quantile is faster
_FAR = {torch.float64: -690.0, torch.float32: -80.0}  # log p below which exp(log p) is about to underflow


def normal_cdf(z: Tensor) -> Tensor:
    r""":math:`\Phi(z)`, with a small relative error in the lower tail."""
    return torch.erfc(z * -_SQRT_HALF) * 0.5


def log_ndtr(z: Tensor) -> Tensor:
    r""":math:`\log\Phi(z)`, any shape, with a gradient that is finite even at :math:`z = -10^6`.

    Value and derivative are accurate to a few ulp for any negative :math:`z`; for positive :math:`z` the value stops approaching 0 at
    :math:`z` = 10 in float32 (8e-24) and :math:`z` = 36 in float64 (1e-283).
    """
    return _LogTails.apply(z, False)[0]


def normal_tails(z: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`(\log\Phi(z), \log\Phi(-z))`, at a fifth more than the cost of one of them; see `log_ndtr`."""
    return _LogTails.apply(z, True)[:2]


def inverse_mills(z: Tensor) -> Tensor:
    r""":math:`\varphi(z)/\Phi(z)`, the derivative of :math:`\log\Phi`, without underflow in either tail."""
    below = z < 0
    low = 1 / (_SQRT_HALF_PI * torch.special.erfcx(-_SQRT_HALF * torch.where(below, z, 0.0)))
    high = torch.where(below, 0.0, z)
    return torch.where(below, low, torch.exp(-high * high / 2 - LOG_SQRT_TAU) / torch.special.ndtr(high))


class _LogTails(torch.autograd.Function):
    """One or both log tails, followed by their derivatives."""

    @staticmethod
    def forward(z: Tensor, both: bool) -> tuple[Tensor, ...]:
        far = 36.0 if z.dtype == torch.float64 else 10.0
        size = z.abs()
        near, beyond = size.clamp(max=far), size.clamp_(min=far)
        tail = torch.erfc(near * _SQRT_HALF).mul_(0.5)
        complement = torch.log1p(-tail)
        square = beyond * beyond
        # Phi(-size) over exp(-(size^2 - far^2) / 2): extends the tail beyond far by the ratio of the Mills ratios
        scaled = tail.mul_(_mills(beyond, square).mul_(1 / _mills(far, far * far))).log_()
        excess = square.sub_(far * far).mul_(0.5)
        log_density = near.mul_(near).mul_(-0.5).sub_(LOG_SQRT_TAU)
        below = (z * -1e38).clamp_(0, 1)  # 1 for z < 0, else 0: arithmetic is cheaper than a comparison
        outputs, slopes = [], []
        for mask, sign in ((below, 1.0), (1 - below, -1.0)) if both else ((below, 1.0),):
            log_cdf = torch.lerp(complement, scaled, mask)
            slopes.append((log_density - log_cdf).exp_().mul_(sign))
            outputs.append(log_cdf.sub_(excess * mask))
        return *outputs, *slopes

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, bool], output: tuple[Tensor, ...]) -> None:
        slopes = output[len(output) // 2 :]
        ctx.mark_non_differentiable(*slopes)
        ctx.save_for_backward(inputs[0], *slopes)

    @staticmethod
    def backward(ctx: Context, *grads: Tensor) -> tuple[Tensor, None]:
        z, *slopes = ctx.saved_tensors
        if torch.is_grad_enabled():
            slopes = [inverse_mills(z), -inverse_mills(-z)][: len(slopes)]
        first, *rest = (grad * slope for grad, slope in zip(grads, slopes, strict=False))
        return (first + rest[0] if rest else first), None


def _mills(x: Number, square: Number) -> Number:
    """Mills ratio of the normal distribution for x >= 10, a convergent of Laplace's continued fraction (Abramowitz and Stegun 26.2.14)."""
    return ((square + 9) * square + 8) / (((square + 10) * square + 15) * x)


def _ndtri(u: Tensor) -> Tensor:
    if not (u.is_cpu and u.numel() > _MANY and u.dtype == torch.float64):
        return torch.special.ndtri(u)
    centred = torch.sub(u * 2, 1).contiguous()
    z = torch.erfinv(centred).mul_(math.sqrt(2))
    # 2u - 1 loses the last digits of a small u: the outer 5 % are computed by the slower function of u itself
    tails = torch.nonzero(centred.abs_().flatten() > 0.95).squeeze(-1)
    z.view(-1).index_copy_(0, tails, torch.special.ndtri(u.flatten().index_select(0, tails)))
    return z


class _NormalQuantileAt(torch.autograd.Function):
    @staticmethod
    def forward(u: Tensor) -> Tensor:
        return _ndtri(u)

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return grad * torch.exp(z * z * 0.5 + LOG_SQRT_TAU)


def normal_quantile_at(u: Tensor) -> Tensor:
    r""":math:`\Phi^{-1}(u)` for a float u in (0, 1), any shape; derivative :math:`1/\varphi(z)`."""
    return _NormalQuantileAt.apply(u)


def _mills_far(z: Tensor) -> Tensor:
    r""":math:`-z\,\Phi(z)/\varphi(z) = 1 - z^{-2} + 3z^{-4} - \ldots` (Abramowitz and Stegun 26.2.12), for z below -12 or so."""
    x = 1 / (z * z)
    return 1 - x * (1 - 3 * x * (1 - 5 * x * (1 - 7 * x * (1 - 9 * x))))


def _log_ndtri_far(log_p: Tensor) -> Tensor:
    r"""Fixed point of :math:`z^2 = -2\log p - \log 2\pi - \log z^2 + 2\log(1 - z^{-2} + 3z^{-4} - \ldots)`; an iteration divides the error
    by z²."""
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
    def forward(log_p: Tensor) -> Tensor:
        limit = _FAR[log_p.dtype]
        z = _ndtri(torch.exp(log_p))
        if log_p.is_cpu and log_p.numel() > _MANY and log_p.min() >= limit:
            return z
        return torch.where(log_p < limit, _log_ndtri_far(log_p.clamp(max=limit)), z)

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> Tensor:
        log_p, z = ctx.saved_tensors
        far = log_p < _FAR[log_p.dtype]
        beyond, within = torch.where(far, z, -40.0), torch.where(far, 0.0, log_p + z * z / 2 + LOG_SQRT_TAU)
        return grad * torch.where(far, _mills_far(beyond) / -beyond, torch.exp(within))


def log_ndtri(log_p: Tensor) -> Tensor:
    r"""The :math:`z` with :math:`\log\Phi(z) = \log p`, for :math:`p \le 1/2` (use `normal_quantile` for both halves).

    Accurate to :math:`\log p = -10^6` and below; the gradient is that of the implicit function, :math:`dz/d\log p = \Phi(z)/\varphi(z)`.
    """
    return _LogNdtri.apply(log_p)


def normal_quantile(log_u: Tensor, log1m_u: Tensor) -> Tensor:
    r""":math:`\Phi^{-1}(u)` from both tails, by inversion of the smaller one.

    Args:
        log_u: :math:`\log u`, any shape.
        log1m_u: :math:`\log(1-u)`, same shape.
    """
    lower = log_u < log1m_u
    z = log_ndtri(torch.where(lower, log_u, log1m_u))
    return torch.where(lower, z, -z)
