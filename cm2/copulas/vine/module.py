"""Learnable vine copulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from cm2.config.names import choose
from cm2.containers import ModulesInOrder
from cm2.copulas.base import CopulaDistribution
from cm2.copulas.module import FAMILIES, Copula
from cm2.copulas.tails import to_unit_interval
from cm2.copulas.vine.law import VineDistribution
from cm2.copulas.vine.recursion import Recursion
from cm2.copulas.vine.structure import VineStructure
from cm2.errors import InputError


class Vine(Copula):
    r"""Learnable vine copula: a pair copula of any family on every edge of the trees.

    Args:
        dim: number of coordinates.
        structure: a `VineStructure`, an R-vine matrix (see `VineStructure.from_matrix`), or ``"d"`` or ``"c"`` for the D- or C-vine in the
            order 0, 1, ..., dim - 1.
        pair_copulas: modules of dim 2, each of the (first, second) conditioned coordinate: one list per tree, in the order of the edges in
            `structure.trees`; for the D-vine ``[[c_01, c_12, ...], [c_02|1, c_13|2, ...], ...]``. Fewer lists than trees truncate the vine.
        truncation: number of trees; pairs in later trees are conditionally independent.
        pair_family: without `pair_copulas`, the family of every pair copula; each starts near independence. Gaussian pairs give a Gaussian
            copula in another parameterisation; any other family gives a distribution outside the library's other families.

    Raises:
        ValueError: not a vine, a structure of another dim, numbers of pair copulas that do not match the trees, or one not of dim 2.

    Example:
        >>> from cm2.copulas import make
        >>> pairs = [[make("gumbel", 2, alpha=2.0), make("clayton", 2, alpha=1.0)], [make("frank", 2, alpha=1.0)]]
        >>> make("vine", 3, structure="c", pair_copulas=pairs)().rsample((5,)).shape
        torch.Size([5, 3])
    """

    name = "vine"
    like: Tensor
    selectable: ClassVar[bool] = False  # `select_vine` chooses vines
    pair: ClassVar[bool] = False
    simulated: ClassVar[bool] = False

    def __init__(
        self,
        dim: int,
        structure: VineStructure | str | Any = "d",
        pair_copulas: Sequence[Sequence[Copula]] | None = None,
        truncation: int | None = None,
        pair_family: str = "gaussian",
    ) -> None:
        super().__init__(dim)
        self.structure = _structure(dim, structure).truncate(truncation)
        if pair_copulas is None:
            family = _pair_family(pair_family)
            pair_copulas = [[family(2) for _ in tree] for tree in self.structure.trees]
        elif truncation is None and len(pair_copulas) < len(self.structure.trees):
            self.structure = self.structure.truncate(len(pair_copulas))
        _check(self.structure, pair_copulas)
        self.pair_copulas = ModulesInOrder(ModulesInOrder(tree) for tree in pair_copulas)
        # saved with the parameters, to refuse loading them into a vine with other edges
        self.register_buffer("matrix", torch.as_tensor(self.structure.matrix))
        self.register_buffer("edges", torch.tensor([(e.first, e.second) for e in self.structure.edges], dtype=torch.long).view(-1, 2))
        self.register_buffer("like", torch.zeros(()), persistent=False)

    def forward(self, validate_args: bool | None = None) -> CopulaDistribution:
        """The distribution at the current parameters."""
        laws = [copula(validate_args=False) for tree in self.pair_copulas for copula in tree]
        return VineDistribution(self.structure, laws, validate_args, self.like)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, order={list(self.structure.order)}, trees={len(self.structure.trees)}"

    def _start_at(self, u: Tensor) -> None:
        """The sequential estimate (Aas et al. 2009): each pair copula is fitted to the conditional CDFs from the previous trees."""
        points = dict(enumerate(zip(torch.log(u).unbind(-1), torch.log1p(-u).unbind(-1), strict=True)))
        laws: list[CopulaDistribution] = []
        recursion = Recursion(self.structure, laws, points)
        copulas = [copula for tree in self.pair_copulas for copula in tree]
        for edge, copula in zip(self.structure.edges, copulas, strict=True):
            given = frozenset(edge.given)
            with torch.no_grad():
                pair = [to_unit_interval(*recursion.tails(v, given)) for v in (edge.first, edge.second)]
            copula.fit(torch.stack(pair, -1), standard_errors=False)
            with torch.no_grad():
                laws.append(copula(validate_args=False))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **options: Any) -> None:
        for name, what in (("matrix", "matrix"), ("edges", "edges, in the order of the pair copulas,")):
            given, own = state_dict.get(f"{prefix}{name}"), getattr(self, name)
            if given is not None and not torch.equal(given.cpu(), own.cpu()):
                raise InputError(
                    f"the state is that of a vine with the {what} {given.tolist()}, this one has {own.tolist()}; "
                    "make it with the structure of the vine that was saved"
                )
        super()._load_from_state_dict(state_dict, prefix, *args, **options)


def _pair_family(name: str) -> type[Copula]:
    known = {name: family for name, family in FAMILIES.items() if family.pair}
    if name not in known:
        raise InputError(f"unknown pair_family {name!r}; {choose(name, sorted(known))}")
    return known[name]


def _structure(dim: int, structure: VineStructure | str | Any) -> VineStructure:
    if isinstance(structure, str):
        if structure not in ("c", "d"):
            raise InputError(f'structure is {structure!r}; give "c", "d", a VineStructure or an R-vine matrix')
        return VineStructure.c_vine(range(dim)) if structure == "c" else VineStructure.d_vine(range(dim))
    structure = structure if isinstance(structure, VineStructure) else VineStructure.from_matrix(structure)
    if structure.dim != dim:
        raise InputError(f"structure has {structure.dim} coordinates for a vine of dim {dim}")
    return structure


def _check(structure: VineStructure, pair_copulas: Sequence[Sequence[Copula]]) -> None:
    wanted, given = [len(tree) for tree in structure.trees], [len(tree) for tree in pair_copulas]
    if wanted != given:
        raise InputError(f"pair_copulas: trees of {given} copulas given, this structure has trees of {wanted} edges")
    for tree, copulas in zip(structure.trees, pair_copulas, strict=True):
        for edge, copula in zip(tree, copulas, strict=True):
            if not isinstance(copula, Copula):
                raise InputError(f"the copula of edge {edge} is a {type(copula).__name__}; give modules, as make(...) returns them")
            if copula.dim != 2:
                raise InputError(f"the copula of edge {edge} has dim {copula.dim}; pair copulas have dim 2")
