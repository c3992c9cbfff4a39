r"""The distribution of the simulator: three embeddings of d coordinates, Gaussian mixtures tied by a known copula.

Each modality has K types whose means are :math:`\ge` ``SEPARATION`` apart (standard deviations are 0.8 to 1.2): the type can be read off an
embedding. The distribution depends only on the arguments of ``make_law``: cohorts with different seeds are samples of the same one.

Observations and outcomes depend on an embedding through its **factors** x_m = standardised Q_m (z_m - E z_m), with Q_m orthogonal. The
first row of Q_m is (1, ..., 1)/sqrt(d): with all three links the copula ties these *severities* x_m0 between modalities. The next K - 1
factors span the plane of the types.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.linalg import helmert

from cm2.config.names import choose
from cm2.copulas import FAMILIES, Copula, make
from cm2.errors import InputError
from cm2.joint import CopulaJoint
from cm2.marginals import GaussianMixture

MODALITIES = ("series", "image", "note")
TYPES = 3
SEPARATION = 6.0
WEIGHTS = ((0.5, 0.3, 0.2), (0.45, 0.35, 0.2), (0.4, 0.35, 0.25))
SEVERITY_OF_TYPE = (-0.5, 0.1, 0.9)
LAW_SEED = 20251103
PARAMETERS = {"alpha": 2.5, "rho": 0.5}
"""The simulator's defaults; other parameters have those of the family."""


@dataclass(frozen=True)
class Law:
    """The joint distribution, and the factors on which observations and outcomes depend.

    Args:
        joint: distribution of the M embeddings, float64.
        rotation: Q, ``(M, d, d)``.
        centre: E z, ``(M, d)``.
        spread: standard deviation of each factor, ``(M, d)``.
    """

    joint: CopulaJoint
    rotation: np.ndarray
    centre: np.ndarray
    spread: np.ndarray

    def draw(self, n: int, seed: int) -> np.ndarray:
        """n draws ``(n, M, d)``; the same seed gives the same draws, and torch's global generator is not advanced."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            blocks = [self.joint().sample((min(n - start, 20_000),)) for start in range(0, n, 20_000)]
        return torch.cat(blocks).numpy()

    def factors(self, z: np.ndarray) -> np.ndarray:
        """Embeddings ``(n, M, d)`` to standardised factors ``(n, M, d)``; column 0 is the modality's severity."""
        return np.einsum("mij,nmj->nmi", self.rotation, z - self.centre) / self.spread

    def types(self, z: np.ndarray) -> np.ndarray:
        """Most probable type of each embedding ``(n, M)``, by the modality's own mixture."""
        with torch.no_grad():
            posteriors = [
                mixture().component_log_prob(torch.from_numpy(z[:, m])) + mixture().log_weights
                for m, mixture in enumerate(self.joint.marginals)
            ]
        return torch.stack(posteriors, dim=1).argmax(-1).numpy().astype(np.int8)


def make_law(
    family: str = "gumbel",
    alpha: float | None = None,
    rho: float | None = None,
    nu: float | None = None,
    dim: int = 8,
    link: str = "component",
) -> Law:
    """The distribution of the simulator.

    Args:
        family: copula family, one of `simulated_families`.
        alpha: parameter of the Archimedean families; default 2.5.
        rho: correlation between any two modalities in an elliptical family, above -1/2, since there are three; default 0.5.
        nu: degrees of freedom of ``student``; by default that family's own.
        dim: coordinates d of an embedding, at least 2.
        link: ``component``, ``scalar`` or ``dimension``, see ``cm2.joint``.

    Raises:
        ValueError: an unknown family or link, a parameter that the family does not have, or one outside its range.
    """
    if dim < 2:
        raise InputError(f"dim: got {dim}; an embedding of the simulator has at least 2 coordinates")
    parameters = copula_parameters(family, alpha, rho, nu)
    rng = np.random.default_rng(LAW_SEED)
    modalities = len(MODALITIES)
    rotation = np.stack([_rotation(rng, dim) for _ in MODALITIES])
    weights = np.array(WEIGHTS)
    corners = _corners(dim)
    means = np.einsum("kj,mji->mki", corners, rotation)
    scales = rng.uniform(0.8, 1.2, size=(modalities, TYPES, dim))
    with torch.random.fork_rng(devices=[]):  # modules are initialised at random before their values are set
        mixtures = [GaussianMixture.from_parameters(*map(torch.from_numpy, part)) for part in zip(weights, means, scales, strict=True)]
        joint = CopulaJoint(_copula(family, parameters), mixtures, link).double()
    centre = np.einsum("mk,mki->mi", weights, means)
    deviation = np.einsum("mij,mkj->mki", rotation, means - centre[:, None])
    within = np.einsum("mij,mkj->mki", rotation**2, scales**2)
    spread = np.sqrt(np.einsum("mk,mki->mi", weights, deviation**2 + within))
    return Law(joint, rotation, centre, spread)


def simulated_families() -> list[str]:
    """Names of the copula families that a cohort can be simulated from."""
    return sorted(name for name, family in FAMILIES.items() if family.simulated and family.allows(len(MODALITIES)))


def copula_parameters(family: str, alpha: float | None = None, rho: float | None = None, nu: float | None = None) -> dict[str, float]:
    """All parameters of a family by name: those given, else the simulator's defaults, else the family's own.

    Raises:
        ValueError: an unknown family, or a parameter that the family does not have.
    """
    if family not in (known := simulated_families()):
        raise InputError(f"family: no cohort is simulated from {family!r}; {choose(family, known)}")
    own = inspect.signature(FAMILIES[family]).parameters
    takes = [name for name in own if name not in ("dim", "correlation")]  # the simulator's correlation is one number
    given = {name: value for name, value in (("alpha", alpha), ("rho", rho), ("nu", nu)) if value is not None}
    if stray := [name for name in given if name not in takes]:
        raise InputError(f"{stray[0]}: the {family} copula takes no {stray[0]}; it takes {' and '.join(takes) or 'no parameter'}")
    return {name: given.get(name, PARAMETERS.get(name, own[name].default)) for name in takes}


def _copula(family: str, parameters: Mapping[str, float]) -> Copula:
    dim, others = len(MODALITIES), dict[str, Any](parameters)
    if "rho" not in others:
        return make(family, dim, **others)
    rho = others.pop("rho")
    if not -1 / (dim - 1) < rho < 1:
        raise InputError(f"rho: got {rho}; {dim} modalities need a correlation above {-1 / (dim - 1):g} and below 1")
    return make(family, dim, correlation=torch.full((dim, dim), float(rho), dtype=torch.float64).fill_diagonal_(1.0), **others)


def _rotation(rng: np.random.Generator, dim: int) -> np.ndarray:
    turn, _ = np.linalg.qr(rng.normal(size=(dim - 1, dim - 1)))
    return np.concatenate([np.full((1, dim), dim**-0.5), turn @ helmert(dim)])


def _corners(dim: int) -> np.ndarray:
    """Means of the types in factor coordinates ``(K, d)``: a regular simplex, or a line if d is too small for one."""
    corners = np.zeros((TYPES, dim))
    corners[:, 0] = SEVERITY_OF_TYPE
    if dim - 1 >= TYPES - 1:
        corners[:, 1:TYPES] = SEPARATION / np.sqrt(2) * helmert(TYPES).T
    else:
        corners[:, 1] = SEPARATION * (np.arange(TYPES) - (TYPES - 1) / 2)
    return corners
