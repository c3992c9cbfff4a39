r"""Conditional and joint distribution functions of the bivariate t distribution, from scaled arguments.

Points are represented by :math:`w = \operatorname{arsinh}(x/\sqrt\nu)`, see :mod:`cm2.numerics.student_t`.
"""

import math

import torch
from torch import Tensor

from cm2.numerics.bivariate_normal import tanh_sinh
from cm2.numerics.context import Context
from cm2.numerics.student_t import arc_log_tails
from cm2.numerics.student_t_integral import log_cosh, quantile_slope

_LARGE = 20.0  # from z = e^20 on asinh(z) equals log(2z) to the last digit
_HIGHEST = 340.0  # the square of its exponential does not overflow


def scaled_sinh(w: Tensor, top: Tensor) -> Tensor:
    """sinh(w) e^(-top), without overflow for |w| <= top."""
    return (torch.exp(w - top) - torch.exp(-w - top)) * 0.5


def arc(x: Tensor, shift: Tensor) -> Tensor:
    """asinh(x e^shift), without overflow of the product."""
    size = x.detach().abs()
    large = torch.log(size) + shift.detach() > _LARGE
    beyond = torch.log(2 * torch.where(large, x.abs(), 1.0)) + shift
    half = torch.exp(torch.where(large, 0.0, shift / 2).clamp(max=_HIGHEST))
    return torch.where(large, torch.copysign(beyond, x), torch.asinh(torch.where(large, 0.0, x) * half * half))


def conditional_arc(first: Tensor, second: Tensor, rho: Tensor, scale: Tensor) -> Tensor:
    r"""w of the first coordinate under its conditional distribution, t with :math:`\nu + 1` degrees of freedom: arsinh of
    :math:`(s_1 - \rho s_2)/(\sqrt{1-\rho^2}\cosh w_2)` with :math:`s = \sinh w`.
    """
    top = torch.maximum(first.abs(), second.abs()).detach()  # a scale that cancels, hence without gradient
    difference = scaled_sinh(first, top) - rho * scaled_sinh(second, top)
    return arc(difference / scale, top - log_cosh(second))


def unconditional_arc(draw: Tensor, second: Tensor, rho: Tensor, scale: Tensor) -> Tensor:
    """The inverse of `conditional_arc` in its first argument."""
    size, other = draw.abs().detach(), second.abs().detach()
    spread = scaled_sinh(draw, size) * (torch.exp(second - other) + torch.exp(-second - other)) / 2
    return arc(scale * spread + rho * scaled_sinh(second, other) * torch.exp(-size), size + other)


class _BivariateTCdf(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, v: Tensor, first: Tensor, second: Tensor, rho: Tensor, scale: Tensor, nu: Tensor) -> Tensor:
        node, weight = tanh_sinh(u)
        end = torch.atan2(scale, -rho)
        top = torch.maximum(first.abs(), second.abs())
        x, y, floor = scaled_sinh(first, top), scaled_sinh(second, top), torch.exp(-2 * top)
        opposite = x * y < 0
        total, product = torch.where(opposite, x + y, x - y).square(), 4 * (x * y).abs()
        near, far = torch.where(opposite, product, 0.0), torch.where(opposite, 0.0, product)
        integral, power = torch.zeros_like(top), -nu / 2
        for place, share in zip(node.unbind(), weight.unbind(), strict=True):  # node by node: the columns stay in the cache
            sine, half = torch.sin(end * place).square(), torch.sin(end * place / 2).square()
            below = floor * sine
            whole = below + total + near * half + far * (1 - half)
            integral = integral + torch.exp(power * torch.log(whole / below)) * share  # whole / below is 1 + Q
        return torch.relu(u + v - 1) + integral * end / (2 * math.pi)

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, v, first, second, rho, scale, nu = ctx.saved_tensors
        in_u, in_v, in_rho, in_nu = None, None, None, None
        given = lambda a, b: torch.exp(arc_log_tails(conditional_arc(a, b, rho, scale), nu + 1)[0])
        if ctx.needs_input_grad[0]:
            in_u = (grad * given(second, first)).sum_to_size(u.shape)
        if ctx.needs_input_grad[1]:
            in_v = (grad * given(first, second)).sum_to_size(v.shape)
        if ctx.needs_input_grad[4]:
            kernel = _log_kernel(first, second, torch.atan2(scale, -rho))[0]
            in_rho = (grad * torch.exp(-nu / 2 * kernel) / (2 * math.pi * scale)).sum_to_size(rho.shape)
        if ctx.needs_input_grad[6]:
            in_nu = (grad * _SlopeInNu.apply(first, second, rho, scale, nu)).sum_to_size(nu.shape)
        return in_u, in_v, None, None, in_rho, None, in_nu


def _log_kernel(first: Tensor, second: Tensor, angle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r""":math:`\log(1 + Q)` with :math:`Q = (s_1^2 + s_2^2 + 2s_1s_2\cos\varphi)/\sin^2\varphi`, and
    :math:`\partial Q/\partial w_j/(1 + Q)`; the numerator is written as a sum of positive terms for either sign of :math:`s_1s_2`.
    """
    top = torch.maximum(first.abs(), second.abs()).detach()
    x, y = scaled_sinh(first, top), scaled_sinh(second, top)
    sine, opposite = torch.sin(angle), x * y < 0
    half = torch.where(opposite, torch.sin(angle / 2), torch.cos(angle / 2))
    total = torch.where(opposite, x + y, x - y)
    floor = torch.exp(-2 * top) * sine * sine
    whole = floor + total * total + 4 * (x * y).abs() * half * half
    turned = torch.where(opposite, -2.0, 2.0) * half * half
    cosines = torch.exp(log_cosh(first) - top), torch.exp(log_cosh(second) - top)
    by_first = 2 * (total + turned * y) * cosines[0] / whole
    by_second = 2 * (torch.where(opposite, total, -total) + turned * x) * cosines[1] / whole
    return torch.log(whole) + 2 * top - 2 * torch.log(sine), by_first, by_second


class _SlopeInNu(torch.autograd.Function):
    """Derivative of the CDF in nu at fixed u and v, under the integral, including that of the quantiles."""

    generate_vmap_rule = True

    @staticmethod
    def forward(first: Tensor, second: Tensor, rho: Tensor, scale: Tensor, nu: Tensor) -> Tensor:
        node, weight = tanh_sinh(first)
        end = torch.atan2(scale, -rho)
        slopes = [torch.sign(w) * quantile_slope(w.abs(), nu) for w in (first, second)]
        total = torch.zeros_like(first)
        for place, share in zip(node.unbind(), weight.unbind(), strict=True):
            level, by_first, by_second = _log_kernel(first, second, end * place)
            change = level + nu * (by_first * slopes[0] + by_second * slopes[1])
            total = total - change * torch.exp(-nu / 2 * level) * share
        return total * end / (4 * math.pi)

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[None, ...]:
        # near u + v = 1 the integrand of the next derivative is almost a point mass, which this quadrature cannot resolve
        raise RuntimeError("the gradient of the t copula's CDF in nu cannot be differentiated again; differentiate its h in nu instead")


def bivariate_t_cdf(u: Tensor, v: Tensor, first: Tensor, second: Tensor, rho: Tensor, scale: Tensor, nu: Tensor) -> Tensor:
    r""":math:`\max(u + v - 1, 0) + \frac1{2\pi}\int_0^{\arccos(-\rho)} (1 + Q(\varphi))^{-\nu/2}\,d\varphi` with Q as in `_log_kernel`.

    Plackett's identity for the t distribution (Genz 2004, section 2; Dunnett and Sobel 1954), integrated from :math:`\rho = -1` up, where
    the copula is the lower Fréchet bound: both terms are positive, and small values have a small relative error. By tanh-sinh quadrature;
    first derivatives are exact, as are second derivatives except those of the derivative in nu.

    Args:
        u, v: coordinates in (0, 1), float64.
        first, second: their quantiles as w, without gradient: the gradients in u, v and nu already include the quantiles' dependence.
        rho: correlation; the gradient with respect to the pair (rho, scale) flows through rho.
        scale: :math:`\sqrt{1-\rho^2}`, passed separately because it cannot be recovered from rho near 1.
        nu: degrees of freedom.
    """
    return _BivariateTCdf.apply(u, v, first, second, rho, scale, nu)
