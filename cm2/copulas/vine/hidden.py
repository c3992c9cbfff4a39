r"""Numerical marginalisation and conditional sampling for missing vine coordinates without closed form.

Missing leaves are dropped exactly (`VineStructure.reduce`). The remaining missing coordinates, called *hidden*, are integrated out along a
sampling order, with :math:`\Phi(t_v)` the level of each hidden coordinate given those before it:

.. math:: c(u_O) = \int g(t)\,\varphi(t)\,dt, \qquad g(t) = \prod_{v \in O} c\{u_v \mid u_{\text{before } v}(t)\} .

A single hidden coordinate is integrated by `Line`. For more, two coarse passes estimate the integrand's mean and covariance at every point,
which then place the nodes of the last pass. The nodes are constants: the derivative is that of the sum at fixed nodes, which equals the
integral's up to the quadrature error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.tails import Tails
from cm2.copulas.vine.line import Line
from cm2.copulas.vine.nodes import cloud
from cm2.copulas.vine.recursion import Recursion
from cm2.copulas.vine.structure import Edge, VineStructure
from cm2.numerics.elementary import summed
from cm2.numerics.normal import LOG_SQRT_TAU, normal_tails

_PASSES = 2


@dataclass(frozen=True)
class Plan:
    """Sampling order for a set of observed coordinates.

    Args:
        order: a sampling order of all coordinates, beginning with those that the density of the observed ones needs.
        needed: how many of them the density needs.
        hidden: the missing ones among those needed, in that order.
        columns: see `VineStructure.columns`.
    """

    order: tuple[int, ...]
    needed: int
    hidden: tuple[int, ...]
    columns: dict[int, tuple[Edge, ...]]


@lru_cache(maxsize=4096)
def plan(structure: VineStructure, present: frozenset[int]) -> Plan:
    """The plan for a set of observed coordinates; hidden ones come after as many observed ones as the trees allow."""
    kept = structure.reduce(present)
    hidden = kept - present
    rest = structure.order_after(kept)[len(kept) :]
    order = (*_latest(structure, kept, hidden), *rest)
    return Plan(order, len(kept), tuple(v for v in order if v in hidden), structure.columns_of(order))


def _latest(structure: VineStructure, kept: frozenset[int], hidden: frozenset[int]) -> tuple[int, ...]:
    best: dict[frozenset[int], tuple[int, tuple[int, ...]]] = {frozenset(): (0, ())}

    def search(part: frozenset[int]) -> tuple[int, tuple[int, ...]]:
        if part not in best:
            ways = []
            for v in structure.removable(part):
                score, order = search(part - {v})
                ways.append((score + (len(part - hidden) if v in hidden else 0), (*order, v)))
            best[part] = max(ways, key=lambda way: way[0])
        return best[part]

    return search(kept)[1]


class Hidden:
    """The integrand over the hidden coordinates, at points of the observed ones.

    Args:
        structure: the trees.
        laws: the pair copulas.
        present: the observed coordinates; at least one other coordinate has to be hidden.
        points: tails of the observed coordinates, all of one shape that includes the batch shape of the pair copulas.
    """

    def __init__(
        self, structure: VineStructure, laws: Sequence[CopulaDistribution], present: frozenset[int], points: dict[int, Tails]
    ) -> None:
        self.plan = plan(structure, present)
        self.structure, self.laws = structure, laws
        self.points = {v: points[v] for v in present}
        self.like = next(iter(self.points.values()))[0]
        self._line = len(self.plan.hidden) == 1
        self._place()

    def log_density(self) -> Tensor:
        """Log density of the observed coordinates."""
        if self._line:
            return Line(lambda t: self._log_value([t]), self.like).log_integral()
        nodes, log_weight, _ = cloud(len(self.plan.hidden), True, self.like)
        x = [self._down(column) for column in nodes.unbind(-1)]
        return (self._log_value(x) + self._down(log_weight)).logsumexp(0)

    def draw(self, levels: dict[int, Tails]) -> dict[int, Tails]:
        """Draws the hidden coordinates given all observed ones; returns their levels given those before them *in the order*.

        The density of the first hidden coordinate given the observed ones is tabulated, with those after it integrated out, and its CDF is
        inverted at the uniform level; then that of the next one, given the draw of the first. Differentiable, like the tables.

        Args:
            levels: tails of uniforms, (n_draws, ...) by coordinate.
        """
        known: list[Tensor] = []
        for v in self.plan.hidden:
            p = torch.exp(levels[v][0])
            table = Line(partial(self._log_table, tuple(known)), self.like if not known else p)
            known.append(table.quantile(p) if not known else table.quantile(p[None]).squeeze(0))
        return {v: normal_tails(t) for v, t in zip(self.plan.hidden, self._scores(known), strict=True)}

    def _log_table(self, known: Sequence[Tensor], x: Tensor) -> Tensor:
        """Log density of the next hidden coordinate at x (nodes, ...), given those in `known` (n_draws, ...); later ones integrated out."""
        nodes, log_weight, _ = cloud(len(self.plan.hidden) - len(known) - 1, False, self.like)
        ahead = lambda column: column.view(-1, *[1] * x.dim())
        value = self._log_value([*known, x, *(ahead(column) for column in nodes.unbind(-1))])
        return (value + ahead(log_weight)).logsumexp(0)

    def _log_value(self, x: list[Tensor]) -> Tensor:
        """Logarithm of g φ at t = mean + factor x, times the determinant of the factor."""
        scores = self._scores(x)
        recursion = Recursion(self.structure, self.laws, self.points)
        total = summed(-score.square() / 2 - LOG_SQRT_TAU + self.log_scale[i] for i, score in enumerate(scores))
        score_of = dict(zip(self.plan.hidden, scores, strict=True))
        for v in self.plan.order[: self.plan.needed]:
            column = self.plan.columns[v]
            if v in score_of:
                recursion.draw(v, column, normal_tails(score_of[v]))
            elif column:
                total = total + summed(recursion.log_density(edge) for edge in column)
        return total

    def _scores(self, x: list[Tensor]) -> list[Tensor]:
        return [self.mean[i] + summed(self.factor[i][j] * x[j] for j in range(i + 1)) for i in range(len(x))]

    def _down(self, column: Tensor) -> Tensor:
        """(count) -> (count, 1, ...), to broadcast against the points."""
        return column.view(-1, *[1] * self.like.dim())

    @torch.no_grad()
    def _place(self) -> None:
        """Sets mean and Cholesky factor of the integrand, estimated in two coarse passes."""
        dim = len(self.plan.hidden)
        one, zero = torch.ones_like(self.like), torch.zeros_like(self.like)
        self.mean = [zero] * dim
        self._set_factor([[one if i == j else zero for j in range(i + 1)] for i in range(dim)])
        if self._line:
            return
        nodes, log_weight, step = cloud(dim, False, self.like)
        x = [self._down(column) for column in nodes.unbind(-1)]
        for _ in range(_PASSES):
            weight = (self._log_value(x) + self._down(log_weight)).softmax(0)
            scores = self._scores(x)
            mean = [(weight * score).sum(0) for score in scores]
            away = [score - middle for score, middle in zip(scores, mean, strict=True)]
            # a peak between two nodes is invisible: keep the next pass at least half a step wide
            before = [[summed(a * b for a, b in zip(row, other, strict=False)) for other in self.factor] for row in self.factor]
            floor = (step / 2) ** 2
            rows = [[(weight * away[i] * away[j]).sum(0) + floor * before[i][j] for j in range(i + 1)] for i in range(dim)]
            self.mean = mean
            self._set_factor(_cholesky(rows))

    def _set_factor(self, factor: list[list[Tensor]]) -> None:
        self.factor = factor
        self.log_scale = [torch.log(row[-1]) for row in factor]


def _cholesky(rows: list[list[Tensor]]) -> list[list[Tensor]]:
    """Cholesky factors of many small covariances, passed and returned as rows of the lower triangle."""
    factor: list[list[Tensor]] = []
    for i, row in enumerate(rows):
        new: list[Tensor] = []
        for j in range(i):
            new.append((row[j] - sum(new[k] * factor[j][k] for k in range(j))) / factor[j][j])
        least = 1e-3 * row[i]  # rounding must not leave a negative conditional variance
        new.append(torch.maximum(row[i] - sum(each.square() for each in new), least).sqrt())
        factor.append(new)
    return factor
