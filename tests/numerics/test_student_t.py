"""Student's t law against mpmath, and the table against the quadrature."""

import math

import mpmath as mp
import pytest
import scipy.special
import torch

from cm2.numerics import student_t_table
from cm2.numerics.student_t import arc_log_tails, arc_quantile, arc_quantile_at, t_cdf, t_log_density, t_log_tails, t_quantile

DEGREES = [0.5, 1.0, 1.5, 2.0001, 3.0, 7.3, 30.0, 50.0, 400.0]
LOWER = [1e-12, 1e-8, 1e-3, 0.02, 0.24, 0.4999]


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with mp.workdps(40):
        yield
    torch.set_default_dtype(before)


def upper_tail(x, nu):
    """P(X > x) for x >= 0."""
    return mp.betainc(nu / 2, mp.mpf(1) / 2, 0, nu / (nu + x * x), regularized=True) / 2


def quantile(p, nu):
    """The x with P(X > x) = p, by Newton on the logarithm from scipy's value."""
    x = mp.mpf(-float(scipy.special.stdtrit(float(nu), float(p))))
    for _ in range(8):
        tail = upper_tail(x, nu)
        x += tail * mp.log(tail / p) / density(x, nu)
    return x


def density(x, nu):
    return mp.exp(mp.loggamma((nu + 1) / 2) - mp.loggamma(nu / 2)) / mp.sqrt(nu * mp.pi) * (1 + x * x / nu) ** (-(nu + 1) / 2)


def relative(value, truth, floor=0.0):
    return max(abs(float((a.item() - b) / max(abs(b), floor))) for a, b in zip(value, truth, strict=True))


@pytest.mark.parametrize("nu", DEGREES)
def test_tails_and_density(nu):
    exact = mp.mpf(nu)
    x = torch.tensor([0.0, 1e-6, 0.1, 0.7, 1.5, 4.0, 25.0, 1e4])
    low, high = t_log_tails(torch.cat([x, -x]), torch.tensor(nu))
    truth = [upper_tail(mp.mpf(v.item()), exact) for v in x]
    assert relative(torch.exp(high[:6]), truth[:6]) < 1e-12
    assert relative(high[:8], [mp.log(v) for v in truth]) < 1e-13
    assert relative(low[:6], [mp.log1p(-v) for v in truth[:6]]) < 1e-12
    torch.testing.assert_close(low[8:], high[:8], rtol=1e-13, atol=0)
    assert relative(t_cdf(x, torch.tensor(nu)), [1 - v for v in truth]) < 1e-13
    log_density = t_log_density(x, torch.tensor(nu))
    assert relative(log_density, [mp.log(density(mp.mpf(v.item()), exact)) for v in x]) < 1e-13


@pytest.mark.parametrize("nu", DEGREES)
def test_quantile_and_its_gradients(nu):
    exact = mp.mpf(nu)
    u = torch.tensor([*LOWER, *(1 - p for p in LOWER)], requires_grad=True)
    nu_ = torch.tensor(nu, requires_grad=True)
    x = t_quantile(torch.log(u), torch.log1p(-u), nu_)
    values = [mp.mpf(v) for v in u.tolist()]
    truth = [-quantile(v, exact) if v < 0.5 else quantile(1 - v, exact) for v in values]
    # near the median the logarithm of u knows u - 1/2 to 1e-16 only
    assert relative(x, truth, 0.01) < (1e-12 if nu >= 1 else 4e-12)
    assert relative(math.sqrt(nu) * torch.sinh(arc_quantile_at(u, nu_)), truth, 0.01) < (1e-12 if nu >= 1 else 4e-12)
    (slope,) = torch.autograd.grad(x.sum(), u, retain_graph=True)
    assert relative(slope, [1 / density(q, exact) for q in truth]) < 1e-11
    for k in (0, 3, 4, 6, 10):
        (slope,) = torch.autograd.grad(x[k], nu_, retain_graph=True)
        step, low = exact * mp.mpf(10) ** -10, values[k] < 0.5
        p = values[k] if low else 1 - values[k]
        difference = (quantile(p, exact + step) - quantile(p, exact - step)) / (2 * step)
        assert slope.item() == pytest.approx(float(-difference if low else difference), rel=1e-11)


@pytest.mark.parametrize("nu", DEGREES)
def test_gradient_of_the_tails_in_the_degrees_of_freedom(nu):
    exact = mp.mpf(nu)
    step = exact * mp.mpf(10) ** -10
    for x in (0.3, 1.7, -2.5, 40.0):
        nu_ = torch.tensor(nu, requires_grad=True)
        (slope,) = torch.autograd.grad(t_log_tails(torch.tensor(x), nu_)[1], nu_)
        log_tail = lambda nu, x=x: mp.log(upper_tail(mp.mpf(x), nu) if x > 0 else 1 - upper_tail(-mp.mpf(x), nu))
        assert slope.item() == pytest.approx(float((log_tail(exact + step) - log_tail(exact - step)) / (2 * step)), rel=1e-10)


@pytest.mark.parametrize("nu", [0.7, 3.3, 60.0])
def test_first_and_second_derivatives(nu):
    log_u, nu_ = -torch.tensor([9.0, 0.8, 1e-3, 0.3]), torch.full((4,), nu, requires_grad=True)
    log1m_u = torch.log(-torch.expm1(log_u)).requires_grad_()
    log_u.requires_grad_()
    w = torch.tensor([-1.3, 0.02, 0.4, 2.5], requires_grad=True)
    u = torch.tensor([0.01, 0.4, 0.7, 0.999], requires_grad=True)
    x = (math.sqrt(nu) * torch.sinh(w.detach())).requires_grad_()
    for function, inputs in [
        (arc_quantile, (log_u, log1m_u, nu_)),
        (arc_quantile_at, (u, nu_)),
        (arc_log_tails, (w, nu_)),
        (t_log_tails, (x, nu_)),
        (t_log_density, (x, nu_)),
    ]:
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("nu", [0.5, 1.0, 2.0001, 7.3, 50.0, 3000.0])
def test_many_points_with_one_nu_agree_with_the_quadrature(nu):
    n = student_t_table.LEAST
    u = torch.cat([torch.rand(n), torch.logspace(-300, -1, 400), 1 - torch.logspace(-15, -1, 400)])
    w = torch.linspace(-1, 1, n) ** 3 * 60 / math.sqrt(nu)
    one, many = torch.tensor(nu, requires_grad=True), torch.full_like(u, nu, requires_grad=True)
    each = torch.full_like(w, nu, requires_grad=True)
    for points, function, batched in [(u, arc_quantile_at, many), (w, lambda *a: arc_log_tails(*a)[0], each)]:
        points = points.clone().requires_grad_()
        fast, slow = function(points, one), function(points, batched)
        torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-14)
        (in_points, in_nu), (expected, each_nu) = (
            torch.autograd.grad(value, (points, parameter), torch.cos(31 * points.detach()))
            for value, parameter in ((fast, one), (slow, batched))
        )
        torch.testing.assert_close(in_points, expected, rtol=1e-10, atol=1e-14)
        assert (in_nu - each_nu.sum()).abs() < 1e-11 * each_nu.abs().sum()


def test_points_outside_of_the_table():
    u = torch.full((student_t_table.LEAST,), 0.3)
    log_u, log1m_u = torch.log(u), torch.log1p(-u)
    log_u[0], log1m_u[0] = -1e6, 0.0
    w = arc_quantile(log_u, log1m_u, torch.tensor(1.0))
    # P(X < -x) = 1 / (pi x) far out
    assert w[0].item() == pytest.approx(-(1e6 - math.log(math.pi) + math.log(2)), rel=1e-13)
    torch.testing.assert_close(w[1], arc_quantile(log_u[1], log1m_u[1], torch.tensor(1.0)))
    torch.testing.assert_close(arc_log_tails(w, torch.tensor(1.0))[0], log_u, rtol=1e-12, atol=0)
    u[0] = torch.nan
    assert arc_quantile_at(u, torch.tensor(4.0)).isnan().nonzero().tolist() == [[0]]


def test_batches_and_single_precision():
    nu = torch.tensor([1.0, 4.5, 30.0])
    u = torch.tensor([[0.2], [1e-7], [0.999]])
    w = arc_quantile_at(u, nu)
    assert w.shape == (3, 3)
    expected = scipy.special.stdtrit(nu.numpy(), u.numpy())
    torch.testing.assert_close(torch.sqrt(nu) * torch.sinh(w), torch.from_numpy(expected), rtol=1e-8, atol=0)
    single = t_quantile(torch.log(u).float(), torch.log1p(-u).float(), nu.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), torch.from_numpy(expected), rtol=1e-5, atol=0)
    assert t_log_tails(single, nu.float())[0].dtype == t_cdf(single, nu.float()).dtype == torch.float32
    in_all = torch.func.vmap(torch.func.grad(lambda nu: arc_quantile_at(u[0, 0], nu)))
    assert in_all(nu).shape == (3,)
