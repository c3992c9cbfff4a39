r"""Sample versions of Kendall's τ and Spearman's ρ, with standard errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cm2.errors import InputError


@dataclass(frozen=True)
class Estimate:
    """A sample measure and its standard error: scalars for a pair of columns, matrices (dim, dim) for more."""

    value: Tensor
    standard_error: Tensor


def sample_kendall_tau(x: Tensor) -> Estimate:
    r"""Kendall's :math:`\tau_b` of every pair of columns, in :math:`O(n\log n)`.

    With :math:`S_i = \sum_j \mathrm{sign}(x_i - x_j)\,\mathrm{sign}(y_i - y_j)`, τ is :math:`\sum_i S_i` over
    :math:`\sqrt{(n(n-1) - T_x)(n(n-1) - T_y)}`, T the number of tied ordered pairs (Kendall 1945). As a U-statistic of order 2 it has the
    influence function :math:`2(S_i - \bar S)`, with the same scale (Hoeffding 1948; the number of ties is treated as fixed).

    Args:
        x: sample, (n, dim), on any scale.

    Raises:
        ValueError: not a matrix with two columns, fewer than 3 rows, NaN, or a constant column.
    """
    return _pairwise(x, kendall_terms(x))


def sample_spearman_rho(x: Tensor) -> Estimate:
    r"""Spearman's ρ, the correlation of the mid-ranks, of every pair of columns.

    Its influence function is :math:`12\{uv + \int 1(u\le s)\,t\,dC(s,t) + \int 1(v\le t)\,s\,dC(s,t)\}`, here at the empirical copula
    (Genest and Rémillard 2004; the number of ties is treated as fixed).

    Args:
        x: sample, (n, dim), on any scale.

    Raises:
        ValueError: not a matrix with two columns, fewer than 3 rows, NaN, or a constant column.
    """
    _check_sample(x)
    return _pairwise(x, torch.stack([_spearman_terms(x[:, i], x[:, j]) for i, j in pairs_of(x.shape[1])], -1))


def kendall_terms(x: Tensor) -> Tensor:
    """Contribution of each row to τ of each pair of columns, (n, pairs) in the order of `pairs_of`.

    The mean over the rows is τ; twice their standard deviation over √n is its standard error.
    """
    _check_sample(x)
    return torch.stack([_kendall_terms(x[:, i], x[:, j]) for i, j in pairs_of(x.shape[1])], -1)


def pairs_of(dim: int) -> list[tuple[int, int]]:
    """(0, 1), (0, 2), (1, 2), (0, 3), ..."""
    return [(i, j) for j in range(dim) for i in range(j)]


def _pairwise(x: Tensor, terms: Tensor) -> Estimate:
    """Mean of the rows' contributions to U-statistics of order 2, and its standard error."""
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
        raise InputError(f"the sample has shape {tuple(x.shape)}; give a matrix (n, dim) with at least 2 columns")
    if len(x) < 3:
        raise InputError(f"the sample has {len(x)} rows; ranks need at least 3")
    low, high = torch.aminmax(x, dim=0)
    if low.isnan().any():
        raise InputError(f"column {int(low.isnan().nonzero()[0])} of the sample holds NaN; drop or impute those rows first")
    if (low == high).any():
        column = int((low == high).nonzero()[0])
        raise InputError(f"column {column} of the sample is constant ({low[column].item():g}); it has no ranks, leave it out")


def _kendall_terms(x: Tensor, y: Tensor) -> Tensor:
    n, (first, tied_x), (second, tied_y) = len(x), _ranks(x), _ranks(y)
    if tied_x == tied_y == 0:  # the ranks and the points below in both columns determine the other three quadrants
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
    """For every i the number of j with x_j < x_i and y_j < y_i; ties are ordered such that no point counts one it is tied with."""
    index = torch.argsort(y, descending=True, stable=True)
    index = index[torch.argsort(x[index], stable=True)]
    place = torch.empty_like(index).scatter_(0, index, torch.arange(len(x), device=x.device))
    turned = index.flip(0)
    level = torch.empty_like(index).scatter_(0, turned[torch.argsort(y[turned], stable=True)], torch.arange(len(x), device=x.device))
    return _below(place, level)


def _below(first: Tensor, second: Tensor) -> Tensor:
    """For every i the number of j with first_j < first_i and second_j < second_i, both permutations of 0..n-1.

    Radix sort of the second ranks from the highest bit, in the order of the first: at the highest bit in which two of them differ, the
    larger counts the smaller if it comes later.
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
    """Ranks 1..n of a column, float64; tied values get the mean of their ranks."""
    _, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    return (torch.cumsum(counts, 0) - (counts - 1) / 2).double()[inverse]


def mean_above(x: Tensor, values: Tensor) -> Tensor:
    """For every i the mean over all j of values_j if x_j >= x_i, else of 0."""
    ordered, index = torch.sort(x)
    tail = torch.cumsum(values[index].flip(0), 0).flip(0)
    return tail[torch.searchsorted(ordered, x.contiguous())] / len(x)
