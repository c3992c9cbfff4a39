"""The Joe copula against mpmath, scipy and pyvinecopulib."""

from functools import cache

import mpmath as mp
import numpy as np
import pytest
import torch
from scipy import special, stats

from cm2.book.checks import FALSE_ALARM, check
from cm2.copulas import make
from cm2.copulas.families.joe import JoeDistribution, joe_tau, log1p_times_exp
from cm2.copulas.sample_dependence import sample_kendall_tau

EDGES = [1e-12, 1e-5, 0.3, 0.9, 1 - 1e-12]
PAIRS = [(u, v) for u in EDGES for v in EDGES]
ALPHAS = [1.0, 1 + 1e-9, 1.2, 2.0, 50.0]


def power(u, a):
    return (1 - mp.mpf(u)) ** a


def log_density(a, u, v):
    x, y = power(u, a), power(v, a)
    q = x + y - x * y
    return mp.log(q ** (1 / a - 2) * (a - 1 + q)) + (a - 1) * (mp.log(1 - u) + mp.log(1 - v))


def conditional(a, u, v):
    x, y = power(u, a), power(v, a)
    return (x + y - x * y) ** (1 / a - 1) * y / (1 - v) * (1 - x)


def slope(function, place, values):
    """Derivative in one argument, in units of the distance to the nearer end for a coordinate."""
    unit = mp.mpf(10) ** -(mp.mp.dps // 4)
    step = unit * (1 if place == 0 else min(values[place], 1 - values[place]))
    moved = [[x + sign * step if i == place else x for i, x in enumerate(values)] for sign in (1, -1)]
    return (function(*moved[0]) - function(*moved[1])) / (2 * unit)


@cache
def exact_values(alpha, function, pair):
    """The function, and its derivatives in alpha and in both coordinates, as floats."""
    exact = [mp.mpf(x) for x in (alpha, *pair)]
    with mp.workdps(1400 if alpha > 2 else 160):
        return float(function(*exact)), *(float(slope(function, place, exact)) for place in range(3))


@pytest.mark.parametrize("form", ["lean", "tails"])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_density_conditional_law_and_gradients_in_every_corner(alpha, form):
    at = torch.tensor(alpha, requires_grad=True)
    u = torch.tensor(PAIRS, requires_grad=True)
    law = JoeDistribution(at, 2)
    tails = torch.log(u), torch.log1p(-u)
    cases = [
        (log_density, law.log_prob(u) if form == "lean" else law.log_prob_tails(*tails)),
        (conditional, law.h(u) if form == "lean" else torch.exp(law.h_tails(*tails)[0])),
    ]
    for function, value in cases:
        (grad_u,) = torch.autograd.grad(value.sum(), u, retain_graph=True)
        for i, pair in enumerate(PAIRS):
            (grad,) = torch.autograd.grad(value[i], at, retain_graph=True)
            exact, in_alpha, *in_u = exact_values(alpha, function, pair)
            assert value[i].item() == pytest.approx(exact, rel=1e-11, abs=1e-14)
            assert grad.item() == pytest.approx(in_alpha, rel=1e-9, abs=1e-14)
            for j in (0, 1):
                found = grad_u[i, j].item() * min(pair[j], 1 - pair[j])
                assert found == pytest.approx(in_u[j], rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("alpha", [1.0, 1.3, 6.0])
@pytest.mark.parametrize("dim", [3, 10])
def test_density_and_cdf_in_more_dimensions(alpha, dim):
    law = make("joe", dim, alpha=alpha)()
    corners = [[0.3, 0.6, 0.2, 0.8, 0.5, 0.4, 0.7, 0.1, 0.9, 0.55][:dim], [1e-6] * dim, [1 - 1e-6] * dim, [1e-5, *[0.9] * (dim - 1)]]
    with mp.workdps(250):
        a = mp.mpf(alpha)
        psi = lambda t: 1 - (-mp.expm1(-t)) ** (1 / a)
        for corner in corners:
            exact = [mp.mpf(u) for u in corner]
            total = mp.fsum(-mp.log1p(-((1 - u) ** a)) for u in exact)
            series = mp.taylor(lambda x, total=total: psi(total * (1 + x)), 0, dim)
            slopes = mp.fprod(a * (1 - u) ** (a - 1) / (1 - (1 - u) ** a) for u in exact)
            expected = mp.log(abs(series[dim]) * mp.factorial(dim) / total**dim * slopes)
            assert law.log_prob(torch.tensor(corner)).item() == pytest.approx(float(expected), rel=1e-10, abs=1e-11)
            assert law.cdf(torch.tensor(corner)).item() == pytest.approx(float(psi(total)), rel=1e-11)


def test_tails_that_no_float_can_hold():
    law = make("joe", 2, alpha=3.0)()
    deep = torch.tensor([[-1e6, -2e6], [-2e6, -5e5]])
    zero = torch.zeros(2, 2)
    upper = law.log_prob_tails(zero, deep)
    # 1 - z is the larger of the (1 - u_j)^alpha, and alpha - 1 all that it is added to
    torch.testing.assert_close(upper, np.log(2) - 3 * deep.amax(-1) + 2 * deep.amin(-1))
    torch.testing.assert_close(law.log_prob_tails(deep, zero), torch.full((2,), np.log(3.0)))
    log_h, log1m_h = law.h_tails(torch.stack([zero[:, 0], deep[:, 0]], -1), torch.stack([deep[:, 1], zero[:, 0]], -1))
    torch.testing.assert_close(log1m_h, 3 * deep[:, 1])
    assert (log_h == 0).all()


@pytest.mark.parametrize("alpha", [1.0, 1 + 1e-9, 1.3, 50.0])
@pytest.mark.parametrize("dim", [2, 4])
def test_quantile_solves_the_conditional_law_in_every_corner(alpha, dim):
    law = make("joe", dim, alpha=alpha)()
    x = torch.cat([torch.linspace(-690, 690, 40), torch.linspace(-40, 40, 41)])
    tails = lambda x: (torch.nn.functional.logsigmoid(x), torch.nn.functional.logsigmoid(-x))
    given, p = torch.meshgrid(x, x, indexing="ij")
    for count in range(1, dim):
        state = law._empty(given)
        for _ in range(count):
            state = law._join(state, *tails(given))
        found = law._quantile(state, torch.full_like(state, count, dtype=torch.long), *tails(p))
        torch.testing.assert_close(law._log_ratio(state, *found, count), tails(p)[0], rtol=1e-9, atol=0 if dim == 2 else 1e-6)


@pytest.mark.parametrize("alpha", [1 + 1e-9, 1.25, 1.999999, 2.000001, 7.0, 50.0])
def test_kendall_tau(alpha):
    with mp.workdps(40):
        a = mp.mpf(alpha)
        expected = float(1 + 2 / (2 - a) * (mp.digamma(2) - mp.digamma(2 / a + 1)))
    law = make("joe", 2, alpha=alpha)()
    assert law.kendall_tau.item() == pytest.approx(expected, rel=1e-9 if alpha < 1.1 else 1e-13)
    assert make("joe", 2, kendall_tau=expected).alpha.item() - 1 == pytest.approx(alpha - 1, rel=1e-7)


def test_kendall_tau_has_no_pole():
    alpha = torch.tensor(2.0, requires_grad=True)
    tau = JoeDistribution(alpha, 2).kendall_tau
    assert tau.item() == pytest.approx(1 - special.polygamma(1, 2), rel=1e-12)
    assert torch.autograd.gradcheck(joe_tau, torch.tensor([1e-6, 0.3, 0.5, 0.97], requires_grad=True))
    with pytest.raises(ValueError, match=r"kendall_tau is -0.2; the joe copula reaches \[0, 1\); rotate"):
        make("joe", 2, kendall_tau=-0.2)


@pytest.mark.parametrize("alpha", [1.0, 1.05, 2.0, 20.0])
def test_frailty_draws(alpha):
    law = make("joe", 3, alpha=alpha)()
    u = law.sample((20_000,))
    check("margins are uniform", [stats.kstest(column, "uniform").pvalue for column in u.T.numpy()], above=FALSE_ALARM / 3)
    tau = sample_kendall_tau(u[:, ::2])
    check("Kendall's tau of a sample", tau.value, near=law.kendall_tau, standard_error=tau.standard_error)


@pytest.mark.parametrize("alpha", [1.1, 2.0, 6.0])
def test_against_pyvinecopulib(alpha):
    other = pytest.importorskip("pyvinecopulib")
    peer = other.Bicop(family=other.BicopFamily.joe, parameters=np.array([[alpha]]))
    law, u = make("joe", 2, alpha=alpha)(), torch.rand(500, 2) * 0.98 + 0.01
    turned = np.asfortranarray(u.numpy())
    np.testing.assert_allclose(torch.exp(law.log_prob(u)).detach(), peer.pdf(turned), rtol=1e-8)
    np.testing.assert_allclose(law.cdf(u).detach(), peer.cdf(turned), rtol=1e-8)
    np.testing.assert_allclose(law.h(u).detach(), peer.hfunc2(turned), rtol=1e-8, atol=1e-10)
    assert law.kendall_tau.item() == pytest.approx(peer.parameters_to_tau(np.array([[alpha]])), abs=1e-6)


def test_log1p_times_exp():
    a, y = torch.tensor([0.0, 0.0, 1e-3, 2.0, 1e-300], requires_grad=True), torch.tensor([3.0, -800.0, 2.0, 900.0, 1000.0])
    y.requires_grad_()
    value = log1p_times_exp(a, y)
    assert value.tolist() == pytest.approx(
        [0, 0, np.log1p(np.exp(2) / 1000), 900 + np.log(2), np.log1p(1e-300 * 1e300 * np.exp(1000 - 690.7755278982137))]
    )
    grad_a, grad_y = torch.autograd.grad(value.sum(), (a, y))
    assert grad_a.tolist()[:4] == pytest.approx([np.exp(3), 0, np.exp(2) / (1 + np.exp(2) / 1000), 0.5])
    assert grad_a.isfinite().all()
    assert grad_y.tolist()[:4] == pytest.approx([0, 0, 1 - 1 / (1 + np.exp(2) / 1000), 1])
    inner = (torch.rand(5).requires_grad_(), torch.randn(5).requires_grad_())
    assert torch.autograd.gradcheck(log1p_times_exp, inner)
    assert torch.autograd.gradgradcheck(log1p_times_exp, inner)
