r"""Quadrature rules over the real line, the plane and higher dimensions, for functions about as wide as a normal density.

On the line: the trapezoidal rule in y with :math:`x = \sinh(\kappa y)/\kappa`, which is evenly spaced near 0 and increasingly wide further
out, and so covers many standard deviations; for analytic integrands the error falls exponentially in the number of nodes (Trefethen and
Weideman 2014). In two and three dimensions: the product rule. In more: a rank-one lattice (generating vector of Cools, Kuo, Nuyens 2006)
mapped by logistic quantiles, which make the integrand smooth and periodic.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from cm2.errors import InputError

_REACH, _BEND = 5.0, 0.7  # the largest |y| and kappa on a line: x up to 23.6
_PRODUCTS = {1: (15, 41, _REACH, _BEND), 2: (11, 25, 4.6, 0.5), 3: (9, 13, 4.6, 0.4)}  # nodes on an axis, coarse and fine; reach; kappa
_LATTICE_COUNTS = (512, 4096)
_LOGISTIC_SCALE = 0.65  # a logistic distribution close to the standard normal, with heavier tails
_GENERATOR: tuple[int, ...] = (1, 182667, 469891, 498753, 110745, 446247, 250185, 118627, 245333, 283199, 408519, 391023, 246327, 126539)
_GENERATOR += (399185, 461527, 300343, 69681, 516695, 436179, 106383, 238523, 413283, 70841, 47719, 300129, 113029, 123925, 410745, 211325)


def bend(y: Tensor, kappa: float = _BEND) -> Tensor:
    """x = sinh(κy)/κ."""
    return torch.sinh(kappa * y) / kappa


def line(count: int, like: Tensor, reach: float = _REACH, kappa: float = _BEND) -> tuple[Tensor, Tensor, float]:
    """Nodes y on the line, the logarithms of their weights (including dx/dy), and the step."""
    step = 2 * reach / (count - 1)
    y = torch.linspace(-reach, reach, count, dtype=like.dtype, device=like.device)
    return y, torch.log(step * torch.cosh(kappa * y)), step


def lattice(count: int, dim: int, like: Tensor) -> Tensor:
    """Shifted rank-one lattice in (0, 1)^dim, (count, dim); never 0 or 1.

    Raises:
        ValueError: more dimensions than components of the generating vector.
    """
    if dim > len(_GENERATOR):
        raise InputError(f"a lattice in {dim} dimensions is asked for; there is one for up to {len(_GENERATOR)}")
    return _lattice(count, dim).to(like)


@lru_cache(maxsize=64)
def _lattice(count: int, dim: int) -> Tensor:
    index = torch.arange(count, dtype=torch.float64).unsqueeze(-1)
    generator = torch.tensor([g % count for g in _GENERATOR[:dim]], dtype=torch.float64)
    shift = torch.arange(1, dim + 1, dtype=torch.float64) * 0.6180339887498949  # a fixed shift: multiples of the inverse golden ratio
    return ((index * generator / count + (shift + 0.5) / count) % 1.0).clamp(1e-9, 1 - 1e-9)


def cloud(dim: int, fine: bool, like: Tensor) -> tuple[Tensor, Tensor, float]:
    """Nodes x (count, dim), the logarithms of their weights (count), and the approximate distance of neighbours.

    Args:
        dim: 0 or more; 0 gives a single point without coordinates, of weight 1.
        fine: True for the integral itself, False for its location and width.
        like: a tensor of the required dtype and device.
    """
    if dim == 0:
        return like.new_zeros(1, 0), like.new_zeros(1), 0.0
    if dim in _PRODUCTS:
        *counts, reach, kappa = _PRODUCTS[dim]
        y, log_weight, step = line(counts[fine], like, reach, kappa)
        nodes = torch.cartesian_prod(*[y] * dim).view(-1, dim)
        return bend(nodes, kappa), torch.cartesian_prod(*[log_weight] * dim).view(-1, dim).sum(-1), step
    count = _LATTICE_COUNTS[fine]
    v = lattice(count, dim, like)
    density = torch.log(v) + torch.log1p(-v)
    weight = -(density - torch.log(like.new_tensor(_LOGISTIC_SCALE))).sum(-1) - torch.log(like.new_tensor(float(count)))
    return _LOGISTIC_SCALE * (torch.log(v) - torch.log1p(-v)), weight, 1.0
