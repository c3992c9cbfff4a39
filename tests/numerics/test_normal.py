"""Normal quantile and log CDF against mpmath, deep into the tails."""

import mpmath as mp
import pytest
import torch

from cm2.numerics.normal import log_ndtr, log_ndtri, normal_quantile, normal_tails

mp.mp.dps = 40
DEPTHS = [-0.6932, -1.0, -5.0, -37.0, -300.0, -689.0, -691.0, -1e3, -1e5, -1e6]


def log_cdf(z):
    return mp.log(mp.erfc(-z / mp.sqrt(2)) / 2)


@pytest.mark.parametrize("log_p", DEPTHS)
def test_quantile_inverts_the_log_cdf(log_p):
    z = log_ndtri(torch.tensor(log_p, dtype=torch.float64)).item()
    # one Newton step of the oracle measures the error of z
    slope = mp.npdf(z) / mp.ncdf(z) if log_p > -1e4 else mp.mpf(-z)
    assert abs((log_cdf(mp.mpf(z)) - mp.mpf(log_p)) / slope) <= 1e-13 * max(1, abs(z))


@pytest.mark.parametrize("log_p", DEPTHS)
def test_implicit_gradient(log_p):
    x = torch.tensor(log_p, dtype=torch.float64, requires_grad=True)
    z = log_ndtri(x)
    (grad,) = torch.autograd.grad(z, x)
    value = mp.mpf(z.item())
    mills = mp.sqrt(mp.pi / 2) * mp.exp(value**2 / 2) * mp.erfc(-value / mp.sqrt(2))
    assert grad.item() == pytest.approx(float(mills), rel=1e-9)


def test_both_halves_and_the_middle():
    u = torch.tensor([1e-300, 1e-10, 0.3, 0.5, 0.7, 1 - 1e-10], dtype=torch.float64, requires_grad=True)
    z = normal_quantile(torch.log(u), torch.log1p(-u))
    torch.testing.assert_close(z, torch.special.ndtri(u), rtol=1e-12, atol=1e-14)
    (grad,) = torch.autograd.grad(z.sum(), u)
    torch.testing.assert_close(grad, (2 * torch.pi) ** 0.5 * torch.exp(z * z / 2), rtol=1e-9, atol=0)
    deep = torch.tensor(-1e6, dtype=torch.float64)
    assert normal_quantile(torch.zeros_like(deep), deep).item() == pytest.approx(-log_ndtri(deep).item())


def test_float32_in_the_far_tail():
    log_p = torch.tensor([-30.0, -79.0, -81.0, -1e3, -1e6], requires_grad=True)
    z = log_ndtri(log_p)
    torch.testing.assert_close(z.double(), log_ndtri(log_p.detach().double()), rtol=1e-5, atol=0)
    (grad,) = torch.autograd.grad(z.sum(), log_p)
    torch.testing.assert_close(grad.double(), 1 / -z.detach().double(), rtol=0.03, atol=0)


def test_log_cdf_and_its_gradient():
    z = torch.tensor([-1000.0, -40.0, -5.0, -0.1, 0.0, 0.1, 5.0, 9.0], dtype=torch.float64, requires_grad=True)
    low, high = normal_tails(z)
    for value, got, other in zip(z.tolist(), low.tolist(), high.tolist(), strict=True):
        assert got == pytest.approx(float(log_cdf(mp.mpf(value))), rel=1e-13)
        assert other == pytest.approx(float(log_cdf(-mp.mpf(value))), rel=1e-13)
    (grad,) = torch.autograd.grad(low.sum(), z)
    expected = [float(mp.sqrt(2 / mp.pi) * mp.exp(-(mp.mpf(v) ** 2) / 2) / mp.erfc(-mp.mpf(v) / mp.sqrt(2))) for v in z.tolist()]
    torch.testing.assert_close(grad, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_second_derivatives():
    z = torch.tensor([-4.0, -0.5, 0.7, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(log_ndtr, z)
    log_p = torch.tensor([-0.8, -3.0, -40.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(log_ndtri, log_p)
