"""Densities and coefficients against mpmath, scipy and pyvinecopulib."""

import mpmath as mp
import numpy as np
import pytest
import torch
from scipy import integrate, stats

from cm2.book.checks import FALSE_ALARM, check
from cm2.copulas import make
from cm2.copulas.sample_dependence import sample_kendall_tau

CORNERS = [1e-12, 1e-4, 0.3, 0.9, 1 - 1e-12]
GRID = {
    "gumbel": [1.0, 1 + 1e-6, 1.15, 2.5, 50.0],
    "clayton": [1e-6, 1e-3, 1.7, 100.0],
    "frank": [-200.0, -1.0, -1e-6, 1e-6, 5.0, 40.0, 200.0],
    "gaussian": [-0.9999, 0.1, 0.7, 0.9999],
}


def build(name, dim, value):
    if name != "gaussian":
        return make(name, dim, alpha=value)()
    return make(name, dim, rho=value)()


def quantile(u):
    log_u = mp.log(u)
    return mp.findroot(lambda z: mp.log(mp.erfc(-z / mp.sqrt(2)) / 2) - log_u, stats.norm.ppf(float(u)))


def pair_density(name, a, u, v):
    a, u, v = mp.mpf(a), mp.mpf(u), mp.mpf(v)
    if name == "gumbel":
        x, y = -mp.log(u), -mp.log(v)
        s = (x**a + y**a) ** (1 / a)
        return mp.log((x * y) ** (a - 1) * (s + a - 1) * s ** (1 - 2 * a)) - s + x + y
    if name == "clayton":
        return mp.log((1 + a) * (u * v) ** (-1 - a) * (u**-a + v**-a - 1) ** (-2 - 1 / a))
    if name == "frank":
        p = -mp.expm1(-a)
        return mp.log(a * p * mp.exp(-a * (u + v)) / (p - mp.expm1(-a * u) * mp.expm1(-a * v)) ** 2)
    x, y = quantile(u), quantile(v)
    return -mp.log(1 - a * a) / 2 - (a * a * (x * x + y * y) - 2 * a * x * y) / (2 * (1 - a * a))


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GRID.items() for value in values])
def test_pair_density_at_the_corners(name, value):
    law = build(name, 2, value)
    with mp.workdps(120):
        pairs = [(u, v) for u in CORNERS for v in CORNERS]
        expected = [float(pair_density(name, value, u, v)) for u, v in pairs]
    got = law.log_prob(torch.tensor(pairs)).detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12)


GENERATORS = {
    "gumbel": lambda a: (lambda t: mp.exp(-(t ** (1 / a))), lambda u: (-mp.log(u)) ** a),
    "clayton": lambda a: (lambda t: (1 + t) ** (-1 / a), lambda u: u**-a - 1),
    "frank": lambda a: (lambda t: -mp.log1p(mp.expm1(-a) * mp.exp(-t)) / a, lambda u: -mp.log(mp.expm1(-a * u) / mp.expm1(-a))),
}


@pytest.mark.parametrize(
    ("name", "value"), [("gumbel", 1.2), ("gumbel", 5.0), ("clayton", 0.01), ("clayton", 4.0), ("frank", 0.3), ("frank", 30.0)]
)
@pytest.mark.parametrize("dim", [3, 5])
def test_density_in_more_dimensions(name, value, dim):
    law = build(name, dim, value)
    corners = [[0.3, 0.6, 0.2, 0.8, 0.5][:dim], [1e-6] * dim, [1 - 1e-6] * dim, [1e-5, *[0.9] * (dim - 1)]]
    with mp.workdps(80):
        a = mp.mpf(value)
        psi, inverse = GENERATORS[name](a)
        for corner in corners:
            parts = [inverse(mp.mpf(u)) for u in corner]
            total = mp.fsum(parts)
            series = mp.taylor(lambda x, total=total: psi(total * (1 + x)), 0, dim)
            derivative = abs(series[dim]) * mp.factorial(dim) / total**dim
            slopes = [mp.log(abs(mp.diff(inverse, mp.mpf(u), h=mp.mpf(10) ** -40))) for u in corner]
            expected = float(mp.log(derivative) + mp.fsum(slopes))
            assert law.log_prob(torch.tensor(corner)).item() == pytest.approx(expected, rel=1e-10, abs=1e-11)


@pytest.mark.parametrize("dim", [3, 5])
def test_gaussian_against_scipy(dim):
    place = np.arange(dim)
    matrix = 0.7 ** np.abs(place[:, None] - place)
    law = make("gaussian", dim, correlation=torch.tensor(matrix))()
    u = torch.rand(20, dim)
    z = stats.norm.ppf(u.numpy())
    joint = stats.multivariate_normal(cov=matrix)
    expected = joint.logpdf(z) - stats.norm.logpdf(z).sum(-1)
    np.testing.assert_allclose(law.log_prob(u).detach(), expected, rtol=1e-9)
    np.testing.assert_allclose(law.cdf(u).detach(), joint.cdf(z), atol=1e-4)


@pytest.mark.parametrize("rho", [-0.9999, -0.5, 0.3, 0.95, 0.9999])
def test_bivariate_normal_cdf(rho):
    law = make("gaussian", 2, rho=rho)()
    scale = np.sqrt((1 - rho) * (1 + rho))
    for h, k in ((0.0, 0.0), (0.5, 0.501), (-1.0, 2.0), (1.3, -1.3), (-2.5, -2.4)):
        step = [np.clip(k / rho, -12, 12)]
        inner = lambda x, k=k: stats.norm.pdf(x) * stats.norm.cdf((k - rho * x) / scale)
        points = [x for x in (step[0] - 4 * scale, step[0], step[0] + 4 * scale) if -12 < x < h]
        expected = integrate.quad(inner, -12, h, points=points or None, limit=400, epsabs=1e-13, epsrel=1e-12)[0]
        u = torch.special.ndtr(torch.tensor([h, k]))
        assert law.cdf(u).item() == pytest.approx(expected, abs=2e-11)


@pytest.mark.parametrize("alpha", [-200.0, -3.0, -1e-6, 1e-4, 1.0, 20.0, 200.0])
def test_frank_kendall_tau_against_debye(alpha):
    with mp.workdps(50):
        a = mp.mpf(alpha)
        debye = mp.quad(lambda t: t / mp.expm1(t) if t else mp.mpf(1), [0, a / 2, a]) / a
        expected = 1 - 4 / a * (1 - debye)
    assert make("frank", 2, alpha=alpha)().kendall_tau.item() == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(("name", "value"), [("gumbel", 2.5), ("clayton", 1.7), ("frank", 5.0), ("frank", -4.0), ("gaussian", 0.6)])
def test_against_pyvinecopulib(name, value):
    other = pytest.importorskip("pyvinecopulib")
    peer = other.Bicop(family=getattr(other.BicopFamily, name), parameters=np.array([[value]]))
    law = build(name, 2, value)
    u = torch.rand(500, 2) * 0.98 + 0.01
    flipped = np.asfortranarray(u.numpy())
    np.testing.assert_allclose(torch.exp(law.log_prob(u)).detach(), peer.pdf(flipped), rtol=1e-5)
    np.testing.assert_allclose(law.cdf(u).detach(), peer.cdf(flipped), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(law.h(u).detach(), peer.hfunc2(flipped), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(law.h_inverse(u[:, 0], u[:, 1]).detach(), peer.hinv2(flipped), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("alpha", [-30.0, -3.0, -0.1])
def test_negative_frank_draws(alpha):
    law = make("frank", 2, alpha=alpha)()
    for u in (law.sample((20_000,)), law.rsample((20_000,)).detach()):
        tau = sample_kendall_tau(u)
        check("Kendall's tau of a sample", tau.value, near=law.kendall_tau, standard_error=tau.standard_error)
        check("the first margin is uniform", stats.kstest(u[:, 0].numpy(), "uniform").pvalue, above=FALSE_ALARM)
    given = torch.rand(200, 2)
    present = torch.tensor([False, True]).expand(200, 2)
    drawn = law.conditional_sample(given, present, 80)
    levels = law.h(drawn).detach().flatten().numpy()
    check("levels of conditional draws are uniform", stats.kstest(levels, "uniform").pvalue, above=FALSE_ALARM)


@pytest.mark.parametrize("name", ["gumbel", "frank", "clayton", "gaussian"])
@pytest.mark.parametrize("given", [1e-300, 1e-12, 0.4, 1 - 1e-12])
def test_quantile_solves_the_conditional_law_in_every_corner(name, given):
    for value in GRID[name]:
        law = build(name, 2, value)
        p = torch.tensor([1e-12, 1e-3, 0.5, 0.9, 1 - 1e-9])
        tails = tuple(x[:, None] for x in (torch.log(p), torch.log1p(-p)))
        second = torch.full((5, 1), given)
        low, high = law._h_quantile(tails, (torch.log(second), torch.log1p(-second)))
        both = lambda x, y: torch.stack([x, y], -1)
        level = law._h_tails(both(low, torch.log(second)), both(high, torch.log1p(-second)))[0]
        torch.testing.assert_close(torch.exp(level)[:, 0], p, rtol=1e-6, atol=1e-9)
