r"""Conditional CDFs along a vine, evaluated lazily and at most once.

For an edge :math:`(a, b \mid D)` with pair copula :math:`C_{ab|D}` (Joe 1996; Aas, Czado, Frigessi, Bakken 2009, eq. 8)

.. math:: F(u_a \mid u_b, u_D) = h_{a|b;D}\{F(u_a \mid u_D), F(u_b \mid u_D)\}, \qquad h = \partial C_{ab|D} / \partial u_b .
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.tails import Tails
from cm2.copulas.vine.structure import Edge, VineStructure


class Recursion:
    """Conditional CDFs at fixed points, as tails.

    Args:
        structure: the trees.
        laws: the pair copulas, one for every edge of `structure.edges`.
        points: tails (...) of the coordinates known from the start; their shapes need only broadcast, so that a value shared by all draws
            is computed once.
    """

    def __init__(self, structure: VineStructure, laws: Sequence[CopulaDistribution], points: dict[int, Tails]) -> None:
        self.structure, self.laws = structure, laws
        self.known: dict[tuple[int, frozenset[int]], Tails] = {(v, frozenset()): tails for v, tails in points.items()}

    def tails(self, v: int, given: frozenset[int] = frozenset()) -> Tails:
        """Tails of F(u_v | u_given); `given` is empty, or with v the set of coordinates of an edge in which v is conditioned."""
        key = (v, given)
        if key not in self.known:
            edge, law = self._edge(given | {v})
            partner = edge.partner(v)
            rest = given - {partner}
            self.known[key] = _turned(law, edge, v).h_tails(*_pair(self.tails(v, rest), self.tails(partner, rest)))
        return self.known[key]

    def log_density(self, edge: Edge) -> Tensor:
        """Log density of an edge's pair copula at its two conditional CDFs."""
        given = frozenset(edge.given)
        _, law = self._edge(edge.union)
        return law.log_prob_tails(*_pair(self.tails(edge.first, given), self.tails(edge.second, given)))

    def draw(self, v: int, column: Sequence[Edge], level: Tails) -> None:
        """Draws v: sets it to its quantile at `level` given the coordinates of its column (see `VineStructure.columns`)."""
        for edge in reversed(column):
            partner, given = edge.partner(v), frozenset(edge.given)
            self.known[v, given | {partner}] = level
            level = _turned(self._edge(edge.union)[1], edge, v).h_inverse_tails(*_broadcast(level, self.tails(partner, given)))
        self.known[v, frozenset()] = level

    def level(self, v: int, column: Sequence[Edge]) -> Tails:
        """Tails of F(u_v | the coordinates of its column): the Rosenblatt transform."""
        return self.tails(v, column[-1].union - {v} if column else frozenset())

    def _edge(self, union: frozenset[int]) -> tuple[Edge, CopulaDistribution]:
        position = self.structure.by_union[union]
        return self.structure.edges[position], self.laws[position]


def _turned(law: CopulaDistribution, edge: Edge, v: int) -> CopulaDistribution:
    """The pair copula with v as its first coordinate."""
    return law if v == edge.first else law.flipped


def _broadcast(first: Tails, second: Tails) -> tuple[Tails, Tails]:
    low, high, low2, high2 = torch.broadcast_tensors(*first, *second)
    return (low, high), (low2, high2)


def _pair(first: Tails, second: Tails) -> Tails:
    """Stacks the tails of two coordinates, (..., 2), with each column contiguous in memory."""
    first, second = _broadcast(first, second)
    low, high = (torch.stack(tails).movedim(0, -1) for tails in zip(first, second, strict=True))
    return low, high
