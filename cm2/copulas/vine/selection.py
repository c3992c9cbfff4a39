r"""Vine selection: trees and pair copula families from a sample, tree by tree.

Dissmann, Brechmann, Czado, Kurowicka 2013, algorithm 3.1: each tree is the spanning tree with the largest sum of :math:`|\hat\tau|` over
its edges among those that the proximity condition admits; then its pair copulas are selected and fitted, and their conditional CDFs are
the sample for the next tree.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.families.rotated import Rotated
from cm2.copulas.inference.estimation import Fit, check_sample
from cm2.copulas.inference.selection import candidates, check_choice, fit_best_pair, rotated, selectable
from cm2.copulas.module import FAMILIES, Copula
from cm2.copulas.sample_dependence import kendall_terms, pairs_of
from cm2.copulas.tails import to_unit_interval
from cm2.copulas.vine.module import Vine
from cm2.copulas.vine.recursion import Recursion
from cm2.copulas.vine.report import VinePair, VineSelection
from cm2.copulas.vine.structure import Edge, VineStructure
from cm2.errors import InputError

_LEAST_SHARE = 10  # points, in the part fitted and in the part held out
Chooser = Callable[[Edge, Tensor], tuple[Copula, Fit]]
Trees = tuple[tuple[Edge, ...], ...]
Node = tuple[frozenset[int], frozenset[frozenset[int]]]
"""A set of coordinates, and the two nodes of the previous tree that it connects (none in the first tree)."""


def select_vine(
    u: Tensor,
    families: Sequence[str | Copula] | None = None,
    *,
    structure: VineStructure | str | Any | None = None,
    truncation: int | None = None,
    criterion: str = "bic",
    validation_share: float = 0.2,
    seed: int = 0,
) -> VineSelection:
    r"""Selects the trees of a vine and the families of its pair copulas, and fits it tree by tree by maximum likelihood.

    The sequential estimate is consistent, and the usual start of a joint maximisation (Hobæk Haff 2013), for which call ``vine.fit(u)``.
    Families restricted to positive dependence are tried in the rotations compatible with the sign of Kendall's tau.

    "held_out": each family is fitted to one part of the points and compared by its log density at the others, through all trees; then the
    selected ones are fitted to all points. The trees are selected with all points.

    Args:
        u: sample of uniforms, (n, dim), in (0, 1); for data use `pseudo_observations`.
        families: names from `cm2.copulas.inference.selection.selectable()`, by default all; or modules of dim 2, for example mixtures, of
            which copies are fitted. With "independence" among them an edge may have no parameter.
        structure: fixed trees, of which only the families are selected, as for `Vine`: a `VineStructure`, an R-vine matrix, "c" or "d".
        truncation: number of trees; pairs in later trees are conditionally independent.
        criterion: "bic", "aic" or "held_out", edge by edge.
        validation_share: fraction of the points that are held out; for "held_out" only.
        seed: seed of their choice; for "held_out" only.

    Returns:
        The fitted vine, of u's dtype and on its device, and a report on every edge.

    Raises:
        ValueError: unknown family or criterion; a sample with too few rows, NaN, values outside (0, 1), a constant column, or one that
            another determines; a structure or truncation that `Vine` refuses; a share that leaves fewer than 10 points in either part.
    """
    names = list(selectable()) if families is None else list(families)
    _check_candidates(names, criterion)
    sample = check_sample(u, None, 2)
    _refuse_copies(sample)
    dim = sample.shape[1]
    given = None if structure is None else Vine(dim, structure, truncation=truncation).structure
    wanted = given.trees if given else len(VineStructure.d_vine(range(dim), truncation).trees)
    if criterion != "held_out":
        trees, fitted = _grow(sample, wanted, lambda edge, pair: fit_best_pair(pair, names, criterion))
        held_out = math.nan
    else:
        seen = _seen(len(sample), validation_share, seed).to(u.device)
        trees, trial = _grow(sample, wanted, lambda edge, pair: _best_unseen(pair, names, seen))
        held_out = sum(each.log_density[~seen].mean().item() for each in trial.values())
        trees, fitted = _grow(sample, trees, lambda edge, pair: _fit(trial[edge].copula, pair))
    vine = Vine(dim, given or VineStructure(dim, trees), [[fitted[edge].copula for edge in tree] for tree in trees]).to(u)
    pairs = tuple(fitted[edge].record(t, edge) for t, tree in enumerate(trees) for edge in tree)
    return VineSelection(vine, pairs, criterion, len(sample), held_out)


@dataclass(frozen=True)
class _Fitted:
    """The pair copula of an edge, the report of its fit, and its log density at all points, (n,)."""

    copula: Copula
    report: Fit
    log_density: Tensor

    def record(self, tree: int, edge: Edge) -> VinePair:
        inside, rotation = (self.copula.copula, self.copula.rotation) if isinstance(self.copula, Rotated) else (self.copula, 0)
        tau = self.copula(validate_args=False).kendall_tau.item()
        # evaluated at the tails of the conditional CDFs; the fit's own value is that at the nearest floats
        total = self.log_density.sum().item()
        return VinePair(tree, edge, inside.name, rotation, self.report.parameters, tau, total, self.report.n_parameters)


class _Growing(Recursion):
    """Conditional CDFs of a sample for the trees selected so far."""

    def __init__(self, u: Tensor) -> None:
        self.known = {(v, frozenset()): (torch.log(column), torch.log1p(-column)) for v, column in enumerate(u.unbind(-1))}
        self.standing: dict[frozenset[int], tuple[Edge, CopulaDistribution]] = {}

    def add(self, edge: Edge, copula: Copula) -> None:
        self.standing[edge.union] = (edge, copula(validate_args=False))

    def sample(self, edge: Edge) -> Tensor:
        """The two conditional CDFs that an edge connects, (n, 2), with contiguous columns."""
        given = frozenset(edge.given)
        return torch.stack([to_unit_interval(*self.tails(v, given)) for v in (edge.first, edge.second)]).movedim(0, -1)

    def _edge(self, union: frozenset[int]) -> tuple[Edge, CopulaDistribution]:
        return self.standing[union]


@torch.no_grad()
def _grow(u: Tensor, wanted: int | Trees, choose: Chooser) -> tuple[Trees, dict[Edge, _Fitted]]:
    """Builds the vine tree by tree: edges (those of strongest dependence if only the number of trees is given), then pair copulas."""
    points = _Growing(u)
    trees: list[tuple[Edge, ...]] = []
    fitted: dict[Edge, _Fitted] = {}
    nodes: list[Node] = [(frozenset((v,)), frozenset()) for v in range(u.shape[1])]
    for t in range(wanted if isinstance(wanted, int) else len(wanted)):
        trees.append(_dissmann(points, nodes) if isinstance(wanted, int) else wanted[t])
        for edge in trees[-1]:
            with torch.enable_grad():
                copula, report = choose(edge, points.sample(edge))
            points.add(edge, copula)
            fitted[edge] = _Fitted(copula, report, points.log_density(edge))
        nodes = [(edge.union, frozenset(frozenset((v, *edge.given)) for v in (edge.first, edge.second))) for edge in trees[-1]]
    return tuple(trees), fitted


def _dissmann(points: _Growing, nodes: list[Node]) -> tuple[Edge, ...]:
    """The next tree over `nodes`: a maximum spanning tree for |τ|."""
    allowed = {}
    for j, (second, below_second) in enumerate(nodes):
        for i, (first, below_first) in enumerate(nodes[:j]):
            if not below_first or below_first & below_second:  # proximity condition: as edges they share a node
                a, b = sorted(first ^ second)
                allowed[i, j] = Edge(a, b, tuple(sorted(first & second)))
    weights = {place: kendall_terms(points.sample(edge)).mean().abs().item() for place, edge in allowed.items()}
    tree = [allowed[place] for place in maximum_spanning_tree(len(nodes), weights)]
    return tuple(sorted(tree, key=lambda edge: (edge.first, edge.second)))


def maximum_spanning_tree(count: int, weights: dict[tuple[int, int], float]) -> list[tuple[int, int]]:
    """Maximum spanning tree by Prim's algorithm (1957) of a connected graph with nodes 0, ..., count - 1 and weighted edges."""
    tree, reached = [], {0}
    while len(reached) < count:
        ahead = [edge for edge in weights if (edge[0] in reached) != (edge[1] in reached)]
        tree.append(max(ahead, key=weights.__getitem__))
        reached |= set(tree[-1])
    return tree


def _seen(n: int, share: float, seed: int) -> Tensor:
    """Mask of the points to which families are fitted, bool (n,)."""
    unseen = round(share * n) if 0 < share < 1 else 0
    if not _LEAST_SHARE <= unseen <= n - _LEAST_SHARE:
        raise InputError(f"validation_share is {share:g} of {n} points; it must leave at least {_LEAST_SHARE} points on either side")
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed)) >= unseen


def _best_unseen(pair: Tensor, names: Sequence[str | Copula], seen: Tensor) -> tuple[Copula, Fit]:
    """The family that, fitted to the points in `seen`, has the highest log density at the others."""
    found = []
    for family, rotation in candidates(pair[seen], names, True):
        copula = family if isinstance(family, Copula) else rotated(FAMILIES[family](2), rotation)
        copula, report = _fit(copula, pair[seen])
        with torch.no_grad():
            found.append((copula(validate_args=False).log_prob(pair[~seen]).sum().item(), copula, report))
    return max(found, key=lambda each: each[0])[1:]


def _fit(copula: Copula, pair: Tensor) -> tuple[Copula, Fit]:
    """Fits a copy; returns it and its report."""
    copula = copy.deepcopy(copula).to(pair)
    return copula, copula.fit(pair, standard_errors=False)


def _check_candidates(names: Sequence[str | Copula], criterion: str) -> None:
    check_choice(names, criterion)
    for each in names:
        if isinstance(each, Copula) and each.dim != 2:
            raise InputError(f"families holds a {each.name} copula of dim {each.dim}; pair copulas have dim 2")


def _refuse_copies(u: Tensor) -> None:
    """Raises ValueError if two columns order the points equally or oppositely: given one of them the other has no density."""
    rank = u.argsort(dim=0, stable=True).argsort(0)
    for i, j in pairs_of(u.shape[1]):
        if torch.equal(rank[:, i], rank[:, j]) or torch.equal(rank[:, i], len(u) - 1 - rank[:, j]):
            raise InputError(f"columns {i} and {j} of u determine each other (Kendall's tau is 1 or -1); leave one of them out")
