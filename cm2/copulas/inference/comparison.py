r"""Two fitted copulas compared on one sample: are they distinguishable at all, and if so, which is closer to the truth?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cm2.copulas.families.mixture import Mixture
from cm2.copulas.families.rotated import Rotated
from cm2.copulas.module import Copula

LEVEL = 0.05
"""Level of the variance test, below which two laws count as distinguishable."""
VUONG, RATIO, SAME = "vuong", "likelihood ratio", "not distinguishable"


@dataclass(frozen=True)
class Comparison:
    """A test of one fitted copula against another.

    Attributes:
        test: `VUONG`; `RATIO` where one family contains the other; `SAME` where the sample does not tell the two laws apart.
        statistic: Vuong's, NaN for the other two.
        p_value: NaN for `SAME`.
    """

    test: str
    statistic: float
    p_value: float


def compare(
    first: Copula, second: Copula, log_densities: tuple[Tensor, Tensor], n_parameters: tuple[int, int], correction: str
) -> Comparison:
    """Vuong's procedure: the variance test first, then the likelihood-ratio test of nested families or the test of non-nested ones.

    Args:
        first, second: the fitted modules.
        log_densities: at the sample's points, (n,) each.
        n_parameters: of each.
        correction: see `vuong`.
    """
    if variance_test(*log_densities, sum(n_parameters)) > LEVEL:
        return Comparison(SAME, math.nan, math.nan)
    if contains(first, second) or contains(second, first):
        ratio = 2 * (log_densities[0].sum() - log_densities[1].sum()).abs().item()
        return Comparison(RATIO, math.nan, _above(max(abs(n_parameters[0] - n_parameters[1]), 1), ratio))
    return Comparison(VUONG, *vuong(*log_densities, *n_parameters, correction))


def variance_test(first: Tensor, second: Tensor, n_parameters: int) -> float:
    r"""Vuong's variance test of the hypothesis that two fitted models are one law at the truth; its p-value, or a bound from above.

    Under the hypothesis :math:`n\hat\omega^2`, with :math:`\hat\omega^2` the variance of the differences of the log densities, tends to a
    weighted sum of chi-squares of one degree of freedom, as many as there are parameters (Vuong 1989, theorem 3.3 (ii) and section 4). The
    weights are squared eigenvalues of a matrix of both models' scores and Hessians. Where both are well specified, as copulas that agree
    with each other and with the truth are, they are :math:`1 - \rho_k^2` with the canonical correlations :math:`\rho_k` of the scores. None
    is above 1, and with all weights 1 the sum is a chi-square: its tail bounds the p-value from above, without a score or a Hessian.

    Args:
        first, second: log densities of both models at the points, (n,).
        n_parameters: of both models together.
    """
    spread = (first - second).std(correction=0).item()
    return _above(max(n_parameters, 1), len(first) * spread**2)


def _above(degrees: int, value: float) -> float:
    """P(X > value) of a chi-squared X."""
    half = torch.tensor([degrees, value], dtype=torch.float64) / 2
    return torch.special.gammaincc(*half).item()


def vuong(first: Tensor, second: Tensor, n_first: int, n_second: int, correction: str = "schwarz") -> tuple[float, float]:
    r"""Vuong's test of two models of which neither contains the other (Vuong 1989, eq. 3.6 and 5.6), after his variance test.

    Args:
        first, second: log densities of both models at the points, (n,).
        n_first, n_second: their numbers of parameters.
        correction: "none"; "akaike", :math:`p - q` off the likelihood ratio; or "schwarz", :math:`(p - q)\frac{\log n}2`.

    Returns:
        The statistic, positive if the first model is closer to the truth, and its two-sided p-value. Both are NaN if `variance_test` does
        not tell the models apart at level 0.05: the statistic is not normal then, but a correction divided by almost 0.
    """
    if variance_test(first, second, n_first + n_second) > LEVEL:
        return math.nan, math.nan
    n, difference = len(first), first - second
    penalty = {"none": 0.0, "akaike": 1.0, "schwarz": math.log(n) / 2}[correction] * (n_first - n_second)
    statistic = (difference.sum().item() - penalty) / (math.sqrt(n) * difference.std(correction=0).item())
    return statistic, math.erfc(abs(statistic) / math.sqrt(2))


def contains(larger: Copula, smaller: Copula) -> bool:
    """Whether the laws of one module are special or limiting cases of another's, by `Copula.contains` and the components of mixtures."""
    if isinstance(larger, Mixture):
        if isinstance(smaller, Mixture):
            return all(contains(larger, each) for each in smaller.copulas)
        return any(contains(each, smaller) for each in larger.copulas)
    (family, turn), (inner, inner_turn) = _unrotated(larger), _unrotated(smaller)
    if inner.name == "independence":
        return "independence" in (family.name, *family.contains)
    return turn == inner_turn and inner.name in (family.name, *family.contains)


def _unrotated(copula: Copula) -> tuple[Copula, int]:
    return (copula.copula, copula.rotation) if isinstance(copula, Rotated) else (copula, 0)
