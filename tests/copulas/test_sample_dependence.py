"""Measures of dependence against scipy, mpmath and pyvinecopulib."""

import math

import mpmath as mp
import numpy as np
import pytest
import torch
from scipy import stats

from cm2.book.checks import check
from cm2.copulas import make
from cm2.copulas.families.gumbel import GumbelDistribution
from cm2.copulas.law_dependence import pair_rule, spearman_rho
from cm2.copulas.sample_dependence import sample_kendall_tau, sample_spearman_rho

MAPS = {
    "gumbel": [1e-6, 0.1, 0.5, 0.95],
    "joe": [1e-6, 0.1, 0.5, 0.95],
    "clayton": [1e-6, 0.1, 0.5, 0.95],
    "frank": [-0.97, -0.3, 1e-5, 0.2, 0.6, 0.99, 1 - 1e-5],
}
MAPS["gaussian"] = [-0.99, -0.2, 0.0, 0.4, 0.999]


def sample(n, ties=False):
    x = torch.randn(n, 3)
    x[:, 1] += x[:, 0]
    x[:, 2] -= 0.5 * x[:, 0]
    return torch.round(2 * x) if ties else x


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [3, 4, 33, 600])
def test_sample_measures_against_scipy(n, ties):
    x = sample(n, ties) if not (ties and n < 10) else torch.tensor([[1.0, 2, 3], [1, 3, 2], [2, 2, 2], [2, 5, 1]])[:n]
    tau, rho = sample_kendall_tau(x).value, sample_spearman_rho(x).value
    for i in range(3):
        for j in range(i):
            pair = x[:, i].numpy(), x[:, j].numpy()
            assert tau[i, j].item() == pytest.approx(stats.kendalltau(*pair).statistic, abs=1e-13)
            assert rho[i, j].item() == pytest.approx(stats.spearmanr(*pair).statistic, abs=1e-13)
    alone = sample_kendall_tau(x[:, :2])
    assert alone.value.shape == ()
    torch.testing.assert_close(alone.value, tau[0, 1])
    torch.testing.assert_close(alone.standard_error, sample_kendall_tau(x).standard_error[0, 1])


@pytest.mark.parametrize("measure", [sample_kendall_tau, sample_spearman_rho])
@pytest.mark.parametrize(("name", "value"), [("clayton", 2.0), ("gumbel", 1.3), ("frank", -4.0)])
def test_standard_errors_are_the_spread(measure, name, value):
    law = make(name, 2, alpha=value)()
    n = 400
    found = [measure(law.sample((250,))) for _ in range(n)]
    spread = torch.stack([each.value for each in found]).std()
    mean = torch.stack([each.standard_error for each in found]).mean()
    check("the mean standard error", mean, near=spread, standard_error=spread / math.sqrt(2 * n))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.rand(5), r"shape \(5,\); give a matrix"),
        (torch.rand(5, 1), r"shape \(5, 1\); give a matrix"),
        (torch.rand(2, 2), r"has 2 rows; ranks need at least 3"),
        (torch.tensor([[0.1, 0.2], [0.3, torch.nan], [0.5, 0.1]]), r"column 1 of the sample holds NaN"),
        (torch.tensor([[0.1, 0.2], [0.1, 0.3], [0.1, 0.1]]), r"column 0 of the sample is constant \(0.1\)"),
        (torch.full((3, 3), torch.nan), r"column 0 of the sample holds NaN"),
        (torch.full((3, 3), 0.1), r"column 0 of the sample is constant"),
    ],
)
def test_samples_are_checked(x, message):
    for measure in (sample_kendall_tau, sample_spearman_rho):
        with pytest.raises(ValueError, match=message):
            measure(x)


@pytest.mark.parametrize(("name", "tau"), [(name, tau) for name, values in MAPS.items() for tau in values])
def test_tau_map_and_its_inverse(name, tau):
    module = make(name, 2, kendall_tau=tau)
    assert module().kendall_tau.item() == pytest.approx(tau, rel=1e-12, abs=2e-15)


@pytest.mark.parametrize(
    ("name", "tau"), [("gumbel", 0.4), ("joe", 0.4), ("clayton", 0.4), ("frank", 0.4), ("frank", -0.4), ("gaussian", -0.4)]
)
def test_tau_map_against_pyvinecopulib(name, tau):
    peer = pytest.importorskip("pyvinecopulib")
    bicop = peer.Bicop(family=getattr(peer.BicopFamily, name))
    value = next(iter(make(name, 2).from_kendall_tau(torch.tensor(tau), 2).values())).item()
    assert value == pytest.approx(bicop.tau_to_parameters(tau)[0, 0], rel=1e-6)  # the peer's own root finding stops there
    bicop.parameters = np.array([[value]])
    assert bicop.tau == pytest.approx(tau, abs=1e-10)


def test_tau_in_more_dimensions():
    assert make("gumbel", 4, kendall_tau=0.5).alpha.item() == pytest.approx(2.0)
    tau = torch.tensor([[1.0, 0.3, -0.2], [0.3, 1.0, 0.1], [-0.2, 0.1, 1.0]])
    torch.testing.assert_close(make("gaussian", 3, kendall_tau=tau)().kendall_tau, tau)
    equal = make("gaussian", 3, kendall_tau=0.5)().kendall_tau
    torch.testing.assert_close(equal, 0.5 + 0.5 * torch.eye(3))
    batched = make("frank", 2, kendall_tau=torch.tensor([-0.2, 0.3]))
    torch.testing.assert_close(batched().kendall_tau, torch.tensor([-0.2, 0.3]))


@pytest.mark.parametrize("name", ["gumbel", "joe", "clayton", "frank", "gaussian"])
def test_the_inverse_map_is_differentiable(name):
    family, tau = make(name, 2), torch.tensor([0.15, 0.7], requires_grad=True)
    assert torch.autograd.gradcheck(lambda tau: tuple(family.from_kendall_tau(tau, 2).values()), tau)


@pytest.mark.parametrize(
    ("name", "dim", "tau", "message"),
    [
        ("gumbel", 2, -0.3, r"kendall_tau is -0.3; the gumbel copula reaches \[0, 1\); rotate it by 90 or 270 degrees"),
        ("clayton", 2, -0.3, r"the clayton copula reaches \(0, 1\); rotate it"),
        ("clayton", 2, 0.0, r"kendall_tau is 0; the clayton copula reaches \(0, 1\)$"),
        ("frank", 3, -0.3, r"the frank copula reaches \(0, 1\)"),
        ("frank", 2, -1.0, r"kendall_tau is -1; the frank copula reaches \(-1, 1\)"),
        ("gaussian", 2, float("nan"), r"kendall_tau is nan; the [a-z ]+ copula reaches \(-1, 1\)"),
        ("gaussian", 3, torch.full((3, 3), -0.6), r"positive definite"),
        ("independence", 2, 0.1, r"no parameter that Kendall's tau would determine"),
    ],
)
def test_taus_out_of_reach(name, dim, tau, message):
    with pytest.raises(ValueError, match=message):
        make(name, dim, kendall_tau=tau)


def test_tau_and_the_parameter_exclude_each_other():
    with pytest.raises(ValueError, match=r"both kendall_tau and alpha are given"):
        make("gumbel", 2, alpha=2.0, kendall_tau=0.5)


@pytest.mark.parametrize("rho", [-0.9999, -0.4, 1e-3, 0.7, 0.9999])
def test_spearman_rho_by_quadrature_and_in_closed_form(rho):
    law = make("gaussian", 2, rho=rho)()
    expected = 6 / math.pi * math.asin(rho / 2)
    assert law.spearman_rho.item() == pytest.approx(expected, rel=1e-13)
    assert spearman_rho(law).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("alpha", [-200.0, -3.0, 1e-6, 0.5, 20.0, 5000.0])
def test_frank_spearman_rho_against_debye(alpha):
    with mp.workdps(50):
        a = mp.mpf(alpha)
        ends = [0, *(a * k for k in (0.001, 0.01, 0.1, 0.5, 1))]
        debye = lambda n: n / a**n * mp.quad(lambda t: t**n / mp.expm1(t) if t else mp.mpf(n == 1), ends)
        expected = float(1 - 12 / a * (debye(1) - debye(2)))
    law = make("frank", 2, alpha=alpha)()
    assert law.spearman_rho.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("name", "alpha"), [("clayton", 1e-5), ("clayton", 2.0), ("clayton", 40.0), ("gumbel", 1.001), ("gumbel", 3.0)])
def test_spearman_rho_against_an_integral_of_the_cdf(name, alpha):
    """12 times the integral of C, minus 3, with C from its definition: Gauss-Legendre on both triangles, where C is smooth."""
    law = make(name, 2, alpha=alpha)()
    node, weight = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(80))
    node, weight = (node + 1) / 2, weight / 2
    # v = u s, and powers that flatten the corners
    u, s = node[:, None] ** 3, 1 - (1 - node[None, :]) ** 3
    area = 9 * node[:, None] ** 2 * (1 - node[None, :]) ** 2 * weight[:, None] * weight[None, :] * u
    points = torch.stack(torch.broadcast_tensors(u, u * s), -1)
    expected = 24 * (area * law.cdf(points)).sum() - 3
    assert law.spearman_rho.item() == pytest.approx(expected.item(), abs=1e-6)
    tau = law.kendall_tau
    assert -1 <= 3 * tau - 2 * law.spearman_rho <= 1  # Daniels 1950


def test_spearman_rho_is_batched_and_differentiable():
    alpha = torch.tensor([1.2, 3.0, 40.0])
    batched = make("gumbel", 2, alpha=alpha)().spearman_rho
    torch.testing.assert_close(batched, torch.stack([make("gumbel", 2, alpha=each)().spearman_rho for each in alpha]))
    value = torch.tensor([1.3, 4.0], requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: GumbelDistribution(value, 2, False).spearman_rho, value)
    assert make("clayton", 2).float()().spearman_rho.dtype == torch.float32


def test_spearman_rho_in_more_dimensions():
    assert make("gumbel", 4, alpha=2.0)().spearman_rho.item() == pytest.approx(make("gumbel", 2, alpha=2.0)().spearman_rho.item())
    matrix = 0.5 + 0.5 * torch.eye(3)
    expected = 6 / torch.pi * torch.asin(matrix / 2)
    law = make("gaussian", 3, correlation=matrix)()
    torch.testing.assert_close(law.spearman_rho, expected)
    torch.testing.assert_close(spearman_rho(law), expected)


def test_spearman_rho_of_a_sample_is_that_of_the_law():
    law = make("clayton", 2, alpha=1.5)()
    found = sample_spearman_rho(law.sample((20_000,)))
    check("Spearman's rho of a sample", found.value, near=law.spearman_rho, standard_error=found.standard_error)


def test_the_rule_integrates_to_one():
    *_, weight = pair_rule(torch.tensor([1.0, 0.1, 1e-4]))
    torch.testing.assert_close(weight.sum(-1), torch.ones(3), rtol=1e-13, atol=1e-13)
