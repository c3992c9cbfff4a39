"""The learnable vine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.gaussian import Gaussian
from cm2.copulas.module import Copula
from cm2.copulas.vine.law import VineDistribution
from cm2.copulas.vine.structure import VineStructure


class Vine(Copula):
    r"""Learnable vine copula: one pair copula, of any family, on every edge of the trees.

    Args:
        dim: number of coordinates.
        structure: a `VineStructure`, an R-vine matrix (see `VineStructure.from_matrix`), or ``"d"`` or ``"c"`` for the D- or C-vine in the
            order 0, 1, ..., dim - 1.
        pair_copulas: modules of dim 2, each of (first, second) conditioned coordinate: one list per tree, as `structure.trees` has the
            edges. Without it Gaussian ones, which start at a correlation of 0.1 in the first tree and 0.05 in the others.
        truncation: number of trees kept; what is left out is conditional independence.

    Raises:
        ValueError: no vine, a structure of another dim, numbers of pair copulas that do not match the trees, or one that is not of dim 2.

    Example:
        >>> from cm2.copulas import make
        >>> pairs = [[make("gumbel", 2, alpha=2.0), make("clayton", 2, alpha=1.0)], [make("frank", 2, alpha=1.0)]]
        >>> make("vine", 3, structure="c", pair_copulas=pairs)().rsample((5,)).shape
        torch.Size([5, 3])
    """

    name: ClassVar[str] = "vine"

    def __init__(
        self,
        dim: int,
        structure: VineStructure | str | Any = "d",
        pair_copulas: Sequence[Sequence[Copula]] | None = None,
        truncation: int | None = None,
    ) -> None:
        super().__init__(dim)
        self.structure = _structure(dim, structure).truncate(truncation)
        if pair_copulas is None:
            pair_copulas = [[Gaussian(2, rho=0.1 if t == 0 else 0.05) for _ in tree] for t, tree in enumerate(self.structure.trees)]
        _check(self.structure, pair_copulas)
        self.pair_copulas = nn.ModuleList(nn.ModuleList(tree) for tree in pair_copulas)
        # goes with the parameters, so that they are never read as those of other edges
        self.register_buffer("matrix", torch.as_tensor(self.structure.matrix))
        self.register_buffer("like", torch.zeros(()), persistent=False)

    def forward(self, validate_args: bool | None = None) -> CopulaDistribution:
        """The law at the current parameters."""
        laws = [copula(validate_args=False) for tree in self.pair_copulas for copula in tree]
        return VineDistribution(self.structure, laws, validate_args, self.like)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, order={list(self.structure.order)}, trees={len(self.structure.trees)}"

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **options: Any) -> None:
        given = state_dict.get(f"{prefix}matrix")
        if given is not None and not torch.equal(given.cpu(), self.matrix.cpu()):
            raise ValueError(
                f"the state is that of a vine with the matrix {given.tolist()}, this one has {self.matrix.tolist()}; "
                "make it with structure=VineStructure.from_matrix(state['matrix'])"
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **options)


def _structure(dim: int, structure: VineStructure | str | Any) -> VineStructure:
    if isinstance(structure, str):
        if structure not in ("c", "d"):
            raise ValueError(f'structure is {structure!r}; give "c", "d", a VineStructure or an R-vine matrix')
        return VineStructure.c_vine(range(dim)) if structure == "c" else VineStructure.d_vine(range(dim))
    structure = structure if isinstance(structure, VineStructure) else VineStructure.from_matrix(structure)
    if structure.dim != dim:
        raise ValueError(f"structure has {structure.dim} coordinates for a vine of dim {dim}")
    return structure


def _check(structure: VineStructure, pair_copulas: Sequence[Sequence[Copula]]) -> None:
    wanted, given = [len(tree) for tree in structure.trees], [len(tree) for tree in pair_copulas]
    if wanted != given:
        raise ValueError(f"pair_copulas: trees of {given} copulas given, this structure has trees of {wanted} edges")
    for tree, copulas in zip(structure.trees, pair_copulas, strict=True):
        for edge, copula in zip(tree, copulas, strict=True):
            if copula.dim != 2:
                raise ValueError(f"the copula of edge {edge} has dim {copula.dim}; pair copulas have dim 2")
