r"""Absent coordinates of a vine that do not just drop out: the density of the others, and draws given the others.

Absent leaves are left out exactly (`VineStructure.reduce`). What remains absent, the *hidden* coordinates, are integrated out along an
order of sampling, with :math:`\Phi(t_v)` the level of each hidden coordinate given those before it:

.. math:: c(u_O) = \int g(t)\,\varphi(t)\,dt, \qquad g(t) = \prod_{v \in O} c\{u_v \mid u_{\text{before } v}(t)\} .

The integrand is no wider than a standard normal density where hidden coordinates are tied to present ones drawn before them. Two coarse
passes find its mean and covariance at every point; the nodes of the last pass are placed by them. These places are constants: the
derivative is that of the sum at fixed nodes, which is the integral's up to the same error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from cm2.copulas.base import CopulaDistribution, Tails
from cm2.copulas.vine.nodes import bend, cloud, line
from cm2.copulas.vine.recursion import Recursion
from cm2.copulas.vine.structure import Edge, VineStructure
from cm2.numerics.normal import LOG_SQRT_TAU, normal_tails

_PASSES, _TABLE = 2, 101


@dataclass(frozen=True)
class Plan:
    """How a set of present coordinates is dealt with.

    Args:
        order: an order of sampling of all coordinates; those that are needed for the present ones' density first.
        needed: how many of these there are.
        hidden: the absent ones among them, in that order.
        columns: see `VineStructure.columns`.
    """

    order: tuple[int, ...]
    needed: int
    hidden: tuple[int, ...]
    columns: dict[int, tuple[Edge, ...]]


@lru_cache(maxsize=4096)
def plan(structure: VineStructure, present: frozenset[int]) -> Plan:
    """The plan for a set of present coordinates; hidden ones come after as many present ones as the trees allow."""
    kept = structure.reduce(present)
    hidden = kept - present
    rest = structure.order_from(kept)[len(kept) :]
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
    """The integrand over the hidden coordinates at given points.

    Args:
        structure: the trees.
        laws: the pair laws.
        present: the present coordinates, some coordinate being hidden.
        points: tails of the present coordinates, all of one shape, the batch shape of the laws included.
    """

    def __init__(
        self, structure: VineStructure, laws: Sequence[CopulaDistribution], present: frozenset[int], points: dict[int, Tails]
    ) -> None:
        self.plan = plan(structure, present)
        self.structure, self.laws = structure, laws
        self.points = {v: points[v] for v in present}
        self.like = next(iter(self.points.values()))[0]
        self._place()

    def log_density(self) -> Tensor:
        """log c of the present coordinates."""
        nodes, log_weight, _ = cloud(len(self.plan.hidden), True, self.like)
        x = [self._down(column) for column in nodes.unbind(-1)]
        return (self._log_value(x) + self._down(log_weight)).logsumexp(0)

    def draw(self, levels: dict[int, Tails]) -> dict[int, Tails]:
        """Levels of the hidden coordinates, each given those before it *in the order*, that make them draws given all present ones.

        The first hidden coordinate's law given the present ones is tabulated, those after it being integrated out, and inverted at its
        level; then the next one's, given what was drawn. Differentiable, as the tables are.

        Args:
            levels: tails of uniforms, (n_draws, ...) by coordinate.
        """
        count, known = len(self.plan.hidden), []
        for j, v in enumerate(self.plan.hidden):
            y, log_step, step = line(_TABLE, self.like)
            nodes, log_weight, _ = cloud(count - 1 - j, False, self.like)
            draws = [each[None, None] for each in known]  # (table, rest, n_draws, ...)
            across = lambda column: column.view(1, -1, *[1] * (self.like.dim() + 1))
            table = bend(y).view(-1, 1, *[1] * (self.like.dim() + 1))
            log_value = self._log_value([*draws, table, *(across(column) for column in nodes.unbind(-1))])
            log_table = (log_value + across(log_weight)).logsumexp(1) + log_step.view(-1, *[1] * (self.like.dim() + 1))
            known.append(bend(_invert(log_table, step, y[0], torch.exp(levels[v][0]))))
        return {v: normal_tails(t) for v, t in zip(self.plan.hidden, self._scores(known), strict=True)}

    def _log_value(self, x: list[Tensor]) -> Tensor:
        """log of g φ at t = mean + factor x, times the factor's determinant."""
        scores = self._scores(x)
        recursion = Recursion(self.structure, self.laws, self.points)
        total = sum(-score.square() / 2 - LOG_SQRT_TAU + self.log_scale[i] for i, score in enumerate(scores))
        score_of = dict(zip(self.plan.hidden, scores, strict=True))
        for v in self.plan.order[: self.plan.needed]:
            column = self.plan.columns[v]
            if v in score_of:
                recursion.draw(v, column, normal_tails(score_of[v]))
            else:
                total = total + sum(recursion.log_density(edge) for edge in column)
        return total

    def _scores(self, x: list[Tensor]) -> list[Tensor]:
        row = lambda i: sum(self.factor[i][j] * x[j] for j in range(i + 1))
        return [self.mean[i] + row(i) for i in range(len(x))]

    def _down(self, column: Tensor) -> Tensor:
        """(count) -> (count, 1, ...), to stand before the points' dimensions."""
        return column.view(-1, *[1] * self.like.dim())

    @torch.no_grad()
    def _place(self) -> None:
        """Mean and Cholesky factor of the integrand, from two coarse passes."""
        dim = len(self.plan.hidden)
        one, zero = torch.ones_like(self.like), torch.zeros_like(self.like)
        self.mean = [zero] * dim
        self._set_factor([[one if i == j else zero for j in range(i + 1)] for i in range(dim)])
        nodes, log_weight, step = cloud(dim, False, self.like)
        x = [self._down(column) for column in nodes.unbind(-1)]
        for _ in range(_PASSES):
            weight = (self._log_value(x) + self._down(log_weight)).softmax(0)
            scores = self._scores(x)
            mean = [(weight * score).sum(0) for score in scores]
            away = [score - middle for score, middle in zip(scores, mean, strict=True)]
            # what lies between two nodes is not seen: the next pass stays at least half a step wide
            before = [[sum(a * b for a, b in zip(row, other, strict=False)) for other in self.factor] for row in self.factor]
            floor = (step / 2) ** 2
            rows = [[(weight * away[i] * away[j]).sum(0) + floor * before[i][j] for j in range(i + 1)] for i in range(dim)]
            self.mean = mean
            self._set_factor(_cholesky(rows))

    def _set_factor(self, factor: list[list[Tensor]]) -> None:
        self.factor = factor
        self.log_scale = [torch.log(row[-1]) for row in factor]


def _cholesky(rows: list[list[Tensor]]) -> list[list[Tensor]]:
    """Cholesky factors of a few covariances at once, given and returned as the rows of the lower triangle."""
    factor: list[list[Tensor]] = []
    for i, row in enumerate(rows):
        new: list[Tensor] = []
        for j in range(i):
            new.append((row[j] - sum(new[k] * factor[j][k] for k in range(j))) / factor[j][j])
        least = 1e-3 * row[i]  # of the variance: rounding must not leave a negative one
        new.append(torch.maximum(row[i] - sum(each.square() for each in new), least).sqrt())
        factor.append(new)
    return factor


def _invert(log_table: Tensor, step: float, start: Tensor, p: Tensor) -> Tensor:
    """The y below which the tabulated density has its share p, (nodes, ...) -> (...).

    Cell masses by the cubic through four nodes (error of order step^5), the density within a cell linear.
    """
    f = torch.exp(log_table - log_table.detach().amax(0))
    trapezoid = (f[:-1] + f[1:]) / 2
    wide = torch.nn.functional.pad(f, [0, 0] * (f.dim() - 1) + [1, 1])
    bent = (wide[3:] - f[1:] - f[:-1] + wide[:-3]) / 24
    mass = torch.where(bent.abs() < trapezoid / 4, trapezoid - bent, trapezoid)
    total = mass.cumsum(0)
    shape = torch.broadcast_shapes(total.shape[1:], p.shape)
    wanted = p * total[-1]
    cell = (total.detach() < wanted.detach()).sum(0).clamp_max(len(mass) - 1)
    pick = lambda values, index: values.expand(len(values), *shape).gather(0, index.unsqueeze(0)).squeeze(0)
    before = torch.nn.functional.pad(total, [0, 0] * (total.dim() - 1) + [1, 0])
    share = ((wanted - pick(before, cell)) / pick(mass, cell)).clamp(0, 1)
    left, right = pick(f, cell), pick(f, cell + 1)
    inside = share * (left + right) / (left + torch.sqrt((1 - share) * left.square() + share * right.square()))
    return start + step * (cell + inside)
