r"""Student's t distribution at one :math:`\nu` and many points, by Taylor polynomials on the cells of a table built on the fly.

The argument z starts at 0 (:math:`-\log 2p` for the quantile, a multiple of w for the tail), and :math:`v = 1 + z` is in one of
:math:`2^6` cells per octave: exponent and leading bits of the float v are the number of the cell, the rest of the mantissa is the position
in it. Both the quantile and the log tail solve a differential equation with polynomial right-hand side (see the two `_..._series`), by
which all coefficients of a cell follow from a single accurate value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from cm2.numerics.student_t_integral import (
    log_beta_half,
    log_beta_half_slope,
    log_cosh,
    log_tail,
    log_tail_slope,
    quantile_slope,
    solve_tail,
    tail_moments,
)

LEAST = 2048  # number of points from which a table is faster
_BITS = 6
_DEGREE, _TAYLOR = 6, 10
_SHIFT = 52 - _BITS
_LOW = (1 << _SHIFT) - 1
_ONE = 1023 << 52
_FIRST = _ONE >> _SHIFT  # the cell that begins at v = 1
_HALF = 0.5 / (1 << _BITS)  # half the length of a cell in an octave of length 1
_MEDIAN = 1 - math.log(2)  # v = _MEDIAN - log p is 1 at the median
_STEP = 1e-100  # of the complex step: derivatives by imaginary parts do not cancel, however small the step
_FEW, _MANY = 6, 10  # octaves, for arguments up to 63 and up to 1023
_STIFF = 600.0  # -log of the tail beyond which the differential equations amplify rounding errors too much within a cell


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The last coefficient of the product of two power series, (orders, cells)."""
    return (a * b.flip(0)).sum(0)


def _begin(*starts: Tensor) -> list[Tensor]:
    series = [starts[0].new_empty(_TAYLOR + 1, starts[0].shape[-1]) for _ in starts]
    for each, start in zip(series, starts, strict=True):
        each[0] = start
    return series


def _quantile_series(w: Tensor, mills: Tensor, tanh: Tensor, nu: Tensor, unit: Tensor) -> Tensor:
    r"""Coefficients of :math:`w(-\log p)`: :math:`w' = y`, :math:`y' = (\nu ty - 1)y`, :math:`t' = (1 - t^2)y`."""
    out, y, t, slope, rest = _begin(w, mills, tanh, nu * tanh * mills - 1, 1 - tanh * tanh)
    for n in range(_TAYLOR):
        done, scale = slice(n + 1), unit / (n + 1)
        if n:
            slope[n], rest[n] = nu * _product(t[done], y[done]), -_product(t[done], t[done])
        out[n + 1] = y[n] * scale
        t[n + 1] = _product(rest[done], y[done]) * scale
        y[n + 1] = _product(slope[done], y[done]) * scale
    return out


def _tail_series(log_tail: Tensor, hazard: Tensor, tanh: Tensor, nu: Tensor, unit: Tensor) -> Tensor:
    r"""Coefficients of `log_tail`: :math:`\ell' = -H`, :math:`H' = H(H - \nu t)`, :math:`t' = 1 - t^2`."""
    out, h, t, slope = _begin(log_tail, hazard, tanh, hazard)
    for n in range(_TAYLOR):
        done, scale = slice(n + 1), unit / (n + 1)
        slope[n] = h[n] - nu * t[n]
        out[n + 1] = -h[n] * scale
        t[n + 1] = ((0 if n else 1) - _product(t[done], t[done])) * scale
        h[n + 1] = _product(slope[done], h[done]) * scale
    return out


@lru_cache
def _economy() -> Tensor:
    """Matrix from Taylor coefficients on a cell to those of the truncated Chebyshev series, (degree + 1, taylor + 1)."""
    rows = []
    for n in range(_TAYLOR + 1):
        chebyshev = np.polynomial.chebyshev.poly2cheb(np.eye(_TAYLOR + 1)[n] * _HALF**n)[: _DEGREE + 1]
        power = np.polynomial.chebyshev.cheb2poly(chebyshev)
        rows.append(np.pad(power, (0, _DEGREE + 1 - len(power))) / _HALF ** np.arange(_DEGREE + 1))
    return torch.from_numpy(np.stack(rows, 1))


def _cells(octaves: int) -> tuple[Tensor, Tensor]:
    """Centres of the cells in v, and the lengths of their octaves."""
    start = np.arange(_FIRST, _FIRST + (octaves << _BITS), dtype=np.int64) << _SHIFT
    unit = (start >> 52 << 52).view(np.float64)
    return torch.from_numpy(start.view(np.float64) + unit * _HALF), torch.from_numpy(unit)


def _coefficients(series: Callable[..., Tensor], starts: Sequence[Tensor], slopes: Sequence[Tensor] | None, unit: Tensor) -> Tensor:
    """Coefficients of the cells; with `slopes`, the derivatives of `starts` in nu, those of the derivative in nu (by a complex step)."""
    if slopes is None:
        return _economy() @ series(*starts, unit)
    values = series(*(torch.complex(start, _STEP * slope.expand_as(start)) for start, slope in zip(starts, slopes, strict=True)), unit)
    return _economy() @ (values.imag / _STEP)


Table = tuple[Tensor, ...]


@lru_cache(maxsize=128)
def _quantile_table(nu: float, octaves: int, slope: bool) -> Table:
    centre, unit = _cells(octaves)
    log_p, nu_ = _MEDIAN - centre, torch.tensor(nu, dtype=torch.float64)
    w = solve_tail(log_p, nu_)
    level, tanh = log_cosh(w), torch.tanh(w)
    mills = torch.exp(log_beta_half(nu_) + log_p + nu * level)
    slopes = None
    if slope:
        by_nu = quantile_slope(w, nu_)
        by_mills = mills * (log_beta_half_slope(nu_) + level + nu * tanh * by_nu)
        slopes = (by_nu, by_mills, (1 - tanh * tanh) * by_nu, torch.ones_like(nu_))
    values = _coefficients(_quantile_series, (w, mills, tanh, nu_), slopes, unit)
    values[0, 0] -= (values[:, 0] * (-_HALF) ** torch.arange(_DEGREE + 1)).sum()  # exactly 0 at the median
    return values.unbind()


@lru_cache(maxsize=128)
def _tail_table(nu: float, octaves: int, slope: bool) -> Table:
    centre, unit = _cells(octaves)
    nu_, root = torch.tensor(nu, dtype=torch.float64), math.sqrt(nu)
    w = (centre - 1) / root
    log_integral, mean, _ = tail_moments(w, nu_)
    level, tanh = log_cosh(w), torch.tanh(w)
    hazard = torch.exp(-nu * level - log_integral)
    slopes = None
    if slope:
        slopes = (-mean - log_beta_half_slope(nu_), hazard * (mean - level), torch.zeros_like(w), torch.ones_like(nu_))
    return _coefficients(_tail_series, (log_integral - log_beta_half(nu_), hazard, tanh, nu_), slopes, unit / root).unbind()


def _look_up(table: Table, v: Tensor) -> Tensor:
    bits = v.view(torch.int64)
    cell = (bits >> _SHIFT).sub_(_FIRST)
    place = (bits & _LOW).bitwise_or_(_ONE).view(torch.float64).sub_(1 + _HALF)
    out = table[-1].index_select(0, cell)
    buffer = torch.empty_like(out)
    for row in reversed(table[:-1]):
        torch.index_select(row, 0, cell, out=buffer)
        torch.addcmul(buffer, out, place, out=out)
    return out


def _evaluate(build: Callable[[bool], Table], v: Tensor, reach: float, exact: Callable[[Tensor], Tensor]) -> Tensor:
    """Values from the table for 1 <= v < reach; for other v and NaN from `exact`, which takes the mask of those points."""
    flat = v.flatten()
    low, high = (end.item() for end in torch.aminmax(flat))
    if low >= 1 and high < reach:
        return _look_up(build(high < 2.0**_FEW), flat).view(v.shape)
    inside = (v >= 1) & (v < reach)
    value = _look_up(build(False), torch.where(inside.flatten(), flat, 1.0)).view(v.shape)
    return value.masked_scatter_(~inside, exact(~inside))


def table_applies(points: Tensor, nu: Tensor) -> bool:
    """Whether there are many points and a single nu, both on the host, where reading them does not wait for a device."""
    if nu.numel() != 1 or points.numel() < LEAST or not points.is_cpu:
        return False
    return not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())


def table_quantile(log_p: Tensor, nu: Tensor, slope: bool = False) -> Tensor:
    """`solve_tail`, or its derivative in nu, from the table; for points outside it by `solve_tail`."""

    def exact(at: Tensor) -> Tensor:
        w = solve_tail(log_p[at], nu)
        return quantile_slope(w, nu) if slope else w

    build = lambda few: _quantile_table(nu.item(), _FEW if few else _MANY, slope)
    return _evaluate(build, _MEDIAN - log_p, 2.0**_MANY, exact)


def table_tail(w: Tensor, nu: Tensor, slope: bool = False) -> Tensor:
    """`log_tail`, or its derivative in nu, from the table; for points outside it by `log_tail`."""
    value = nu.item()
    root, size = math.sqrt(value), _STIFF / value
    reach = min(2.0**_MANY, 1 + root * max(size, math.sqrt(size)))
    build = lambda few: _tail_table(value, _FEW if few else _MANY, slope)
    exact = lambda at: log_tail_slope(w[at], nu) if slope else log_tail(w[at], nu)
    return _evaluate(build, 1 + w * root, reach, exact)
