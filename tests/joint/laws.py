"""Joint laws with known parameters, shared by the tests of the joint."""

import torch

from cm2.copulas import Copula, make
from cm2.joint import LINKS, CopulaJoint
from cm2.marginals import GaussianMixture

LINK_NAMES = tuple(LINKS)
CASES = [(name, types) for name, link in LINKS.items() for types in link.types]
FAMILIES = {
    "independence": {},
    "gumbel": {"alpha": 2.5},
    "frank": {"alpha": 5.0},
    "clayton": {"alpha": 2.0},
    "joe": {"alpha": 2.0},
    "gaussian": {"rho": 0.7},
    "student": {"rho": 0.7, "nu": 5.0},
    "mixture": {},
    "vine": {},
}
POLE = ("gumbel", "clayton", "joe", "student", "mixture", "vine")  # their density has a pole at a corner


def copula(name: str, dim: int = 2) -> Copula:
    """A dependent member of the family; Gaussian and t: equal correlations; vine: pairs of several families."""
    if name in ("gaussian", "student") and dim > 2:
        others = {key: value for key, value in FAMILIES[name].items() if key != "rho"}
        return make(name, dim, correlation=0.3 * torch.eye(dim) + 0.7 * torch.ones(dim, dim), **others)
    if name == "mixture":
        return make(name, dim, copulas=[copula("gumbel", dim), copula("clayton", dim), copula("gaussian", dim)], weights=[0.4, 0.4, 0.2])
    if name == "vine":
        trees = (("gumbel", "clayton", "gaussian"), ("frank", "student"), ("clayton",))
        return make(name, dim, pair_copulas=[[copula(pair) for pair in tree[: dim - 1 - t]] for t, tree in enumerate(trees[: dim - 1])])
    return make(name, dim, **FAMILIES[name])


def mixture(dim: int, components: int = 3, seed: int = 0, spread: float = 1.5, full: bool = False) -> GaussianMixture:
    """Random means and scales, unequal weights; with full covariances random factors."""
    generator = torch.Generator().manual_seed(seed)
    weights = 0.5 + torch.rand(components, generator=generator)
    mean = spread * torch.randn(components, dim, generator=generator)
    scale = 0.5 + 0.5 * torch.rand(components, dim, generator=generator)
    if full:
        scale = torch.diag_embed(scale) + 0.4 * torch.randn(components, dim, dim, generator=generator).tril(-1)
    return GaussianMixture.from_parameters(weights / weights.sum(), mean, scale)


def joint(
    family: str, link: str, dim: int, modalities: int = 2, types: str = "independent", tie: Copula | None = None, **options
) -> CopulaJoint:
    """A joint whose modalities have different mixtures; with joint types a table far from a product; two directions, if there are."""
    marginals = [mixture(dim, seed=10 + m, **options) for m in range(modalities)]
    tie = copula(family, modalities) if tie is None else tie
    directions = min(2, dim) if link == "vector" else None
    law = CopulaJoint(tie if directions is None else tie.side_by_side(directions), marginals, link, types, directions)
    with torch.no_grad():
        if law.table is not None:
            law.table.copy_(2 * torch.randn(law.table.shape, generator=torch.Generator().manual_seed(3)))
        if law.raw_directions is not None:
            law.raw_directions.copy_(torch.randn(law.raw_directions.shape, generator=torch.Generator().manual_seed(4)))
    return law
