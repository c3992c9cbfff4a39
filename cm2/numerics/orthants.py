r"""Multivariate normal and t distribution functions in any dimension, by quasi-Monte Carlo with an error estimate.

Genz's sequential conditioning (Genz and Bretz 2009, section 4.2): for each coordinate in turn, the conditional probability below its limit
is a factor of the integrand, and a point of the unit interval selects the value on which the next ones are conditioned. The points are a
rank-1 Korobov lattice, its generator chosen by the worst-case error P_2, with the baker's transform and a few fixed random shifts: as they
never change, the value is a smooth, repeatable function of limits and factor, and the spread between the shifts estimates the error.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from cm2.numerics.student_t import arc_log_tails, arc_quantile
from cm2.numerics.student_t_integral import solve_tail

_POINTS, _CANDIDATES = 4093, 200
_SHIFTS = 8
_AT_ONCE = 1 << 21  # values of the integrand in memory
_HIGHEST = 340.0  # the square of its sinh does not overflow

# (limit, number of coordinates conditioned on, log of 1 plus their sum of squares, point in (0, 1)) -> (probability, value conditioned on)
Conditional = Callable[[Tensor, int, Tensor, Tensor | None], tuple[Tensor, Tensor | None]]


@lru_cache
def _generator(dim: int) -> np.ndarray:
    """Korobov vector (1, a, a^2, ...) with the smallest P_2 among a fixed random choice of a."""
    k = np.arange(_POINTS)
    worst = np.inf
    for a in np.random.default_rng(1963).choice(np.arange(2, _POINTS // 2), _CANDIDATES, replace=False):
        vector = np.array([pow(int(a), j, _POINTS) for j in range(dim)])
        x = np.outer(vector, k) % _POINTS / _POINTS
        error = np.prod(1 + 2 * np.pi**2 * (x * x - x + 1 / 6), axis=0).mean() - 1
        if error < worst:
            worst, best = error, vector
    return best


@lru_cache
def _lattice(dim: int, device: torch.device) -> Tensor:
    """Lattice points under all shifts, (shifts * points, dim)."""
    base = torch.from_numpy(np.outer(np.arange(_POINTS), _generator(dim)) % _POINTS / _POINTS)
    shifts = torch.rand(_SHIFTS, 1, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(20051))
    points = (base + shifts) % 1.0
    return (1 - (2 * points - 1).abs()).reshape(-1, dim).clamp_min(1e-300).to(device)


def multivariate_normal_cdf(limits: Tensor, cholesky: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`P(X_1 \le b_1, \ldots, X_d \le b_d)` for :math:`X \sim N(0, LL^\top)`, and its standard error, each (...).

    Args:
        limits: (..., d), +inf allowed.
        cholesky: (*batch, d, d), unit rows.
    """

    def conditional(limit: Tensor, known: int, log_size: Tensor, place: Tensor | None) -> tuple[Tensor, Tensor | None]:
        mass = torch.special.ndtr(limit)
        return mass, None if place is None else torch.special.ndtri((mass * place).clamp_min(torch.finfo(mass.dtype).tiny))

    return _chunked(limits, cholesky, conditional)


def multivariate_t_cdf(w: Tensor, cholesky: Tensor, nu: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`P(X_j \le \sqrt\nu\sinh w_j\ \forall j)` for a multivariate t vector X, and its standard error, each (...), in float64.

    Given n others, a coordinate is t distributed with :math:`\nu + n` degrees of freedom, which avoids an integral over a common scale
    (Genz and Bretz 2009, section 4.2.2).

    Args:
        w: (..., d), +inf allowed; the leading dimensions end with those of `nu`.
        cholesky: (*batch, d, d), unit rows.
        nu: degrees of freedom, (*batch).
    """
    if nu.dim() == 0:
        return _single_t_cdf(w, cholesky, nu)
    dim = w.shape[-1]
    shape = torch.broadcast_shapes(w.shape[:-1], nu.shape)
    points = w.expand(*shape, dim).reshape(-1, nu.numel(), dim).unbind(1)
    factors = cholesky.expand(*nu.shape, dim, dim).reshape(-1, dim, dim).unbind(0)
    # one nu at a time, because only then its quantiles come from a table
    values = [_single_t_cdf(*each) for each in zip(points, factors, nu.flatten().unbind(), strict=True)]
    value, error = (torch.stack(each, 1).reshape(shape) for each in zip(*values, strict=True))
    return value, error


def _single_t_cdf(w: Tensor, cholesky: Tensor, nu: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():  # limits are capped at the upper 2e-22 quantile, beyond which the probability rounds to 1
        counts = torch.arange(w.shape[-1], dtype=nu.dtype, device=nu.device)
        ends = solve_tail(torch.full_like(counts, -50.0), nu + counts).unbind()

    def conditional(limit: Tensor, known: int, log_size: Tensor, place: Tensor | None) -> tuple[Tensor, Tensor | None]:
        size = torch.exp(log_size / 2)
        low, _ = arc_log_tails(torch.minimum(torch.asinh(limit / size), ends[known]), nu + known)
        if place is None:
            return torch.exp(low), None
        log_p = low + torch.log(place)
        draw = arc_quantile(log_p, torch.log1p(-torch.exp(log_p)), nu + known)
        return torch.exp(low), size * torch.sinh(draw.clamp(-_HIGHEST, _HIGHEST))

    return _chunked(torch.sinh(w.clamp(-_HIGHEST, _HIGHEST)), cholesky, conditional)


def _chunked(limits: Tensor, cholesky: Tensor, conditional: Conditional) -> tuple[Tensor, Tensor]:
    """Splits the points into chunks to limit the memory in use."""
    dim = limits.shape[-1]
    shape = torch.broadcast_shapes(limits.shape[:-1], cholesky.shape[:-2])
    points = _lattice(dim - 1, limits.device).to(limits.dtype)
    flat = limits.expand(*shape, dim).reshape(-1, dim)
    factors = cholesky.expand(*shape, dim, dim).reshape(-1, dim, dim)
    size = max(1, _AT_ONCE // len(points))
    parts = [_sequential(a, b, points, conditional) for a, b in zip(flat.split(size), factors.split(size), strict=True)]
    value, error = (torch.cat(each).view(shape) for each in zip(*parts, strict=True))
    return value, error


def _sequential(limits: Tensor, cholesky: Tensor, points: Tensor, conditional: Conditional) -> tuple[Tensor, Tensor]:
    """Sequential conditioning, (n, d) -> (n), smallest limit first: this reduces the variance, and infinite limits add no error."""
    dim = limits.shape[-1]
    order = limits.detach().argsort(-1)
    rows = (cholesky @ cholesky.mT).gather(-2, order.unsqueeze(-1).expand(*order.shape, dim))
    factor = torch.linalg.cholesky_ex(rows.gather(-1, order.unsqueeze(-2).expand(*order.shape[:-1], dim, dim))).L
    limits = limits.gather(-1, order)
    value, total = torch.ones_like(points[:, 0]), torch.ones_like(points[:, 0])
    known: list[Tensor] = []
    for i in range(dim):
        row = factor[..., i, :]
        shift = sum((row[..., j, None] * known[j] for j in range(i)), start=torch.zeros_like(points[:, 0]))
        limit = (limits[..., i, None] - shift) / row[..., i, None]
        mass, held = conditional(limit, i, torch.log(total), points[:, i] if i < dim - 1 else None)
        value = value * mass
        if held is not None:
            known.append(held)
            total = total + held * held
    means = value.view(len(limits), _SHIFTS, _POINTS).mean(-1)
    return means.mean(-1), means.detach().std(-1) / _SHIFTS**0.5
