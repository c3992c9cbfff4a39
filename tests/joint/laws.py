"""Joint laws with known parameters, shared by the tests of the joint."""

import torch

from cm2.copulas import Copula, make
from cm2.joint import CopulaJoint
from cm2.marginals import GaussianMixture

LINK_NAMES = ("component", "scalar", "dimension")
FAMILIES = {
    "independence": {},
    "gumbel": {"alpha": 2.5},
    "frank": {"alpha": 5.0},
    "clayton": {"alpha": 2.0},
    "gaussian": {"rho": 0.7},
}


def copula(name: str, dim: int = 2) -> Copula:
    """A dependent member of the family; Gaussian: equal correlations."""
    if name == "gaussian" and dim > 2:
        return make(name, dim, correlation=0.3 * torch.eye(dim) + 0.7 * torch.ones(dim, dim))
    return make(name, dim, **FAMILIES[name])


def mixture(dim: int, components: int = 3, seed: int = 0, spread: float = 1.5) -> GaussianMixture:
    """Random means and scales, unequal weights."""
    generator = torch.Generator().manual_seed(seed)
    weights = 0.5 + torch.rand(components, generator=generator)
    mean = spread * torch.randn(components, dim, generator=generator)
    scale = 0.5 + 0.5 * torch.rand(components, dim, generator=generator)
    return GaussianMixture.from_parameters(weights / weights.sum(), mean, scale)


def joint(family: str, link: str, dim: int, modalities: int = 2, types: str = "independent", **options) -> CopulaJoint:
    """A joint whose modalities have different mixtures; with joint types a table far from a product."""
    marginals = [mixture(dim, seed=10 + m, **options) for m in range(modalities)]
    law = CopulaJoint(copula(family, modalities), marginals, link, types)
    if types == "joint":
        with torch.no_grad():
            law.table.copy_(2 * torch.randn(law.table.shape, generator=torch.Generator().manual_seed(3)))
    return law
