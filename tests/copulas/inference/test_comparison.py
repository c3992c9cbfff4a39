"""Vuong's variance test before his test of non-nested models, against laws that are known: simulation, scipy's chi-squares, Wilks."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from cm2.book.checks import FALSE_ALARM, check
from cm2.copulas import make
from cm2.copulas.families.mixture import Mixture
from cm2.copulas.inference.comparison import LEVEL, RATIO, SAME, VUONG, compare, contains, variance_test, vuong
from cm2.copulas.inference.selection import select, selectable
from cm2.copulas.module import FAMILIES

POINTS = 500
SAMPLES = 150


def fitted(u, *names):
    modules = [make(name, u.shape[1]).double() for name in names]
    for module in modules:
        module.fit(u, standard_errors=False)
    with torch.no_grad():
        return modules, tuple(module(validate_args=False).log_prob(u) for module in modules)


def test_the_variance_test_against_its_weighted_chi_square():
    r"""Gaussian and Frank copulas at independence, which both contain.

    Their scores there are xy in normal scores and 12(u - 1/2)(v - 1/2), of correlation :math:`\rho = 3/\pi`, the square of that of a
    uniform and its normal score. So both weights are :math:`1 - \rho^2`, and n times the variance over them a chi-square of two degrees.
    """
    weight, found, bound = 1 - (3 / math.pi) ** 2, [], []
    for _ in range(SAMPLES):
        _, (first, second) = fitted(torch.rand(POINTS, 2, dtype=torch.float64), "gaussian", "frank")
        found.append(POINTS * (first - second).var(correction=0).item())
        bound.append(variance_test(first, second, 2))
        assert bound[-1] == pytest.approx(stats.chi2.sf(found[-1], 2), rel=1e-9)
    p = stats.kstest(np.array(found) / weight, stats.chi2(2).cdf).pvalue
    check("n times the variance follows the weighted sum", p, above=FALSE_ALARM)
    exact = stats.chi2.sf(np.array(found) / weight, 2)
    assert (np.array(bound) >= exact).all(), "the bound never calls laws distinguishable that the exact test does not"
    assert np.mean(np.array(bound) < LEVEL) <= LEVEL


def test_weights_of_well_specified_models_are_at_most_one():
    """From Vuong's matrix of scores and Hessians itself, for a t copula and the Gaussian copula that it contains."""
    u = make("gaussian", 2, rho=0.5)().sample((20_000,)).double()
    step = 1e-4
    law = lambda rho, inverse_nu: make("student", 2, rho=rho, nu=1 / inverse_nu)().log_prob(u).detach()
    at = (0.5, 1e-2)
    slope = [
        (law(at[0] + step, at[1]) - law(at[0] - step, at[1])) / (2 * step),
        (law(at[0], at[1] + step) - law(at[0], at[1] - step)) / (2 * step),
    ]
    gaussian = lambda rho: make("gaussian", 2, rho=torch.tensor(rho, dtype=torch.float64))().log_prob(u).detach()
    other = (gaussian(0.5 + step) - gaussian(0.5 - step)) / (2 * step)
    scores = np.stack([each.numpy() for each in (*slope, other)])
    b = np.cov(scores)
    first, second, cross = b[:2, :2], b[2:, 2:], b[:2, 2:]
    w = np.block([[np.eye(2), cross @ np.linalg.inv(second)], [-cross.T @ np.linalg.inv(first), -np.eye(1)]])
    weights = np.sort(np.linalg.eigvals(w).real ** 2)
    # one parameter in common, one beyond it
    assert weights.max() == pytest.approx(1, abs=0.02) and weights[:2].max() < 0.05


@pytest.mark.parametrize("dim", [2, 3])
def test_laws_that_are_not_distinguishable_get_no_p_value(dim):
    u = make("gaussian", dim, correlation=0.4 + 0.6 * torch.eye(dim))().sample((400,)).double()
    modules, densities = fitted(u, "student", "gaussian")
    counts = tuple(sum(p.numel() for p in module.parameters()) for module in modules)
    found = compare(*modules, densities, counts, "schwarz")
    assert found.test in (SAME, RATIO) and math.isnan(found.statistic)
    report = select(u, ["gaussian", "student"], "bic")
    behind = report.candidates[1]
    assert math.isnan(behind.vuong) and behind.test == found.test and math.isnan(behind.p_value) == (found.test == SAME)
    line = next(line for line in str(report).splitlines() if line.startswith(behind.label))
    assert ("same" if found.test == SAME else "nested") in line


def test_nested_families_are_compared_by_the_likelihood_ratio():
    """Wilks: with three degrees of freedom and one parameter more."""
    u = make("student", 2, rho=0.5, nu=3.0)().sample((1500,)).double()
    modules, (first, second) = fitted(u, "gaussian", "student")
    found = compare(*modules, (first, second), (1, 2), "schwarz")
    assert found.test == RATIO and math.isnan(found.statistic)
    assert found.p_value == pytest.approx(stats.chi2.sf(2 * (second - first).sum().item(), 1), rel=1e-6)
    candidate = next(each for each in select(u, ["gaussian", "student"], "aic").candidates if each.test)
    assert candidate.label == "gaussian" and candidate.p_value < 1e-6 and math.isnan(candidate.vuong)


def test_others_are_compared_by_vuong_s_test():
    u = make("gumbel", 2, alpha=2.5)().sample((1500,)).double()
    modules, densities = fitted(u, "gumbel", "clayton")
    found = compare(*modules, densities, (1, 1), "schwarz")
    assert found.test == VUONG and (found.statistic, found.p_value) == vuong(*densities, 1, 1) and found.statistic > 3


def test_holm_counts_only_the_tests_that_were_made():
    u = make("gumbel", 2, alpha=2.5)().sample((800,)).double()
    twice = [make("gumbel", 2), make("gumbel", 2, alpha=3.0), "clayton"]
    report = select(u, twice, "aic", rotations=False)
    tests = [each.test for each in report.candidates]
    assert tests == ["", SAME, VUONG] and math.isnan(report.candidates[1].p_value)
    assert report.candidates[2].p_value == pytest.approx(math.erfc(abs(report.candidates[2].vuong) / math.sqrt(2)))


def test_what_contains_what():
    every = {name: make(name, 2) for name in selectable(2)}
    for name, module in every.items():
        assert contains(module, every["independence"]), name
        assert contains(module, module), name
        assert name == "independence" or not contains(every["independence"], module)
    assert contains(every["student"], every["gaussian"]) and not contains(every["gaussian"], every["student"])
    mixture = Mixture(2, [make("gumbel", 2), make("student", 2)])
    assert all(contains(mixture, every[name]) for name in ("gumbel", "student", "gaussian", "independence"))
    assert not contains(mixture, every["frank"]) and contains(Mixture(2, [mixture, make("frank", 2)]), mixture)
    turned = make("clayton", 2, rotation=90)
    assert contains(turned, every["independence"]) and not contains(turned, every["clayton"]) and contains(turned, turned)
    assert {name for family in FAMILIES.values() for name in family.contains} <= set(FAMILIES)
