r"""Tail integral of Student's t distribution by fixed quadrature; its quantiles and derivatives.

With :math:`x = \sqrt\nu\sinh w` the density in :math:`w` is :math:`\cosh(w)^{-\nu}/B` with :math:`B = B(\frac12, \frac\nu2)`, hence

.. math:: P(X > x) = \frac1B\int_w^\infty \cosh(y)^{-\nu}\,dy .

The factor :math:`\cosh(w)^{-\nu}` is taken out of the integral. The rest is integrated by the Gauss-Legendre rule up to :math:`y = 3/2`
or to where it has fallen below :math:`e^{-40}`, and from there by the series in :math:`1/\cosh^2` (Abramowitz and Stegun 26.5.4), which
has converged after 22 terms. The derivatives with respect to :math:`\nu` are moments of :math:`\log\cosh y` under the same rule.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from cm2.numerics.context import Context

_NODES, _TERMS = 24, 22
_SPLIT = 1.5
_SHIFT = 10  # the asymptotic series of `half_step` is evaluated at a + 10
_STEPS = 2
_SMALL = 4096  # elements below which one call over all nodes costs less than one call per node
# log Gamma(a + 1/2) - log Gamma(a) - log(a)/2 in odd powers of 1/a (Tricomi and Erdelyi 1951)
_HALF_STEP = (-1 / 8, 1 / 192, -1 / 640, 17 / 14336, -31 / 18432, 691 / 180224, -5461 / 425984)


class _LogCosh(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(w: Tensor) -> Tensor:
        size = w.abs()
        return torch.exp(-2 * size).log1p_().add_(size).sub_(math.log(2))

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> Tensor:
        return grad * torch.tanh(ctx.saved_tensors[0])


def log_cosh(w: Tensor) -> Tensor:
    """log cosh w, with an absolute error of 1e-16 and without overflow; smooth at 0, where a formula in |w| has no second derivative."""
    return _LogCosh.apply(w)


def _log_cosh_near_zero(w: Tensor) -> Tensor:
    """log cosh w for w >= 0, with a small relative error."""
    near = torch.sinh(w.clamp(max=1.0))
    return torch.where(w < 1, torch.log1p(near * near) / 2, log_cosh(w))


class _HalfStep(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor) -> Tensor:
        column = a.unsqueeze(-1)
        shifts, powers, coefficients = _half_step_terms(a.device)
        shifted = column + _SHIFT
        series = (coefficients * shifted**powers).sum(-1)
        shifts = column + shifts
        ratio = (shifts / (shifts + 0.5)).prod(-1)
        return torch.log(ratio * torch.sqrt(shifted.squeeze(-1) / a)) + series

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> Tensor:
        (a,) = ctx.saved_tensors
        return grad * half_step_slope(a)


def half_step(a: Tensor) -> Tensor:
    r""":math:`\log\Gamma(a + \frac12) - \log\Gamma(a) - \frac12\log a` for :math:`a > 0`; small for large a, unlike its terms."""
    return _HalfStep.apply(a)


def half_step_slope(a: Tensor) -> Tensor:
    r"""Derivative of `half_step`, :math:`\psi(a + \frac12) - \psi(a) - \frac1{2a}`."""
    column = a.unsqueeze(-1)
    shifts, powers, coefficients = _half_step_terms(a.device)
    shifted = column + _SHIFT
    series = (powers * coefficients * shifted ** (powers - 1)).sum(-1)
    shifts = column + shifts
    return (0.5 / (shifts * (shifts + 0.5))).sum(-1) - 0.5 * _SHIFT / (a * shifted.squeeze(-1)) + series


@lru_cache
def _half_step_terms(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Shifts 0, 1, ..., odd negative powers, and their coefficients."""
    powers = -1.0 - 2 * np.arange(len(_HALF_STEP))
    columns = (np.array(value, dtype=float) for value in (range(_SHIFT), powers, _HALF_STEP))
    shift, power, coefficient = (torch.from_numpy(column).to(device) for column in columns)
    return shift, power, coefficient


def log_beta_half(nu: Tensor) -> Tensor:
    r""":math:`\log B(\frac12, \frac\nu2)`."""
    return math.log(math.pi) / 2 - torch.log(nu / 2) / 2 - half_step(nu / 2)


def log_beta_half_slope(nu: Tensor) -> Tensor:
    r"""Derivative of `log_beta_half`."""
    return -0.5 / nu - half_step_slope(nu / 2) / 2


@lru_cache
def _rule(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on (0, 1), and (1/2)_k / k!."""
    node, weight = gauss_legendre(_NODES)
    binomial = np.cumprod([1.0, *((k - 0.5) / k for k in range(1, _TERMS))])
    nodes, weights, binomials = (torch.from_numpy(value).to(device) for value in (node, weight, binomial))
    return nodes, weights, binomials


def gauss_legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in (0, 1) and weights, correct to the last digit (numpy's nodes, refined by Newton steps in long double)."""
    x: np.ndarray = np.polynomial.legendre.leggauss(count)[0].astype(np.longdouble)
    for _ in range(2):
        before, value = np.ones_like(x), x
        for n in range(1, count):
            before, value = value, ((2 * n + 1) * x * value - n * before) / (n + 1)
        slope = count * (before - x * value) / (1 - x * x)
        x = x - value / slope
    return ((x + 1) / 2).astype(np.float64), (1 / ((1 - x * x) * slope * slope)).astype(np.float64)


def tail_moments(w: Tensor, nu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""(log I, E, V): :math:`I = \int_w^\infty \cosh^{-\nu}`, and mean and variance of :math:`\log\cosh y` under that tail.

    Not differentiable; `tail_integral` is.

    Args:
        w: at least 0, float64.
        nu: above 0; its shape broadcasts with that of `w`.
    """
    w, nu = torch.broadcast_tensors(w, nu)
    up, down, tanh = torch.sigmoid(2 * w), torch.sigmoid(-2 * w), torch.tanh(w)
    fall = torch.exp((40 / nu).clamp(max=20.0))  # overflows for small nu otherwise; the split limits the reach anyway
    reach = torch.log((fall + torch.sqrt(fall * fall - 4 * up * down)) / (2 * up))
    start = w.clamp(min=_SPLIT)
    reach = torch.minimum(reach, start - w)
    node, weight, binomial = _rule(w.device)
    zero, first, second = (torch.zeros_like(w) for _ in range(3))
    size = len(node) if w.numel() <= _SMALL else 1
    for x, omega in zip(_columns(node, w, size), _columns(weight, w, size), strict=True):
        rise = _log_ratio(reach * x, up, tanh)
        term = torch.exp(-nu * rise) * (omega * reach)
        zero = zero + term.sum(0)
        term = term * rise
        first = first + term.sum(0)
        second = second + (term * rise).sum(0)
    rest = _series(start, nu, binomial, size)
    rise = _log_ratio(start - w, up, tanh)
    at = torch.exp(-nu * rise)
    zero = zero + at * rest[0]
    first = first + at * (rise * rest[0] + rest[1])
    second = second + at * (rise * (rise * rest[0] + 2 * rest[1]) + rest[2])
    mean, level = first / zero, _log_cosh_near_zero(w)
    return torch.log(zero) - nu * level, mean + level, second / zero - mean * mean


def _log_ratio(step: Tensor, up: Tensor, tanh: Tensor) -> Tensor:
    """log{cosh(w + step) / cosh(w)} as a sum of positive terms; `up` is 1/(1 + e^(-2w))."""
    growth = torch.expm1(step)
    return torch.log1p(growth * (tanh + up * growth) / (1 + growth))


def _series(w: Tensor, nu: Tensor, binomial: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    r""":math:`\int_0^\infty s^j e^{-\nu s}(1 - ce^{-2s})^{-1/2}\,ds` with :math:`c = \cosh^{-2}w`, for j = 0, 1, 2."""
    log_ratio = -2 * log_cosh(w)
    zero, first, second = (torch.zeros_like(w) for _ in range(3))
    k = torch.arange(_TERMS, dtype=w.dtype, device=w.device)
    for order, coefficient in zip(_columns(k, w, size), _columns(binomial, w, size), strict=True):
        rate = 1 / (nu + 2 * order)
        term = torch.exp(log_ratio * order) * coefficient * rate
        zero = zero + term.sum(0)
        term = term * rate
        first = first + term.sum(0)
        second = second + 2 * (term * rate).sum(0)
    return zero, first, second


def _columns(values: Tensor, like: Tensor, size: int) -> list[Tensor]:
    """`values` in groups of `size`, each along a new first dimension."""
    return [group.view(-1, *([1] * like.dim())) for group in values.split(size)]


class _TailIntegral(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(w: Tensor, nu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return tail_moments(w, nu)

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[2])
        ctx.set_materialize_grads(False)  # None for an unused output, whose terms are then skipped
        ctx.save_for_backward(*inputs, *output)

    @staticmethod
    def backward(ctx: Context, grad: Tensor | None, grad_mean: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        w, nu, log_integral, mean, variance = ctx.saved_tensors
        level = log_cosh(w)
        hazard = torch.exp(-nu * level - log_integral)
        in_w, in_nu = torch.zeros_like(mean), torch.zeros_like(mean)
        if grad is not None:
            in_w, in_nu = in_w - grad * hazard, in_nu - grad * mean
        if grad_mean is not None:
            in_w, in_nu = in_w + grad_mean * hazard * (mean - level), in_nu - grad_mean * variance
        return in_w.sum_to_size(w.shape), in_nu.sum_to_size(nu.shape)


def tail_integral(w: Tensor, nu: Tensor) -> tuple[Tensor, Tensor]:
    r"""(log I, E) of `tail_moments`; the first twice differentiable, the second once."""
    return _TailIntegral.apply(w, nu)[:2]


def log_tail(w: Tensor, nu: Tensor) -> Tensor:
    r""":math:`\log P(X > \sqrt\nu\sinh w)` for :math:`w \ge 0`; not differentiable."""
    return tail_moments(w, nu)[0] - log_beta_half(nu)


def log_tail_slope(w: Tensor, nu: Tensor) -> Tensor:
    """Derivative of `log_tail` in nu; differentiable once."""
    return -(tail_integral(w, nu)[1] + log_beta_half_slope(nu))


def solve_tail(log_p: Tensor, nu: Tensor) -> Tensor:
    r"""The :math:`w \ge 0` with :math:`\log P(X > \sqrt\nu\sinh w)` = `log_p`, at most log 1/2; not differentiable.

    From a start that is accurate to a few per cent, each step sums the Taylor series of :math:`w(\log p)` up to third order; with
    :math:`H = \cosh^{-\nu}(w)/I`, :math:`\kappa = \nu\tanh(w)/H` and :math:`w' = -1/H`,

    .. math:: Hw'' = -(1-\kappa), \qquad Hw''' = \kappa(1-\kappa) - (1-\kappa)^2 - \nu\,(1-\tanh^2w)/H^2 .
    """
    log_p, nu = torch.broadcast_tensors(log_p, nu)
    log_beta = log_beta_half(nu)
    w = _start(log_p, nu, log_beta)
    for _ in range(_STEPS):
        log_integral = tail_moments(w, nu)[0]
        mills = torch.exp(log_integral + nu * log_cosh(w))
        tanh = torch.tanh(w)
        rest = 1 - nu * tanh * mills
        step = log_p + log_beta - log_integral
        curvature = rest * (1 - 2 * rest) - nu * (1 - tanh * tanh) * mills * mills
        series = 1 + step * (rest / 2 - step * curvature / 6)
        w = (w - mills * step * series.clamp(0.5, 2.0)).clamp(min=0.0)
    # near the median the equation determines w only up to absolute rounding, which rho = 0.9999 amplifies ten thousand times
    centre = torch.exp(log_beta) * torch.expm1(log_p + math.log(2)) / -2
    square = nu * centre * centre
    return torch.where(square < 1e-8, centre * (1 + square / 6), w)


def quantile_slope(w: Tensor, nu: Tensor) -> Tensor:
    """dw/dnu of `solve_tail` at its value `w`; differentiable once in w and nu."""
    log_integral, mean = tail_integral(w, nu)
    return -torch.exp(log_integral + nu * log_cosh(w)) * (mean + log_beta_half_slope(nu))


def _start(log_p: Tensor, nu: Tensor, log_beta: Tensor) -> Tensor:
    r"""Start of `solve_tail`: for few degrees of freedom :math:`\sinh^2 w = \frac{\nu B^2}8\{(4p(1-p))^{-2/\nu} - 1\}`, exact at
    :math:`\nu = 2`; for more the normal approximation of Peizer and Pratt (1968),
    :math:`\log\cosh w = \frac{z^2}2(\nu - \frac56)/(\nu - \frac23 + \frac1{10\nu})^2`.
    """
    product = math.log(4) + log_p + torch.log1p(-torch.exp(log_p))
    power = -2 / nu * product.clamp(max=0.0)
    scale = torch.log(nu / 8) + 2 * log_beta
    few = (scale + power + torch.log(-torch.expm1(-power))) / 2
    many = _normal_quantile(log_p).square() / 2 * (nu - 5 / 6) / (nu - 2 / 3 + 0.1 / nu).square()
    from_level = many + torch.log1p(torch.sqrt(-torch.expm1(-2 * many)))
    return torch.where(nu < 20, _asinh_exp(few), from_level)


def _normal_quantile(log_p: Tensor) -> Tensor:
    """Upper quantile of the normal distribution to 5e-4 (Abramowitz and Stegun 26.2.23)."""
    t = torch.sqrt(-2 * log_p)
    return t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)))


def _asinh_exp(x: Tensor) -> Tensor:
    """asinh(e^x) for any x."""
    size = torch.exp(-x.abs())
    root = torch.sqrt(1 + size * size)
    return torch.where(x < 0, torch.asinh(size), x + torch.log1p(root))
