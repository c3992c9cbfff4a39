"""Copulas as learnable modules; calling one returns a distribution on the unit cube.

>>> from cm2.copulas import make
>>> law = make("gumbel", dim=2, alpha=2.0)()
>>> round(law.kendall_tau.item(), 3)
0.5
"""

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.families.clayton import Clayton, ClaytonDistribution
from cm2.copulas.families.frank import Frank, FrankDistribution
from cm2.copulas.families.gaussian import Gaussian, GaussianDistribution
from cm2.copulas.families.gumbel import Gumbel, GumbelDistribution
from cm2.copulas.families.independence import Independence, IndependenceDistribution
from cm2.copulas.families.joe import Joe, JoeDistribution
from cm2.copulas.families.mixture import Mixture, MixtureDistribution
from cm2.copulas.families.rotated import Rotated, RotatedDistribution
from cm2.copulas.families.student import Student, StudentDistribution
from cm2.copulas.inference.estimation import Fit, pseudo_observations
from cm2.copulas.inference.goodness_of_fit import GoodnessOfFit, goodness_of_fit_test
from cm2.copulas.inference.report import Selection
from cm2.copulas.inference.selection import fit_best_pair, select
from cm2.copulas.module import FAMILIES, Copula
from cm2.copulas.registry import make
from cm2.copulas.vine import Vine, VineDistribution, VineStructure, select_vine

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
