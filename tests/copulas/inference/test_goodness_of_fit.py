"""Goodness of fit: the statistics against their definitions, the level and the power of the tests."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from joblib import parallel_config

from cm2.book.checks import check
from cm2.copulas import make
from cm2.copulas.inference.estimation import pseudo_observations
from cm2.copulas.inference.goodness_of_fit import STATISTICS, cramer_von_mises, empirical_copula, goodness_of_fit_test, rosenblatt_distance
from tests.copulas.conftest import FAMILIES, strong


@pytest.mark.parametrize("dim", [2, 3])
def test_empirical_copula(dim):
    u, at = torch.rand(50, dim), torch.rand(7, dim)
    expected = [sum(all(x <= y for x, y in zip(point, v, strict=True)) for point in u) / 50 for v in at]
    np.testing.assert_allclose(empirical_copula(u, at), expected)
    law = make("clayton", dim, alpha=2.0)()
    expected = sum((empirical_copula(u, v[None])[0] - law.cdf(v)) ** 2 for v in u)
    torch.testing.assert_close(cramer_von_mises(law, u), expected)


def test_rosenblatt_distance_is_the_integral():
    w = torch.rand(40, 2)
    grid = (torch.arange(1500) + 0.5) / 1500
    at = torch.cartesian_prod(grid, grid)
    integral = (empirical_copula(w, at) - at.prod(-1)).square().mean() * 40
    assert rosenblatt_distance(w).item() == pytest.approx(integral.item(), rel=5e-3)
    even = torch.cartesian_prod(grid[::50] + 0.01, grid[::50] + 0.01)
    assert rosenblatt_distance(even) < 0.1 * len(even) * 0.01


@pytest.mark.parametrize("dim", [2, 3, 5])
@pytest.mark.parametrize("name", FAMILIES)
def test_rosenblatt_transform_has_the_density_as_its_jacobian(name, dim):
    law = strong(name, dim)()
    u = torch.rand(3, dim) * 0.9 + 0.05
    jacobian = torch.stack([torch.autograd.functional.jacobian(law.rosenblatt, point) for point in u])
    assert torch.triu(jacobian, 1).abs().max() == 0
    torch.testing.assert_close(jacobian.diagonal(dim1=-2, dim2=-1).log().sum(-1), law.log_prob(u), rtol=1e-9, atol=1e-9)
    drawn = law.rosenblatt(law.sample((2000,)))
    assert rosenblatt_distance(drawn) < 1.0  # n times a squared distance: of order 0.1 under independence
    with pytest.raises(ValueError, match="exactly 1; it must lie in"):
        law.rosenblatt(torch.ones(dim))


@pytest.mark.parametrize("statistic", STATISTICS)
def test_level(statistic):
    law, n = make("gumbel", 2, alpha=1.8)(), 40
    p = [goodness_of_fit_test(make("gumbel", 2), law.sample((60,)), statistic, 9, "kendall_tau", seed=k).p_value for k in range(n)]
    # uniform on 0.1, 0.2, ..., 1
    check("the mean p-value of a true law", np.mean(p), near=0.55, standard_error=0.287 / np.sqrt(n))


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("dim", [2, 3])
def test_power_against_a_wrong_family(statistic, dim):
    """Lower tail dependence in the place of upper, six standard deviations beyond what the wrong family could give."""
    u = make("gumbel", dim, alpha=2.5)().sample((600,))
    wrong = goodness_of_fit_test(make("clayton", dim), u, statistic, 9, "kendall_tau" if dim == 2 else "maximum_likelihood")
    assert wrong.p_value == pytest.approx(1 / 10) and wrong.value > wrong.bootstrap.max()
    right = goodness_of_fit_test(make("gumbel", dim), u, statistic, 1, "kendall_tau")
    assert right.value < wrong.value / 2


def test_reproducible_and_without_trace(processes):
    module, u = make("frank", 2), make("frank", 2, alpha=3.0)().sample((80,))
    before, state = module.alpha.item(), torch.get_rng_state()
    first, second = (goodness_of_fit_test(module, u, n_bootstrap=5, seed=3) for _ in range(2))
    assert torch.equal(first.bootstrap, second.bootstrap)
    assert torch.equal(torch.get_rng_state(), state)
    assert module.alpha.item() == before
    other = goodness_of_fit_test(module, u, n_bootstrap=5, seed=4)
    assert not torch.equal(first.bootstrap, other.bootstrap)
    assert other.value == first.value == goodness_of_fit_test(module, pseudo_observations(u), n_bootstrap=1).value
    with parallel_config(backend="multiprocessing") if processes.get_start_method() == "fork" else nullcontext():
        parallel = goodness_of_fit_test(module, u, n_bootstrap=5, seed=3, n_jobs=2)
    torch.testing.assert_close(parallel.bootstrap, first.bootstrap)


def test_exact_uniforms_are_taken_as_they_are():
    law = make("clayton", 2, alpha=1.0)()
    u = law.sample((100,))
    ranks, plain = (goodness_of_fit_test(make("clayton", 2), u, n_bootstrap=1, ranks=each).value for each in (True, False))
    assert ranks != plain
    # a margin that is not uniform is seen only where the margins are taken to be known
    bent = torch.stack([u[:, 0] ** 4, u[:, 1]], -1)
    assert goodness_of_fit_test(make("clayton", 2), bent, n_bootstrap=19, ranks=False).p_value == pytest.approx(1 / 20)
    assert goodness_of_fit_test(make("clayton", 2), bent, n_bootstrap=1).value == pytest.approx(ranks)


def test_refusals():
    u = torch.rand(50, 2)
    with pytest.raises(ValueError, match=r"unknown statistic 'ks'; choose one of rosenblatt, cramer_von_mises"):
        goodness_of_fit_test(make("gumbel", 2), u, "ks")
    with pytest.raises(ValueError, match=r"n_bootstrap is 0"):
        goodness_of_fit_test(make("gumbel", 2), u, n_bootstrap=0)
    with pytest.raises(ValueError, match=r"u has shape \(50, 2\); give a sample \(n, 3\)"):
        goodness_of_fit_test(make("gumbel", 3), u)
