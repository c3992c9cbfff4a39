"""Copulas: learnable modules whose call returns a law on the unit cube.

>>> from cm2.copulas import make
>>> law = make("gumbel", dim=2, alpha=2.0)()
>>> round(law.kendall_tau.item(), 3)
0.5
"""

import inspect
from typing import Any

from torch import Tensor

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.clayton import Clayton, ClaytonDistribution
from cm2.copulas.estimation import Fit, pseudo_observations
from cm2.copulas.frank import Frank, FrankDistribution
from cm2.copulas.gaussian import Gaussian, GaussianDistribution
from cm2.copulas.goodness_of_fit import GoodnessOfFit, goodness_of_fit_test
from cm2.copulas.gumbel import Gumbel, GumbelDistribution
from cm2.copulas.independence import Independence, IndependenceDistribution
from cm2.copulas.joe import Joe, JoeDistribution
from cm2.copulas.mixture import Mixture, MixtureDistribution
from cm2.copulas.module import Copula
from cm2.copulas.report import Selection
from cm2.copulas.rotated import Rotated, RotatedDistribution, check_rotation
from cm2.copulas.selection import fit_best_pair, select
from cm2.copulas.student import Student, StudentDistribution
from cm2.copulas.vine import Vine, VineDistribution, VineStructure, select_vine

_CLASSES = (Independence, Gumbel, Frank, Clayton, Joe, Gaussian, Student, Mixture, Vine)
FAMILIES: dict[str, type[Copula]] = {family.name: family for family in _CLASSES}

__all__ = [
    "FAMILIES",
    "Clayton",
    "ClaytonDistribution",
    "Copula",
    "CopulaDistribution",
    "Fit",
    "Frank",
    "FrankDistribution",
    "Gaussian",
    "GaussianDistribution",
    "GoodnessOfFit",
    "Gumbel",
    "GumbelDistribution",
    "Independence",
    "IndependenceDistribution",
    "Joe",
    "JoeDistribution",
    "Mixture",
    "MixtureDistribution",
    "Rotated",
    "RotatedDistribution",
    "Selection",
    "Student",
    "StudentDistribution",
    "Vine",
    "VineDistribution",
    "VineStructure",
    "fit_best_pair",
    "goodness_of_fit_test",
    "make",
    "pseudo_observations",
    "select",
    "select_vine",
]


def make(name: str, dim: int, *, rotation: int = 0, kendall_tau: float | Tensor | None = None, **parameters: Any) -> Copula:
    """A learnable copula by name; without parameters it starts near, not at, independence.

    Args:
        name: one of `FAMILIES`.
        dim: number of coordinates, at least 2.
        rotation: 0, 90, 180 or 270 degrees, the last three for dim 2 only; see `RotatedDistribution`.
        kendall_tau: Kendall's tau between two coordinates (of the rotated law), instead of the parameter that it determines.
        **parameters: gumbel, frank, clayton, joe: `alpha`; gaussian, student: `rho` (dim 2) or `correlation` (dim, dim); student: `nu`;
            mixture: `copulas`, a list of modules, and `weights`; vine: `structure`, `pair_copulas`, one list of modules of dim 2 per tree,
            and `truncation`, see `Vine`.

    Raises:
        ValueError: unknown name or parameter, or a value outside its range.
    """
    if name not in FAMILIES:
        raise ValueError(f"unknown copula {name!r}; choose one of {', '.join(sorted(FAMILIES))}")
    family = FAMILIES[name]
    known = [key for key in inspect.signature(family).parameters if key != "dim"]
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ValueError(f"the {name} copula has no parameter {unknown[0]!r}; it takes {', '.join(known) or 'none'}")
    if rotation:
        check_rotation(rotation, dim)
        inner = -kendall_tau if kendall_tau is not None and rotation != 180 else kendall_tau
        return Rotated(make(name, dim, kendall_tau=inner, **parameters), rotation)
    if kendall_tau is not None:
        implied = family.from_kendall_tau(kendall_tau, dim)
        twice = sorted(set(implied) & set(parameters))
        if twice:
            raise ValueError(f"both kendall_tau and {twice[0]} are given, and each determines the other; give one of them")
        parameters |= implied
    return family(dim, **parameters)
