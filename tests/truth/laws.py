r"""Copulas in mpmath, from their textbook definitions and at whatever precision is set: the truth the engine is held against.

Nothing here is shared with `cm2`. Archimedean densities are :math:`|\psi^{(d)}(t)|\prod_j|(\psi^{-1})'(u_j)|` with every derivative a
central difference whose step shrinks with the precision; elliptical ones are the density of the normal or t vector over its margins
(Nelsen 2006, chapters 2 and 4; Joe 2014, chapters 2 and 4). Numbers are `mpf`, a point is a list of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import mpmath as mp
from mpmath import mpf
from scipy import stats

Point = list[mpf]


class Law(Protocol):
    """A copula with its parameters."""

    parameters: Point

    def log_density(self, u: Point) -> mpf: ...
    def log_density_gradient(self, u: Point) -> tuple[Point, Point]:
        """Derivatives in u and in the parameters."""

    def cdf(self, u: Point) -> mpf: ...
    def h(self, u: Point) -> mpf:
        """P(U_1 <= u_1 | U_2 = u_2)."""


def derivative(f: Callable[[mpf], mpf], x: mpf, scale: mpf, order: int = 1) -> mpf:
    """Central difference with a step of `scale` times 10^(-digits/6): truncation 10^(-digits/3), four of them nested leave as much."""
    step = scale * mpf(10) ** (-mp.mp.dps // 6)
    terms = ((-1) ** k * mp.binomial(order, k) * f(x + (mpf(order) / 2 - k) * step) for k in range(order + 1))
    return mp.fsum(terms) / step**order


def room(u: mpf) -> mpf:
    """Distance to the nearer end of (0, 1)."""
    return min(u, 1 - u)


def replaced(values: Point, place: int, value: mpf) -> Point:
    return [*values[:place], value, *values[place + 1 :]]


# psi(t, alpha) and its inverse in t (Nelsen 2006, table 4.1: numbers 4, 5, 1, 6)
GENERATORS: dict[str, tuple[Callable[[mpf, mpf], mpf], Callable[[mpf, mpf], mpf]]] = {
    "gumbel": (lambda t, a: mp.exp(-(t ** (1 / a))), lambda u, a: (-mp.log(u)) ** a),
    "frank": (lambda t, a: -mp.log1p(mp.expm1(-a) * mp.exp(-t)) / a, lambda u, a: -mp.log(mp.expm1(-a * u) / mp.expm1(-a))),
    "clayton": (lambda t, a: (1 + t) ** (-1 / a), lambda u, a: u**-a - 1),
    "joe": (lambda t, a: 1 - (-mp.expm1(-t)) ** (1 / a), lambda u, a: -mp.log1p(-((1 - u) ** a))),
}


@dataclass
class Archimedean:
    """C(u) = psi(sum of psi^-1(u_j))."""

    name: str
    parameters: Point

    def psi(self, t: mpf, order: int = 0) -> mpf:
        """Derivative of psi of the given order."""
        of_t = lambda x: GENERATORS[self.name][0](x, self.parameters[0])
        return derivative(of_t, t, t, order) if order else of_t(t)

    def inverse(self, u: mpf) -> mpf:
        return GENERATORS[self.name][1](u, self.parameters[0])

    def log_density(self, u: Point) -> mpf:
        slopes = mp.fprod(derivative(self.inverse, each, room(each)) for each in u)
        return mp.log(abs(self.psi(mp.fsum(map(self.inverse, u)), len(u)) * slopes))

    def log_density_gradient(self, u: Point) -> tuple[Point, Point]:
        at = lambda j: lambda x: self.log_density(replaced(u, j, x))
        alpha = self.parameters[0]
        of_alpha = lambda a: Archimedean(self.name, [a]).log_density(u)
        return [derivative(at(j), each, room(each)) for j, each in enumerate(u)], [derivative(of_alpha, alpha, alpha)]

    def cdf(self, u: Point) -> mpf:
        return self.psi(mp.fsum(map(self.inverse, u)))

    def h(self, u: Point) -> mpf:
        given = self.inverse(u[1])
        return self.psi(self.inverse(u[0]) + given, 1) / self.psi(given, 1)


def t_cdf(x: mpf, nu: mpf) -> mpf:
    """Student's t distribution function (Abramowitz and Stegun 26.7.1), by whichever series is short."""
    square = x * x
    if square > nu:
        tail = mp.betainc(nu / 2, mpf(1) / 2, 0, nu / (nu + square), regularized=True) / 2
        return tail if x < 0 else 1 - tail
    slope = mp.gamma((nu + 1) / 2) / (mp.sqrt(nu * mp.pi) * mp.gamma(nu / 2))
    return mpf(1) / 2 + x * slope * mp.hyp2f1(mpf(1) / 2, (nu + 1) / 2, mpf(3) / 2, -square / nu)


def log_t_density(x: Point, rho: Point, nu: mpf | None) -> mpf:
    """Log density of the d-variate standard t law (normal: nu None) with the given correlations, rows of the lower triangle in turn."""
    d = len(x)
    entries = dict(zip([(i, j) for i in range(d) for j in range(i)], rho, strict=True))
    matrix = mp.matrix(d, d)
    for i in range(d):
        for j in range(d):
            matrix[i, j] = mpf(1) if i == j else entries[max(i, j), min(i, j)]
    column = mp.matrix(x)
    square = (column.T * mp.lu_solve(matrix, column))[0]
    log_root = mp.log(mp.det(matrix)) / 2
    if nu is None:
        return -square / 2 - d * mp.log(2 * mp.pi) / 2 - log_root
    constant = mp.loggamma((nu + d) / 2) - mp.loggamma(nu / 2) - d * mp.log(nu * mp.pi) / 2
    return constant - log_root - (nu + d) / 2 * mp.log1p(square / nu)


def margin_cdf(x: mpf, nu: mpf | None) -> mpf:
    return mp.erfc(-x / mp.sqrt(2)) / 2 if nu is None else t_cdf(x, nu)


def margin_density(x: mpf, nu: mpf | None) -> mpf:
    return mp.exp(log_t_density([x], [], nu))


@cache
def _quantile(u: mpf, nu: mpf | None, digits: int) -> mpf:
    """Newton's iteration from the double precision value; `digits` is the precision, part of the key."""
    law = stats.norm() if nu is None else stats.t(float(nu))
    x = mpf(float(law.ppf(float(u)) if u < 0.5 else law.isf(float(1 - u))))
    for _ in range(60):
        step = (margin_cdf(x, nu) - u) / margin_density(x, nu)
        x -= step
        if abs(step) <= abs(x) * mpf(10) ** (-digits // 2 - 5):  # the next step would be below the last digit
            return x
        if u == mpf(1) / 2:
            return mpf(0)
    raise ArithmeticError(f"quantile of {u} at nu = {nu}: no convergence")


def quantile(u: mpf, nu: mpf | None) -> mpf:
    return _quantile(u, nu, mp.mp.dps)


@dataclass
class Elliptical:
    """The copula of the normal (`parameters`: correlations) or of the t law (correlations, nu)."""

    name: str
    parameters: Point

    def _split(self, parameters: Point) -> tuple[Point, mpf | None]:
        return (parameters, None) if self.name == "gaussian" else (parameters[:-1], parameters[-1])

    def _at(self, x: Point, parameters: Point) -> mpf:
        rho, nu = self._split(parameters)
        return log_t_density(x, rho, nu) - mp.fsum(log_t_density([each], [], nu) for each in x)

    def _scores(self, u: Point) -> Point:
        return [quantile(each, self._split(self.parameters)[1]) for each in u]

    def log_density(self, u: Point) -> mpf:
        return self._at(self._scores(u), self.parameters)

    def log_density_gradient(self, u: Point) -> tuple[Point, Point]:
        x, (_, nu) = self._scores(u), self._split(self.parameters)
        one = mpf(1)
        slopes = [derivative(lambda y, j=j: self._at(replaced(x, j, y), self.parameters), x[j], one) for j in range(len(x))]
        in_u = [slope / margin_density(each, nu) for slope, each in zip(slopes, x, strict=True)]
        partial = lambda k: lambda value: self._at(x, replaced(self.parameters, k, value))
        scale = [room((1 + r) / 2) for r in self._split(self.parameters)[0]] + ([] if nu is None else [nu])
        in_parameters = [derivative(partial(k), value, scale[k]) for k, value in enumerate(self.parameters)]
        if nu is not None:  # the quantiles move with nu: T_nu(x) = u stays
            in_parameters[-1] -= mp.fsum(g * _cdf_in_nu(each, nu, mp.mp.dps) for g, each in zip(in_u, x, strict=True))
        return in_u, in_parameters

    def h(self, u: Point) -> mpf:
        (x, y), ((rho,), nu) = self._scores(u), self._split(self.parameters)
        scale = mp.sqrt((1 - rho) * (1 + rho)) * (1 if nu is None else mp.sqrt((nu + y * y) / (nu + 1)))
        return margin_cdf((x - rho * y) / scale, None if nu is None else nu + 1)

    def cdf(self, u: Point) -> mpf:
        r"""Plackett's identity (1954), for the t law as in Genz 2004: the derivative of C in rho is elementary, and rho = -1 and 1 are the
        Fréchet bounds. Both ways, integrated in :math:`\theta = \arcsin\rho`, must agree."""
        (x, y), ((rho,), nu) = self._scores(u), self._split(self.parameters)

        def slope(theta: mpf) -> mpf:
            sign = 1 if theta > 0 else -1  # x^2 + y^2 - 2xy sin, written so that it does not cancel towards the end
            square = ((x - sign * y) / mp.cos(theta)) ** 2 + 2 * sign * x * y / (1 + abs(mp.sin(theta)))
            return (mp.exp(-square / 2) if nu is None else (1 + square / nu) ** (-nu / 2)) / (2 * mp.pi)

        end = mp.asin(rho)
        low, high = (mp.quad(slope, _pieces(*ends)) for ends in ((-mp.pi / 2, end), (end, mp.pi / 2)))
        below, above = max(u[0] + u[1] - 1, mpf(0)) + low, min(u) - high
        if abs(below - above) > mpf(10) ** -35:
            raise ArithmeticError(f"cdf of {self} at {u}: {mp.nstr(below, 30)} from below, {mp.nstr(above, 30)} from above")
        return below


@cache
def _cdf_in_nu(x: mpf, nu: mpf, digits: int) -> mpf:
    return derivative(lambda value: t_cdf(x, value), nu, nu)


def _pieces(start: mpf, end: mpf) -> Point:
    """Break points that crowd geometrically at both ends, where the integrand of the CDF may turn within any distance of pi/2."""
    width = [(end - start) / 2 / mpf(8) ** k for k in range(14)]
    return [start, *(start + w for w in reversed(width)), *(end - w for w in width[1:]), end]


@dataclass
class Rotated:
    """Rotation by 90, 180 or 270 degrees, with density c(1 - u_1, u_2), c(1 - u_1, 1 - u_2) or c(u_1, 1 - u_2)."""

    base: Archimedean | Elliptical
    rotation: int

    def __post_init__(self) -> None:
        self.parameters = self.base.parameters
        self.turned = {90: (True, False), 180: (True, True), 270: (False, True)}[self.rotation]

    def _base_point(self, u: Point) -> Point:
        return [1 - each if turned else each for each, turned in zip(u, self.turned, strict=True)]

    def log_density(self, u: Point) -> mpf:
        return self.base.log_density(self._base_point(u))

    def log_density_gradient(self, u: Point) -> tuple[Point, Point]:
        in_u, in_parameters = self.base.log_density_gradient(self._base_point(u))
        return [-g if turned else g for g, turned in zip(in_u, self.turned, strict=True)], in_parameters

    def cdf(self, u: Point) -> mpf:
        inside = self.base.cdf(self._base_point(u))
        return {90: u[1] - inside, 180: u[0] + u[1] - 1 + inside, 270: u[0] - inside}[self.rotation]

    def h(self, u: Point) -> mpf:
        inside = self.base.h(self._base_point(u))
        return 1 - inside if self.turned[0] else inside
