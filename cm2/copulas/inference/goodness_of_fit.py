"""Goodness-of-fit tests of a family: two statistics, with p-values from the parametric bootstrap."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cm2.config.names import choose
from cm2.copulas.base import CopulaDistribution
from cm2.copulas.inference.estimation import check_sample, pseudo_observations
from cm2.copulas.module import Copula
from cm2.environment.extras import require
from cm2.errors import InputError

STATISTICS = ("rosenblatt", "cramer_von_mises")
_CELLS = 4_000_000  # comparisons in memory at a time


@dataclass(frozen=True)
class GoodnessOfFit:
    """Result of a test of the hypothesis that a sample comes from a member of a family.

    Attributes:
        statistic: name of the statistic.
        value: its value for the sample.
        p_value: (1 + number of bootstrap values at least as large as `value`) / (1 + number of bootstrap values).
        bootstrap: its values for samples drawn from the fitted copula, (n_bootstrap,).
        n: number of points.
    """

    statistic: str
    value: float
    p_value: float
    bootstrap: Tensor
    n: int


def empirical_copula(u: Tensor, at: Tensor) -> Tensor:
    """Fraction of the sample's points that are at most `at` in every coordinate.

    Args:
        u: sample, (n, dim).
        at: points, (m, dim).

    Returns:
        (m,), float64.
    """
    rows = max(1, _CELLS // len(u))
    share = lambda block: torch.stack([u[:, j] <= block[:, j, None] for j in range(u.shape[1])]).all(0).double().mean(-1)
    return torch.cat([share(block) for block in at.split(rows)])


def cramer_von_mises(law: CopulaDistribution, u: Tensor) -> Tensor:
    r""":math:`S_n = \sum_i\{C_n(u_i) - C(u_i)\}^2`, :math:`C_n` the empirical copula (Genest, Rémillard, Beaudoin 2009, equation 2).

    Args:
        law: the copula with distribution function C.
        u: sample, (n, dim).
    """
    return (empirical_copula(u, u) - law.cdf(u)).square().sum()


def rosenblatt_distance(w: Tensor) -> Tensor:
    r"""Distance of a sample from independent uniforms, :math:`S_n^{(B)} = n\int\{D_n(w) - \prod_k w_k\}^2dw` with its empirical CDF
    :math:`D_n`,

    .. math:: S_n^{(B)} = \frac n{3^d} - \frac1{2^{d-1}}\sum_i\prod_k(1 - w_{ik}^2) + \frac1n\sum_{i,j}\prod_k\{1 - \max(w_{ik}, w_{jk})\}

    (Genest, Rémillard, Beaudoin 2009, section 4).

    Args:
        w: Rosenblatt transforms, (n, dim).
    """
    n, dim = w.shape
    once = (1 - w.square()).prod(-1).sum() / 2 ** (dim - 1)
    twice = torch.zeros_like(once)
    for block in w.split(max(1, _CELLS // n)):
        product = torch.ones(len(block), n, dtype=w.dtype, device=w.device)
        for j in range(dim):
            product *= 1 - torch.maximum(block[:, j, None], w[:, j])
        twice += product.sum()
    return n / 3**dim - once + twice / n


def goodness_of_fit_test(
    copula: Copula,
    u: Tensor,
    statistic: str = "rosenblatt",
    n_bootstrap: int = 200,
    method: str = "maximum_likelihood",
    ranks: bool = True,
    seed: int = 0,
    n_jobs: int = 1,
) -> GoodnessOfFit:
    r"""Tests the hypothesis that a sample comes from the family of `copula`, with any parameters.

    A copy is fitted and the statistic computed; both are repeated on samples from the fitted copula (Genest and Rémillard 2008).
    "rosenblatt": under the hypothesis the conditional CDFs map the sample to independent uniforms, and :math:`S_n^{(B)}` is the distance
    from these; it needs no CDF and therefore works in any dimension. "cramer_von_mises": :math:`S_n`, the distance of the empirical copula
    from the fitted one. Both were the best of their kind in the comparison of Genest, Rémillard and Beaudoin (2009). The time per bootstrap
    sample is of order n².

    Args:
        copula: module of the family; it is not changed.
        u: sample, (n, dim), in (0, 1).
        statistic: one of `STATISTICS`.
        n_bootstrap: number of samples drawn; the p-value is a multiple of 1/(n_bootstrap + 1).
        method: method of the fits, see `Copula.fit`; "kendall_tau" is faster.
        ranks: whether the margins are unknown: the sample, and each one drawn, is replaced by its ranks over n + 1. False if `u` are
            exact uniforms.
        seed: seed of the bootstrap; torch's global generator is not advanced.
        n_jobs: number of processes (joblib).

    Raises:
        ValueError: unknown statistic; n_bootstrap below 1; a sample that `fit` would refuse.
    """
    if statistic not in STATISTICS:
        raise InputError(f"unknown statistic {statistic!r}; {choose(statistic, STATISTICS)}")
    if n_bootstrap < 1:
        raise InputError(f"n_bootstrap is {n_bootstrap}; a p-value needs at least one sample, and 200 to be of use")
    check_sample(u, copula.dim, sum(each.numel() for each in copula.parameters()))
    fitted = copy.deepcopy(copula).double()
    value = _statistic(fitted, u.double(), statistic, method, ranks)
    draws = _Draws(fitted, len(u), statistic, method, ranks, seed)
    if n_jobs == 1:
        values = [draws(k) for k in range(n_bootstrap)]
    else:
        require("joblib")
        from joblib import Parallel, delayed

        values = Parallel(n_jobs)(delayed(draws)(k) for k in range(n_bootstrap))
    bootstrap = torch.tensor(values, dtype=torch.float64)
    reached = (bootstrap >= value).sum().item()
    return GoodnessOfFit(statistic, value, (1 + reached) / (1 + n_bootstrap), bootstrap, len(u))


@dataclass(frozen=True)
class _Draws:
    """The statistic of bootstrap sample number k, drawn from the fitted copula."""

    fitted: Copula
    n: int
    statistic: str
    method: str
    ranks: bool
    seed: int

    def __call__(self, k: int) -> float:
        with torch.random.fork_rng():
            # one seed per sample: the values do not depend on the order in which processes draw them
            torch.manual_seed(int(np.random.SeedSequence((self.seed, k)).generate_state(1)[0]))
            sample = self.fitted(validate_args=False).sample((self.n,))
        return _statistic(copy.deepcopy(self.fitted), sample, self.statistic, self.method, self.ranks)


def _statistic(copula: Copula, sample: Tensor, statistic: str, method: str, ranks: bool) -> float:
    sample = pseudo_observations(sample) if ranks else sample
    copula.fit(sample, method, standard_errors=False)
    with torch.no_grad():
        law = copula(validate_args=False)
        value = rosenblatt_distance(law.rosenblatt(sample)) if statistic == "rosenblatt" else cramer_von_mises(law, sample)
    if not math.isfinite(value):
        raise FloatingPointError(f"the {statistic} statistic of the {copula.name} copula is {value}")
    return value.item()
