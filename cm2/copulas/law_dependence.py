r"""Measures of dependence of a copula by quadrature, and the inversion of Kendall's τ."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Size, Tensor
from torch.nn.functional import logsigmoid

from cm2.copulas.sample_dependence import pairs_of
from cm2.errors import InputError
from cm2.numerics.roots import monotone_root


class Law(Protocol):
    """Interface of a copula that the measures of dependence use; `cm2.copulas.base.CopulaDistribution` implements it."""

    dim: int

    @property
    def batch_shape(self) -> Size:
        """Batch shape of the parameters."""
        ...

    @property
    def kendall_tau(self) -> Tensor:
        """One value for all pairs, or a matrix."""
        ...

    @property
    def flipped(self) -> Law:
        """The copula of (u2, u1)."""
        ...

    def h_tails(self, log_u: Tensor, log1m_u: Tensor) -> tuple[Tensor, Tensor]:
        """Tails of the conditional CDF of the first coordinate given the second."""
        ...

    def marginalise(self, keep: Tensor) -> Law:
        """The copula of the coordinates to keep."""
        ...

    def _like(self) -> Tensor:
        """A tensor with the dtype and device of the parameters."""
        ...


_REACH = 37.0  # the logistic function at -37 is below half an ulp of one


def pair_rule(width: Tensor, steps: tuple[int, int] = (260, 140)) -> tuple[Tensor, Tensor, Tensor]:
    r"""Quadrature rule over the unit square for functions that are sharp along the diagonal :math:`u_1 = u_2`.

    The trapezoidal rule, which converges geometrically for analytic functions that vanish at the ends (Trefethen and Weideman 2014), in
    the variables :math:`m` and :math:`r` with :math:`u_1 = \sigma(m + t/2)`, :math:`u_2 = \sigma(m - t/2)`, :math:`t = \delta\sinh r`: the
    logistic function maps the corners to infinity, and the sinh stretches a neighbourhood of the diagonal of width :math:`\delta`.

    Args:
        width: :math:`\delta` in (0, 1], about 1 - |τ|, shape of the batch.
        steps: number of nodes in m and in r.

    Returns:
        (log u, log(1 - u)), each (*batch, nodes, 2), and the weights, (*batch, nodes).
    """
    width = width.detach().unsqueeze(-1)
    m = torch.linspace(-_REACH, _REACH, steps[0], dtype=width.dtype, device=width.device)
    r = torch.linspace(-1, 1, steps[1], dtype=width.dtype, device=width.device) * torch.asinh(2 * _REACH / width)
    t = width * torch.sinh(r)
    step = (m[1] - m[0]) * (r[..., 1:2] - r[..., :1]) * width * torch.cosh(r)
    x = torch.stack([m.unsqueeze(-1) + t.unsqueeze(-2) / 2, m.unsqueeze(-1) - t.unsqueeze(-2) / 2], -1).flatten(-3, -2)
    log_u, log1m_u = logsigmoid(x), logsigmoid(-x)
    weight = torch.exp((log_u + log1m_u).sum(-1)) * step.unsqueeze(-2).expand(*step.shape[:-1], *steps).flatten(-2)
    return log_u, log1m_u, weight


def cross_rule(width: Tensor, steps: tuple[int, int] = (240, 240)) -> tuple[Tensor, Tensor, Tensor]:
    """As `pair_rule`, for functions that may be sharp along either diagonal: both variables are stretched."""
    width = width.detach().unsqueeze(-1)
    places = []
    for count, reach in zip(steps, (_REACH, 2 * _REACH), strict=True):
        r = torch.linspace(-1, 1, count, dtype=width.dtype, device=width.device) * torch.asinh(reach / width)
        places.append((width * torch.sinh(r), (r[..., 1:2] - r[..., :1]) * width * torch.cosh(r)))
    (m, step_m), (t, step_t) = places
    x = torch.stack([m.unsqueeze(-1) + t.unsqueeze(-2) / 2, m.unsqueeze(-1) - t.unsqueeze(-2) / 2], -1).flatten(-3, -2)
    log_u, log1m_u = logsigmoid(x), logsigmoid(-x)
    return log_u, log1m_u, torch.exp((log_u + log1m_u).sum(-1)) * (step_m.unsqueeze(-1) * step_t.unsqueeze(-2)).flatten(-2)


def kendall_tau(law: Law, width: Tensor) -> Tensor:
    r"""Kendall's τ of a bivariate copula (Nelsen 2006, section 5.1), shape of the batch.

    .. math:: \tau = 4\iint C\,dC - 1 = 1 - 4\iint \frac{\partial C}{\partial u_1}\frac{\partial C}{\partial u_2}\,du_1\,du_2

    Only conditional CDFs are needed. Accurate to about 1e-10; differentiable in the parameters.

    Args:
        law: a copula of dim 2.
        width: rough width of the density's ridge along a diagonal, 1 - |τ| or of that order; shape of the batch.
    """
    own, like = len(law.batch_shape), law._like()
    rule = cross_rule(width.double().clamp(1e-4, 1))  # the rule divides by the width
    log_u, log1m_u, weight = (each.movedim(own, 0).to(like) for each in rule)  # nodes before the batch, to broadcast against parameters
    second = torch.exp(law.h_tails(log_u, log1m_u)[0])
    first = torch.exp(law.flipped.h_tails(log_u.flip(-1), log1m_u.flip(-1))[0])
    return 1 - 4 * (weight * first * second).sum(0)


def between_pairs(measure: Callable[[Law], Tensor], law: Law, alike: bool) -> Tensor:
    """Extends a measure of bivariate copulas to copulas of any dim.

    Returns:
        (*batch) for dim 2 or if all pairs are `alike`, else a symmetric matrix (*batch, dim, dim) with ones on its diagonal.
    """
    if law.dim == 2:
        return measure(law)
    place = torch.arange(law.dim, device=law._like().device)
    between = lambda i, j: measure(law.marginalise((place == i) | (place == j)))
    if alike:
        return between(0, 1)
    values = {(i, j): between(i, j) for i, j in pairs_of(law.dim)}
    one = torch.ones_like(values[0, 1])
    rows = [[values.get((min(i, j), max(i, j)), one) for i in range(law.dim)] for j in range(law.dim)]
    return torch.stack([torch.stack(row, -1) for row in rows], -1)


def spearman_rho(law: Law) -> Tensor:
    r"""Spearman's :math:`\rho = 12\iint(C - uv) = 12\iint(1-v)\{h(u, v) - u\}\,du\,dv` between two coordinates, shape of the batch.

    Integrated by parts in v, it needs only the conditional CDF. For :math:`\tau < 0` the rule follows the other diagonal. Accurate to
    about 1e-12; differentiable in the parameters. A matrix (*batch, dim, dim) if pairs differ, which is the case if Kendall's τ is one.
    """
    if law.dim > 2:
        return between_pairs(spearman_rho, law, law.kendall_tau.shape == law.batch_shape)
    tau = law.kendall_tau.detach().double()
    log_u, log1m_u, weight = pair_rule((1 - tau.abs()).clamp_min(1e-4))
    turned = torch.stack([tau < 0, torch.zeros_like(tau, dtype=torch.bool)], -1).unsqueeze(-2)
    log_u, log1m_u = torch.where(turned, log1m_u, log_u), torch.where(turned, log_u, log1m_u)
    own = len(law.batch_shape)
    lead = lambda each: each.movedim(own, 0)  # nodes before the batch, to broadcast against parameters
    dtype = law._like().dtype
    h = torch.exp(law.h_tails(lead(log_u).to(dtype), lead(log1m_u).to(dtype))[0])
    level, rest = torch.exp(lead(log_u)[..., 0]), torch.exp(lead(log1m_u)[..., 1])
    return (12 * lead(weight) * rest * (h - level)).sum(0).to(dtype)


@lru_cache
def _double_exponential(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the tanh-sinh rule on (0, 1) (Takahasi and Mori 1974)."""
    t = np.linspace(-3.6, 3.6, count)
    inner = np.pi * np.sinh(t)
    node = 1 / (1 + np.exp(-inner))
    weight = (t[1] - t[0]) * np.pi * np.cosh(t) / (4 * np.cosh(inner / 2) ** 2)
    return torch.from_numpy(node), torch.from_numpy(weight)


def unit_integral(function: Callable[[Tensor], Tensor], like: Tensor, count: int = 120) -> Tensor:
    """Integral over (0, 1), to float64 accuracy, of a function (nodes,) -> (..., nodes) that may be sharp or singular at either end."""
    node, weight = (each.to(like) for each in _double_exponential(count))
    return (function(node) * weight).sum(-1)


def invert(measure: Callable[[Tensor], Tensor], target: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The parameter in [lower, upper] at which an increasing measure of dependence takes the value `target`, element by element.

    Newton's method on the odds τ/(1 - τ), which are nearly linear in the parameters of all families here, at both ends.
    Differentiable in `target` by the implicit function theorem.

    Args:
        measure: parameter -> measure in [0, 1), element by element, differentiable.
        target: values of the measure, in [0, 1).
        lower, upper: brackets, of target's shape.
    """

    def level(parameter: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():  # the slope is a derivative, and `monotone_root` iterates under no_grad
            inner = parameter.detach().requires_grad_()
            value = measure(inner)
            odds = value / (1 - value)
            (slope,) = torch.autograd.grad(odds.sum(), inner)
        return wanted - odds.detach(), -slope  # the gradient is to reach the target alone

    wanted = target / (1 - target)
    return monotone_root(level, lower, upper, iterations=7)


def check_tau(tau: float | Tensor, name: str, lower: float, closed: bool = False) -> Tensor:
    """Kendall's tau as a floating tensor, checked against the range of a family.

    Raises:
        ValueError: a value outside the range; the message suggests a rotation if it is negative.
    """
    tensor = tau if isinstance(tau, Tensor) else torch.as_tensor(tau)
    tensor = tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())
    inside = (tensor >= lower if closed else tensor > lower) & (tensor < 1)
    if not inside.all():
        value = tensor[~inside].flatten()[0].item()
        remedy = "; rotate it by 90 or 270 degrees for negative dependence" if lower == 0 and -1 < value < 0 else ""
        raise InputError(f"kendall_tau is {value:g}; the {name} copula reaches {'[' if closed else '('}{lower:g}, 1){remedy}")
    return tensor
