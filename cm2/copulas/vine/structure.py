r"""Structure of a regular vine: its trees and sampling order, independent of any pair copulas.

Conventions. Coordinates are counted from 0. An edge :math:`(a, b \mid D)` of tree :math:`t = |D|` (the first tree is number 0) has the
copula of :math:`(F(u_a \mid u_D), F(u_b \mid u_D))`, with a first. A *sampling order* lists the coordinates as they are drawn: the
conditional distribution of each given all those before it follows from the pair copulas without integration. A structure has
:math:`2^{d-1}` sampling orders (more if truncated), one of which it stores.

Matrices follow pyvinecopulib and rvinecopulib, where coordinates are counted from 1: column e has the coordinate a on the
counter-diagonal, :math:`M_{d-1-e,e}`, and its edge in tree t is :math:`(a, M_{t,e} \mid M_{t-1,e}, \ldots, M_{0,e})`. Read from left
to right the counter-diagonal is the reversed order. Turned upside down it is the lower triangular matrix of Dissmann et al. 2013.

Sources: Bedford and Cooke 2002; Dissmann, Brechmann, Czado, Kurowicka 2013; Czado, *Analyzing Dependent Data with Vine Copulas* (2019).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cm2.copulas.vine.edge import Edge, as_edge, check_trees
from cm2.errors import InputError


@dataclass(frozen=True, init=False)
class VineStructure:
    """A regular vine, possibly truncated: its trees and a sampling order. Immutable.

    Args:
        dim: number of coordinates, at least 2.
        trees: from the first tree on, the edges of each as `Edge` or as triples (a, b, conditioning set); tree t has dim - 1 - t
            edges. Fewer than dim - 1 trees: truncated, pairs in later trees are conditionally independent.
        order: coordinates in the order in which they are drawn; by default the first conditioned coordinate of each edge is drawn after
            the second if possible.

    Raises:
        ValueError: not a vine; the message names the first edge at fault, or the first coordinate at fault in the order.

    Example:
        >>> VineStructure(3, [[(0, 1, []), (1, 2, [])], [(0, 2, [1])]]).order
        (2, 1, 0)
    """

    dim: int
    trees: tuple[tuple[Edge, ...], ...]
    order: tuple[int, ...]

    def __init__(self, dim: int, trees: Iterable[Iterable[Any]], order: Sequence[int] | None = None) -> None:
        edges = tuple(tuple(as_edge(each) for each in tree) for tree in trees)
        set_field = lambda name, value: object.__setattr__(self, name, value)
        set_field("dim", dim)
        set_field("trees", edges)
        check_trees(dim, edges)
        set_field("order", self._default_order() if order is None else tuple(int(v) for v in order))
        if order is not None:
            self._check_order()

    # other constructors

    @classmethod
    def c_vine(cls, order: Sequence[int], truncation: int | None = None) -> VineStructure:
        """The C-vine whose tree t is a star around order[t], with edges (order[t], order[k] | order[:t]) for k = t + 1, t + 2, ...

        Args:
            order: the coordinates 0, ..., dim - 1, the root of the first tree first; also the sampling order.
            truncation: number of trees.

        Raises:
            ValueError: not a permutation, or a truncation outside [0, dim - 1].
        """
        order = _permutation(order)
        trees = [[Edge(root, v, tuple(sorted(order[:t]))) for v in order[t + 1 :]] for t, root in enumerate(order[:-1])]
        return cls(len(order), trees, order).truncate(truncation)

    @classmethod
    def d_vine(cls, order: Sequence[int], truncation: int | None = None) -> VineStructure:
        """The D-vine whose first tree is the path order[0] - order[1] - ...; arguments and errors as for `c_vine`.

        The edges of tree t are (order[k], order[k + t + 1] | order[k + 1 : k + t + 1]) for k = 0, 1, ...
        """
        order = _permutation(order)
        dim = len(order)
        trees = [
            [Edge(order[k], order[k + t + 1], tuple(sorted(order[k + 1 : k + t + 1]))) for k in range(dim - 1 - t)] for t in range(dim - 1)
        ]
        return cls(dim, trees, order).truncate(truncation)

    @classmethod
    def from_matrix(cls, matrix: Any) -> VineStructure:
        """From an R-vine matrix (see the module's docstring; counted from 1, zeros after truncation and in the lower right triangle).

        Raises:
            ValueError: not an R-vine matrix in this form, or not a vine.
        """
        matrix = np.asarray(matrix)
        dim = len(matrix)
        if matrix.shape != (dim, dim) or dim < 2 or not np.issubdtype(matrix.dtype, np.number) or (matrix != np.rint(matrix)).any():
            raise InputError(f"matrix has shape {matrix.shape} and dtype {matrix.dtype}; an R-vine matrix is square, of whole numbers")
        matrix = matrix.astype(int)
        diagonal = [int(matrix[dim - 1 - e, e]) for e in range(dim)]
        if sorted(diagonal) != list(range(1, dim + 1)):
            raise InputError(f"matrix: the counter-diagonal is {diagonal}; it must hold 1 to {dim}, each once (counted from 1)")
        if any(matrix[i, e] for e in range(dim) for i in range(dim - e, dim)):
            raise InputError("matrix: the lower right triangle must be zero; a lower triangular matrix has to be turned upside down")
        levels = next((t for t in range(dim - 1) if not matrix[t, : dim - 1 - t].all()), dim - 1)
        if any(matrix[t, e] for t in range(levels, dim - 1) for e in range(dim - 1 - t)):
            raise InputError(f"matrix: row {levels} holds a zero, so all rows from there to the counter-diagonal must be zero (truncation)")
        column = lambda e, t: Edge(diagonal[e] - 1, int(matrix[t, e]) - 1, tuple(sorted(int(v) - 1 for v in matrix[:t, e])))
        trees = [[column(e, t) for e in range(dim - 1 - t)] for t in range(levels)]
        return cls(dim, trees, [v - 1 for v in reversed(diagonal)])

    @property
    def matrix(self) -> np.ndarray:
        """The R-vine matrix of the trees and the order (see the module's docstring), (dim, dim) int, counted from 1."""
        matrix = np.zeros((self.dim, self.dim), dtype=int)
        for e, v in enumerate(reversed(self.order)):
            matrix[self.dim - 1 - e, e] = v + 1
            for t, edge in enumerate(self.columns[v]):
                matrix[t, e] = edge.partner(v) + 1
        return matrix

    def truncate(self, truncation: int | None) -> VineStructure:
        """The structure of the first trees only (None: all of them).

        Raises:
            ValueError: a truncation outside [0, dim - 1].
        """
        if truncation is not None and not 0 <= truncation <= self.dim - 1:
            raise InputError(f"truncation is {truncation}; a vine of {self.dim} coordinates has 0 to {self.dim - 1} trees")
        return self if truncation is None else VineStructure(self.dim, self.trees[:truncation], self.order)

    # queries

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The edges of all trees, beginning with the first tree."""
        return tuple(edge for tree in self.trees for edge in tree)

    @cached_property
    def by_union(self) -> dict[frozenset[int], int]:
        """Position in `edges` by the set of all coordinates of an edge, which is unique."""
        return {edge.union: i for i, edge in enumerate(self.edges)}

    @cached_property
    def columns(self) -> dict[int, tuple[Edge, ...]]:
        """For each coordinate its edges with those before it in the order, from the first tree on; they determine its draw."""
        return self.columns_of(self.order)

    def columns_of(self, order: Sequence[int]) -> dict[int, tuple[Edge, ...]]:
        """`columns` for another order, of all coordinates or of a set that can be drawn first (see `order_from`)."""
        before: set[int] = set()
        columns = {}
        for v in order:
            before.add(v)
            columns[v] = tuple(e for e in self.edges if v in (e.first, e.second) and e.union <= before)
        return columns

    def removable(self, kept: frozenset[int]) -> list[int]:
        """Coordinates of `kept` that can be drawn last: the common leaves of its trees; `kept` must be a set that can be drawn first."""
        inside = [e for e in self.edges if e.union <= kept]
        found = []
        for v in sorted(kept):
            touching = [e for e in inside if v in e.union]
            if len({len(e.given) for e in touching}) == len(touching) and all(v not in e.given for e in touching):
                found.append(v)
        return found

    def reduce(self, present: Iterable[int]) -> frozenset[int]:
        """The smallest set with all of `present` that can be drawn first; all other coordinates drop out of the density.

        Leaves remain leaves when others are removed, so that the result does not depend on the order of removal.
        """
        wanted, kept = frozenset(present), frozenset(range(self.dim))
        while spare := [v for v in self.removable(kept) if v not in wanted]:
            kept -= {max(spare, key=self.order.index)}
        return kept

    def order_from(self, given: Iterable[int]) -> tuple[int, ...] | None:
        """A sampling order that begins with the coordinates `given`, or None if conditioning on them needs numerical integration."""
        given = frozenset(given)
        return self.order_after(given) if self.reduce(given) == given else None

    def order_after(self, first: frozenset[int]) -> tuple[int, ...]:
        """`order_from` for a set that can be drawn first, such as those `reduce` returns."""
        kept = frozenset(range(self.dim))
        order: list[int] = []
        for wanted in (first, frozenset()):
            while kept != wanted:
                order.append(max((v for v in self.removable(kept) if v not in wanted), key=self.order.index))
                kept -= {order[-1]}
        return tuple(reversed(order))

    def margin(self, kept: Iterable[int]) -> tuple[VineStructure, tuple[int, ...]]:
        """The vine of a set that can be drawn first, with its coordinates renumbered 0, 1, ... in increasing order.

        Args:
            kept: two or more coordinates.

        Returns:
            The structure, and the positions of its edges in `edges`.

        Raises:
            ValueError: the set cannot be drawn first (see `reduce`).
        """
        kept = frozenset(kept)
        if self.reduce(kept) != kept:
            raise InputError(f"the coordinates {sorted(kept)} cannot be drawn first; the smallest such set is {sorted(self.reduce(kept))}")
        name = {v: i for i, v in enumerate(sorted(kept))}
        chosen = tuple(i for i, e in enumerate(self.edges) if e.union <= kept)
        renamed = [Edge(name[e.first], name[e.second], tuple(name[v] for v in e.given)) for e in (self.edges[i] for i in chosen)]
        trees = [[e for e in renamed if len(e.given) == t] for t in range(min(len(self.trees), len(kept) - 1))]
        order = self.order_after(kept)[: len(kept)]
        return VineStructure(len(kept), trees, [name[v] for v in order]), chosen

    def _default_order(self) -> tuple[int, ...]:
        kept, order = frozenset(range(self.dim)), []
        while kept:
            leaves = self.removable(kept)
            firsts = [e.first for e in reversed(self.edges) if e.union <= kept and e.first in leaves]
            order.append(firsts[0] if firsts else leaves[0])
            kept -= {order[-1]}
        return tuple(reversed(order))

    def _check_order(self) -> None:
        if sorted(self.order) != list(range(self.dim)):
            raise InputError(f"order is {list(self.order)}; give the coordinates 0 to {self.dim - 1}, each once")
        kept = frozenset(self.order)
        for v in reversed(self.order):
            if v not in (leaves := self.removable(kept)):
                raise InputError(f"order {list(self.order)}: {v} cannot be drawn last of {sorted(kept)} in these trees; {leaves} can")
            kept -= {v}


def _permutation(order: Sequence[int]) -> tuple[int, ...]:
    order = tuple(int(v) for v in order)
    if sorted(order) != list(range(len(order))):
        raise InputError(f"order is {list(order)}; give the coordinates 0 to {len(order) - 1}, each once")
    return order
