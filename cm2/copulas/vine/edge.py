"""Edges of a vine's trees, and the check that trees form a regular vine (Bedford and Cooke 2002)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cm2.errors import InputError


@dataclass(frozen=True)
class Edge:
    """An edge (first, second | given) of a vine.

    Args:
        first: the first conditioned coordinate.
        second: the second conditioned coordinate.
        given: the conditioning set, sorted.
    """

    first: int
    second: int
    given: tuple[int, ...] = ()

    @cached_property
    def union(self) -> frozenset[int]:
        """All coordinates of the edge."""
        return frozenset((self.first, self.second, *self.given))

    def partner(self, coordinate: int) -> int:
        """The other conditioned coordinate."""
        return self.second if coordinate == self.first else self.first

    def __str__(self) -> str:
        pair = f"{self.first}, {self.second}"
        return f"({pair} | {', '.join(map(str, self.given))})" if self.given else f"({pair})"


def as_edge(value: Any) -> Edge:
    """Converts a pair or triple to an `Edge`.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, Edge):
        return Edge(value.first, value.second, tuple(sorted(value.given)))
    try:
        first, second, given = value if len(value) == 3 else (*value, ())
        return Edge(int(first), int(second), tuple(sorted(int(v) for v in given)))
    except (TypeError, ValueError):
        raise InputError(f"an edge is {value!r}; give (a, b, conditioning set)") from None


def check_trees(dim: int, trees: tuple[tuple[Edge, ...], ...]) -> None:
    """Raises ValueError for trees that are not a regular vine of `dim` coordinates; the message names the first edge at fault."""
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 2:
        raise InputError(f"dim is {dim!r}; a vine needs an integer dim of at least 2")
    if len(trees) > dim - 1:
        raise InputError(f"{len(trees)} trees given; a vine of {dim} coordinates has at most {dim - 1}")
    below: dict[frozenset[int], Edge | None] = {frozenset((v,)): None for v in range(dim)}
    for t, tree in enumerate(trees):
        if len(tree) != dim - 1 - t:
            raise InputError(f"tree {t} has {len(tree)} edges; tree {t} of a vine of {dim} coordinates has {dim - 1 - t}")
        part = {node: node for node in below}  # union-find over the nodes: an edge within one component would close a cycle
        for edge in tree:
            _check_edge(edge, t, dim, below)
            ends = [_root(part, frozenset((v, *edge.given))) for v in (edge.first, edge.second)]
            if ends[0] == ends[1]:
                raise InputError(f"edge {edge} closes a cycle in tree {t}; the edges of a tree must join all its nodes without one")
            part[ends[0]] = ends[1]
        below = {edge.union: edge for edge in tree}


def _check_edge(edge: Edge, tree: int, dim: int, below: dict[frozenset[int], Edge | None]) -> None:
    """Checks the proximity condition: an edge connects two edges of the previous tree that share a node."""
    if len(edge.union) != tree + 2 or len(edge.given) != tree or not edge.union <= set(range(dim)):
        wanted = f"{tree + 2} different coordinates of 0 to {dim - 1}, {tree} of them conditioning"
        raise InputError(f"edge {edge} in tree {tree}: give {wanted}")
    if tree == 0:
        return
    for v in (edge.first, edge.second):
        node = frozenset((v, *edge.given))
        parent = below.get(node)
        if parent is None or v in parent.given:
            why = (
                f"has no edge of the coordinates {sorted(node)}" if parent is None else f"has {v} as a conditioning coordinate of {parent}"
            )
            raise InputError(f"edge {edge} of tree {tree} violates the proximity condition: tree {tree - 1} {why}")


def _root(part: dict[frozenset[int], frozenset[int]], node: frozenset[int]) -> frozenset[int]:
    while part[node] != node:
        node = part[node]
    return node
