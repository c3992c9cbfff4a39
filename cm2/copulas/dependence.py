r"""Measures of dependence: of a sample (with standard errors), of any bivariate law (by quadrature), and Kendall's map inverted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from cm2.numerics.roots import monotone_root

if TYPE_CHECKING:
    from cm2.copulas.base import CopulaDistribution

_REACH = 37.0  # the logistic function at -37 is below half an ulp of one


@dataclass(frozen=True)
class Estimate:
    """A sample measure and its standard error: scalars for a pair of columns, matrices (dim, dim) for more."""

    value: Tensor
    standard_error: Tensor


def sample_kendall_tau(x: Tensor) -> Estimate:
    r"""Kendall's :math:`\tau_b` of every pair of columns, in :math:`O(n\log n)`.

    With :math:`S_i = \sum_j \mathrm{sign}(x_i - x_j)\,\mathrm{sign}(y_i - y_j)`, τ is :math:`\sum_i S_i` over
    :math:`\sqrt{(n(n-1) - T_x)(n(n-1) - T_y)}`, T the number of tied ordered pairs (Kendall 1945). Being a U-statistic of order 2, it has
    the influence function :math:`2(S_i - \bar S)`, scaled alike (Hoeffding 1948; the ties count as fixed).

    Args:
        x: sample, (n, dim), of any scale.

    Raises:
        ValueError: not a matrix with two columns, fewer than 3 rows, NaN, or a constant column.
    """
    return _pairwise(x, kendall_terms(x))


def sample_spearman_rho(x: Tensor) -> Estimate:
    r"""Spearman's ρ, the correlation of the mid-ranks, of every pair of columns.

    Its influence function is :math:`12\{uv + \int 1(u\le s)\,t\,dC(s,t) + \int 1(v\le t)\,s\,dC(s,t)\}`, here at the empirical copula
    (Genest and Rémillard 2004; the ties count as fixed).

    Args:
        x: sample, (n, dim), of any scale.

    Raises:
        ValueError: not a matrix with two columns, fewer than 3 rows, NaN, or a constant column.
    """
    _check_sample(x)
    return _pairwise(x, torch.stack([_spearman_terms(x[:, i], x[:, j]) for i, j in pairs_of(x.shape[1])], -1))


def kendall_terms(x: Tensor) -> Tensor:
    """Per row and pair of columns (in the order of `pairs_of`) its share: the mean over rows is τ, twice their deviation its error."""
    _check_sample(x)
    return torch.stack([_kendall_terms(x[:, i], x[:, j]) for i, j in pairs_of(x.shape[1])], -1)


def pairs_of(dim: int) -> list[tuple[int, int]]:
    """(0, 1), (0, 2), (1, 2), (0, 3), ..."""
    return [(i, j) for j in range(dim) for i in range(j)]


def _pairwise(x: Tensor, terms: Tensor) -> Estimate:
    """The mean of U-statistics from the shares of the rows, and its error."""
    mean, error = terms.mean(0), 2 * terms.std(0) / math.sqrt(len(terms))
    if x.shape[1] == 2:
        return Estimate(mean[0], error[0])
    value = torch.eye(x.shape[1], dtype=torch.float64, device=x.device)
    spread = torch.zeros_like(value)
    for k, (i, j) in enumerate(pairs_of(x.shape[1])):
        value[i, j] = value[j, i] = mean[k]
        spread[i, j] = spread[j, i] = error[k]
    return Estimate(value, spread)


def _check_sample(x: Tensor) -> None:
    if x.dim() != 2 or x.shape[1] < 2:
        raise ValueError(f"the sample has shape {tuple(x.shape)}; give a matrix (n, dim) with at least 2 columns")
    if len(x) < 3:
        raise ValueError(f"the sample has {len(x)} rows; ranks need at least 3")
    low, high = torch.aminmax(x, dim=0)
    if low.isnan().any():
        raise ValueError(f"column {int(low.isnan().nonzero()[0])} of the sample holds NaN; drop or impute those rows first")
    if (low == high).any():
        column = int((low == high).nonzero()[0])
        raise ValueError(f"column {column} of the sample is constant ({low[column].item():g}); it has no ranks, leave it out")


def _kendall_terms(x: Tensor, y: Tensor) -> Tensor:
    n, (first, tied_x), (second, tied_y) = len(x), _ranks(x), _ranks(y)
    if tied_x == tied_y == 0:
        score = 4 * _below(first, second) - 2 * (first + second) + n - 1
    else:
        score = _strictly_below(x, y) + _strictly_below(-x, -y) - _strictly_below(x, -y) - _strictly_below(-x, y)
    pairs = n * (n - 1)
    return score.double() * (n / math.sqrt((pairs - tied_x) * (pairs - tied_y)))


def _ranks(x: Tensor) -> tuple[Tensor, int]:
    """Ranks 0, 1, ... (ties in the order of the rows), and the number of tied ordered pairs."""
    ordered, index = torch.sort(x, stable=True)
    counts = torch.unique_consecutive(ordered, return_counts=True)[1] if (ordered[1:] == ordered[:-1]).any() else None
    rank = torch.empty_like(index).scatter_(0, index, torch.arange(len(x), device=x.device))
    return rank, 0 if counts is None else int((counts * (counts - 1)).sum())


def _strictly_below(x: Tensor, y: Tensor) -> Tensor:
    """For every i the number of j with x_j < x_i and y_j < y_i: ties are ordered so that neither of two tied points counts the other."""
    index = torch.argsort(y, descending=True, stable=True)
    index = index[torch.argsort(x[index], stable=True)]
    place = torch.empty_like(index).scatter_(0, index, torch.arange(len(x), device=x.device))
    turned = index.flip(0)
    level = torch.empty_like(index).scatter_(0, turned[torch.argsort(y[turned], stable=True)], torch.arange(len(x), device=x.device))
    return _below(place, level)


def _below(first: Tensor, second: Tensor) -> Tensor:
    """For every i the number of j with first_j < first_i and second_j < second_i, both permutations of 0..n-1.

    A radix sort of the second ranks from the top bit, in the order of the first: at the bit where two of them part, the smaller one is
    counted by every larger one that stands behind it.
    """
    n = len(first)
    index = torch.arange(n, device=first.device)
    value = torch.empty_like(second).scatter_(0, first, second)
    count = torch.zeros_like(value)
    for bit in range(max(n - 1, 1).bit_length() - 1, -1, -1):
        one = (value >> bit) & 1
        start = (value >> (bit + 1)) << (bit + 1)
        zeros = index - torch.cumsum(one, 0).sub_(one)
        zeros -= zeros[start]
        count.scatter_add_(0, value, zeros * one)
        place = torch.where(one == 1, (index + (1 << bit)).sub_(zeros), start + zeros)
        value = torch.empty_like(value).scatter_(0, place, value)
    return count[second]


def _spearman_terms(x: Tensor, y: Tensor) -> Tensor:
    """Half the influence function, centred at the estimate."""
    n = len(x)
    u, v = (mid_ranks(each) / n for each in (x, y))
    scale = torch.sqrt(u.var(correction=0) * v.var(correction=0))
    value = ((u - u.mean()) * (v - v.mean())).mean() / scale
    influence = u * v + mean_above(x, v) + mean_above(y, u)
    return value + (influence - influence.mean()) / (2 * scale)


def mid_ranks(x: Tensor) -> Tensor:
    """Ranks 1..n of a column, ties sharing the mean of theirs; float64."""
    _, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    return (torch.cumsum(counts, 0) - (counts - 1) / 2).double()[inverse]


def mean_above(x: Tensor, values: Tensor) -> Tensor:
    """For every i the mean over all j of values_j where x_j >= x_i, else 0."""
    ordered, index = torch.sort(x)
    tail = torch.cumsum(values[index].flip(0), 0).flip(0)
    return tail[torch.searchsorted(ordered, x.contiguous())] / len(x)


def pair_rule(width: Tensor, steps: tuple[int, int] = (260, 140)) -> tuple[Tensor, Tensor, Tensor]:
    r"""A rule for integrals over the unit square of functions that are sharp along the diagonal :math:`u_1 = u_2`.

    Trapezoids, which converge geometrically for functions that are analytic and vanish at the ends (Trefethen and Weideman 2014), in
    :math:`m` and :math:`r` of :math:`u_1 = \sigma(m + t/2)`, :math:`u_2 = \sigma(m - t/2)`, :math:`t = \delta\sinh r`: the logistic
    function takes the corners to infinity, the sinh spreads a neighbourhood of the diagonal of width :math:`\delta`.

    Args:
        width: :math:`\delta` in (0, 1], about 1 - |τ|, shape of a batch.
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


def spearman_rho(law: CopulaDistribution) -> Tensor:
    r"""Spearman's :math:`\rho = 12\iint(C - uv) = 12\iint(1-v)\{h(u, v) - u\}\,du\,dv` between two coordinates, shape of the batch.

    By parts in v, so that only the conditional CDF is needed. For :math:`\tau < 0` the rule runs along the other diagonal. Accurate to
    about 1e-12; differentiable in the parameters. Where pairs differ, as Kendall's τ tells, a matrix (*batch, dim, dim).
    """
    if law.dim > 2:
        place = torch.arange(law.dim, device=law._like().device)
        between = lambda i, j: spearman_rho(law.marginalise((place == i) | (place == j)))
        if law.kendall_tau.shape == law.batch_shape:
            return between(0, 1)
        values = {(i, j): between(i, j) for i, j in pairs_of(law.dim)}
        one = torch.ones_like(values[0, 1])
        return torch.stack([torch.stack([values.get((min(i, j), max(i, j)), one) for i in place.tolist()], -1) for j in place.tolist()], -1)
    tau = law.kendall_tau.detach().double()
    log_u, log1m_u, weight = pair_rule((1 - tau.abs()).clamp_min(1e-4))
    turned = torch.stack([tau < 0, torch.zeros_like(tau, dtype=torch.bool)], -1).unsqueeze(-2)
    log_u, log1m_u = torch.where(turned, log1m_u, log_u), torch.where(turned, log_u, log1m_u)
    own = len(law.batch_shape)
    lead = lambda each: each.movedim(own, 0)  # the nodes go before the batch
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
    """The integral over (0, 1) of a function that may be sharp or singular at either end: (nodes,) -> (..., nodes), float64 accuracy."""
    node, weight = (each.to(like) for each in _double_exponential(count))
    return (function(node) * weight).sum(-1)


def invert(measure: Callable[[Tensor], Tensor], target: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The parameter in [lower, upper] at which an increasing measure of dependence takes the value `target`, element by element.

    By Newton's steps for the odds τ/(1 - τ), which are nearly straight in the parameters of all families here, at both ends.
    Differentiable in `target` by the implicit function theorem.

    Args:
        measure: parameter -> measure in [0, 1), element by element, differentiable.
        target: values wanted, in [0, 1).
        lower, upper: brackets, of target's shape.
    """

    def level(parameter: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            inner = parameter.detach().requires_grad_()
            value = measure(inner)
            odds = value / (1 - value)
            (slope,) = torch.autograd.grad(odds.sum(), inner)
        return wanted - odds.detach(), -slope

    wanted = target / (1 - target)
    return monotone_root(level, lower, upper, iterations=7)


def check_tau(tau: float | Tensor, name: str, lower: float, closed: bool = False) -> Tensor:
    """Kendall's tau as a floating tensor inside the range that a family reaches.

    Raises:
        ValueError: a value outside of it; says so, and what to do about a negative one.
    """
    tensor = tau if isinstance(tau, Tensor) else torch.as_tensor(tau)
    tensor = tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())
    inside = (tensor >= lower if closed else tensor > lower) & (tensor < 1)
    if not inside.all():
        value = tensor[~inside].flatten()[0].item()
        remedy = "; rotate it by 90 or 270 degrees for negative dependence" if lower == 0 and -1 < value < 0 else ""
        raise ValueError(f"kendall_tau is {value:g}; the {name} copula reaches {'[' if closed else '('}{lower:g}, 1){remedy}")
    return tensor
