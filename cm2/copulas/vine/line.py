r"""Adaptive integration and quantiles of positive functions on the real line that may be narrow or have several peaks.

The function is evaluated on a fixed table, then at quantiles of that table, then integrated by Gauss-Legendre rules between quantiles of
these values. The quantiles are those of its square root, which gives tails and low peaks more nodes. All nodes are constants: only the
values at the last ones carry gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from cm2.copulas.vine.nodes import bend

_TABLE, _REACH, _BEND = 61, 5.6, 0.7  # the fixed table reaches from -36 to 36
_PANELS, _FURTHEST = 24, 5.0  # quantiles at evenly spaced normal scores up to 5
_ORDER = 8

LogFunction = Callable[[Tensor], Tensor]


@lru_cache
def _legendre() -> tuple[Tensor, Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on (0, 1), and the matrix from values to integrals between neighbouring nodes, ends included."""
    nodes, weights = np.polynomial.legendre.leggauss(_ORDER)
    ends = np.concatenate([[-1.0], nodes, [1.0]])
    basis = [np.polynomial.Polynomial.fromroots(np.delete(nodes, i)) / np.prod(nodes[i] - np.delete(nodes, i)) for i in range(_ORDER)]
    cells = np.stack([np.diff(each.integ()(ends)) for each in basis], -1)
    at, weight, cell = (torch.from_numpy(each / 2) for each in (nodes + 1, weights, cells))
    return at, weight, cell


class Line:
    """A positive function on the real line, tabulated where its mass is.

    Args:
        log_function: points (n, 1, ...) or (n, ...) -> logarithms of the values, (n, ...).
        like: a tensor (...) of the points' shape, dtype and device.
    """

    def __init__(self, log_function: LogFunction, like: Tensor) -> None:
        with torch.no_grad():
            table = torch.linspace(-_REACH, _REACH, _TABLE, dtype=like.dtype, device=like.device)
            table = bend(table, _BEND).view(-1, *[1] * like.dim())
            nodes = _quantiles(table, log_function(table), _levels(_TABLE, like))
            self.edges = _quantiles(nodes, log_function(nodes), _levels(_PANELS - 1, like))
        at, weights, self.cells = (each.to(like) for each in _legendre())
        self.width = self.edges[1:] - self.edges[:-1]
        shape = (1, _ORDER, *[1] * like.dim())
        self.nodes = self.edges[:-1].unsqueeze(1) + self.width.unsqueeze(1) * at.view(shape)  # (panels, order, ...)
        log_value = log_function(self.nodes.flatten(0, 1))
        self.log_value = log_value.unflatten(0, (-1, _ORDER))
        self.log_weight = torch.log(self.width).unsqueeze(1) + torch.log(weights).view(shape)

    def log_integral(self) -> Tensor:
        """The logarithm of the integral, (...)."""
        return (self.log_value + self.log_weight).flatten(0, 1).logsumexp(0)

    def quantile(self, p: Tensor) -> Tensor:
        """Quantiles of the normalised function at levels p, (n_draws, ...); differentiable in p and in the function.

        Masses between neighbouring nodes follow from the polynomial through the panel's nodes; within them the density is taken as linear.
        """
        f = torch.exp(self.log_value - self.log_value.detach().amax((0, 1)))
        mass = torch.einsum("ij,pj...->pi...", self.cells, f) * self.width.unsqueeze(1)
        mass = mass.clamp_min(0).flatten(0, 1)  # the interpolating polynomial may dip below 0 where there is almost no mass
        ends = torch.cat([self.nodes, self.edges[1:].unsqueeze(1)], 1).flatten(0, 1)
        starts = torch.cat([self.edges[:-1].unsqueeze(1), self.nodes], 1).flatten(0, 1)
        left, right = (torch.cat(each, 1).flatten(0, 1) for each in ((f[:, :1], f), (f, f[:, -1:])))
        total = mass.cumsum(0)
        wanted = p * total[-1]
        cell = torch.searchsorted(_last(total.detach().expand(len(total), *wanted.shape[1:])), _last(wanted.detach()))
        cell = cell.clamp_max(len(mass) - 1).movedim(-1, 0)
        pick = lambda values: values.expand(len(values), *wanted.shape[1:]).gather(0, cell)
        share = ((wanted - pick(total - mass)) / pick(mass)).clamp(0, 1)
        left, right = pick(left), pick(right)
        # root of the quadratic CDF of a linear density, in the form that also holds for left = right
        inside = share * (left + right) / (left + torch.sqrt((1 - share) * left.square() + share * right.square()))
        return pick(starts) + (pick(ends) - pick(starts)) * inside


def _levels(count: int, like: Tensor) -> Tensor:
    return torch.special.ndtr(torch.linspace(-_FURTHEST, _FURTHEST, count, dtype=like.dtype, device=like.device))


def _last(values: Tensor) -> Tensor:
    return values.movedim(0, -1).contiguous()


def _quantiles(nodes: Tensor, log_value: Tensor, levels: Tensor) -> Tensor:
    """Quantiles of the square root of the function, between the two outer nodes, (levels + 2, ...)."""
    f = torch.exp((log_value - log_value.amax(0)) / 2)
    root = (nodes[1:] - nodes[:-1]) * (f[1:] + f[:-1])
    total = torch.nn.functional.pad(root.cumsum(0) / root.sum(0), [0, 0] * (root.dim() - 1) + [1, 0])
    nodes = nodes.expand(len(nodes), *total.shape[1:])
    cell = torch.searchsorted(_last(total[1:-1]), levels.expand(*total.shape[1:], -1).contiguous()).movedim(-1, 0)
    low, high, start, end = total.gather(0, cell), total.gather(0, cell + 1), nodes.gather(0, cell), nodes.gather(0, cell + 1)
    share = (levels.view(-1, *[1] * (total.dim() - 1)) - low) / (high - low).clamp_min(torch.finfo(f.dtype).tiny)
    return torch.cat([nodes[:1], start + (end - start) * share.clamp(0, 1), nodes[-1:]])
