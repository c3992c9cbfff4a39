r"""Distribution function and quantile of Student's t distribution for real degrees of freedom :math:`\nu > 0`, with all gradients.

Points are represented by :math:`w = \operatorname{arsinh}(x/\sqrt\nu)`, whose density is :math:`\cosh(w)^{-\nu}/B` with
:math:`B = B(\frac12, \frac\nu2)`: for a quantile that overflows, such as that at :math:`\log u = -10^6` for :math:`\nu = 1`, w is still
moderate. Its derivatives are

.. math:: \frac{\partial w}{\partial u} = B\cosh(w)^\nu, \qquad \frac{\partial w}{\partial\nu} = -\frac{\partial w}{\partial u}\,F_\nu,

and every function here can be differentiated twice. A single :math:`\nu` with thousands of points on the host is evaluated with a table
(:mod:`cm2.numerics.student_t_table`), anything else by quadrature (:mod:`cm2.numerics.student_t_integral`); both in float64.

References:
    Abramowitz and Stegun 1964, section 26.7; Shaw 2006, Journal of Computational Finance 9(4).
"""

from __future__ import annotations

import torch
from torch import Tensor

from cm2.numerics.context import Context
from cm2.numerics.student_t_integral import (
    log_beta_half,
    log_cosh,
    log_tail,
    log_tail_slope,
    quantile_slope,
    solve_tail,
)
from cm2.numerics.student_t_table import table_applies, table_quantile, table_tail


def _size(w: Tensor) -> Tensor:
    """|w| with derivative 1 at 0, which gives an odd function written as sign(w) f(|w|) the correct derivative there."""
    return torch.where(w < 0, -w, w)


def _upper_quantile(log_p: Tensor, nu: Tensor) -> Tensor:
    return table_quantile(log_p, nu) if table_applies(log_p, nu) else solve_tail(log_p, nu)


def _upper_quantile_slope(log_p: Tensor, w: Tensor, nu: Tensor) -> Tensor:
    fast = table_applies(log_p, nu) and not torch.is_grad_enabled()  # the table is not differentiable
    return table_quantile(log_p, nu, slope=True) if fast else quantile_slope(w, nu)


class _Quantile(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(log_u: Tensor, log1m_u: Tensor, nu: Tensor) -> Tensor:
        w = _upper_quantile(torch.minimum(log_u, log1m_u), nu)
        return torch.copysign(w, log_u - log1m_u)

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor | None, ...]:
        log_u, log1m_u, nu, w = ctx.saved_tensors
        size, lower = _size(w), log_u < log1m_u
        log_p = torch.where(lower, log_u, log1m_u)
        in_u, in_1m, in_nu = None, None, None
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            slope = grad * torch.exp(log_p + log_beta_half(nu) + nu * log_cosh(w))
            in_u = torch.where(lower, slope, 0.0).sum_to_size(log_u.shape)
            in_1m = torch.where(lower, 0.0, -slope).sum_to_size(log1m_u.shape)
        if ctx.needs_input_grad[2]:
            slope = _upper_quantile_slope(log_p, size, nu)
            in_nu = (grad * torch.where(lower, -slope, slope)).sum_to_size(nu.shape)
        return in_u, in_1m, in_nu


class _QuantileAt(torch.autograd.Function):
    """`_Quantile` at floats u, with one logarithm instead of two."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, nu: Tensor) -> Tensor:
        w = _upper_quantile(torch.minimum(u, 1 - u).log_(), nu)
        return torch.copysign(w, u - 0.5)

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, nu, w = ctx.saved_tensors
        in_u, in_nu = None, None
        if ctx.needs_input_grad[0]:
            in_u = (grad * torch.exp(log_beta_half(nu) + nu * log_cosh(w))).sum_to_size(u.shape)
        if ctx.needs_input_grad[1]:
            slope = _upper_quantile_slope(torch.minimum(u, 1 - u).log(), _size(w), nu)
            in_nu = (grad * torch.where(u < 0.5, -slope, slope)).sum_to_size(nu.shape)
        return in_u, in_nu


class _LogTails(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(w: Tensor, nu: Tensor) -> tuple[Tensor, Tensor]:
        size = w.abs()
        near = table_tail(size, nu) if table_applies(size, nu) else log_tail(size, nu)
        far = torch.log1p(-torch.exp(near))
        below = w < 0
        return torch.where(below, near, far), torch.where(below, far, near)

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, *output)

    @staticmethod
    def backward(ctx: Context, grad_low: Tensor, grad_high: Tensor) -> tuple[Tensor | None, ...]:
        w, nu, low, high = ctx.saved_tensors
        size, below = _size(w), w < 0
        in_w, in_nu = None, None
        if ctx.needs_input_grad[0]:
            log_density = -nu * log_cosh(w) - log_beta_half(nu)
            in_w = (grad_low * torch.exp(log_density - low) - grad_high * torch.exp(log_density - high)).sum_to_size(w.shape)
        if ctx.needs_input_grad[1]:
            slope = _tail_slope(size, nu)
            ratio = torch.exp(-(low - high).abs())
            in_nu = slope * torch.where(below, grad_low - ratio * grad_high, grad_high - ratio * grad_low)
            in_nu = in_nu.sum_to_size(nu.shape)
        return in_w, in_nu


def _tail_slope(w: Tensor, nu: Tensor) -> Tensor:
    fast = table_applies(w, nu) and not torch.is_grad_enabled()  # the table is not differentiable
    return table_tail(w, nu, slope=True) if fast else log_tail_slope(w, nu)


def arc_quantile(log_u: Tensor, log1m_u: Tensor, nu: Tensor) -> Tensor:
    r""":math:`w = \operatorname{arsinh}(F^{-1}(u)/\sqrt\nu)` from both tails of u, by inversion of the smaller one.

    Args:
        log_u: :math:`\log u`, float64, any shape.
        log1m_u: :math:`\log(1-u)`, same shape.
        nu: degrees of freedom, above 0, float64; its shape broadcasts.
    """
    return _Quantile.apply(log_u, log1m_u, nu)


def arc_quantile_at(u: Tensor, nu: Tensor) -> Tensor:
    """`arc_quantile` at floats u in (0, 1)."""
    return _QuantileAt.apply(u, nu)


def arc_log_tails(w: Tensor, nu: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`(\log F(x), \log F(-x))` at :math:`x = \sqrt\nu\sinh w`, both arguments float64."""
    return _LogTails.apply(w, nu)


def t_log_tails(x: Tensor, nu: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`(\log F(x), \log F(-x))` of the t distribution, without underflow in either.

    Args:
        x: points, any shape.
        nu: degrees of freedom, above 0; its shape broadcasts.
    """
    wide = nu.double()
    low, high = arc_log_tails(torch.asinh(x.double() / torch.sqrt(wide)), wide)
    return low.to(x.dtype), high.to(x.dtype)


def t_cdf(x: Tensor, nu: Tensor) -> Tensor:
    r""":math:`F(x)`; arguments as `t_log_tails`."""
    wide = nu.double()
    return torch.exp(arc_log_tails(torch.asinh(x.double() / torch.sqrt(wide)), wide)[0]).to(x.dtype)


def t_log_density(x: Tensor, nu: Tensor) -> Tensor:
    r""":math:`\log f(x) = -\log B(\frac12, \frac\nu2) - \frac12\log\nu - \frac{\nu+1}2\log(1 + x^2/\nu)`; arguments as `t_log_tails`."""
    wide = nu.double()
    ratio = x.double().square() / wide
    return (-log_beta_half(wide) - torch.log(wide) / 2 - (wide + 1) / 2 * torch.log1p(ratio)).to(x.dtype)


def t_quantile(log_u: Tensor, log1m_u: Tensor, nu: Tensor) -> Tensor:
    r""":math:`F^{-1}(u)` from both tails of u; infinite where it exceeds the largest float (`arc_quantile` never is).

    Args:
        log_u: :math:`\log u`, any shape.
        log1m_u: :math:`\log(1-u)`, same shape.
        nu: degrees of freedom, above 0; its shape broadcasts.
    """
    wide = nu.double()
    return (torch.sqrt(wide) * torch.sinh(arc_quantile(log_u.double(), log1m_u.double(), wide))).to(log_u.dtype)
