"""The fast log of the normal distribution function against mpmath."""

import mpmath
import pytest
import torch

from cm2.numerics.normal import log_ndtr, normal_tails


def _oracle(x: float) -> tuple[float, float]:
    with mpmath.workdps(40):
        x = mpmath.mpf(x)
        tail = mpmath.erfc(abs(x) / mpmath.sqrt(2)) / 2
        log_cdf = mpmath.log(tail) if x < 0 else mpmath.log1p(-tail)
        return float(log_cdf), float(mpmath.exp(-x * x / 2 - log_cdf) / mpmath.sqrt(2 * mpmath.pi))


@pytest.mark.parametrize(("dtype", "tolerance", "top"), [(torch.float64, 4e-12, 36.0), (torch.float32, 1e-5, 9.9)])
def test_value_and_derivative(dtype, tolerance, top):
    """The last digit of an exponent of 60²/2 = 1,800 is 4e-13 of the power: ten times that is allowed."""
    x = torch.cat([torch.linspace(-60, top, 400), torch.tensor([-1e3, -1e4, -1e-9, 0.0, -9.99, -10.01])]).to(dtype).requires_grad_()
    value = log_ndtr(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    for point, v, s in zip(x.tolist(), value.tolist(), slope.tolist(), strict=True):
        true_value, true_slope = _oracle(point)
        assert v == pytest.approx(true_value, rel=tolerance, abs=1e-300), point
        assert s == pytest.approx(true_slope, rel=tolerance, abs=1e-300), point


def test_tails_are_the_two_sides_and_finite_far_out():
    x = torch.tensor([-1e6, -40.0, -3.0, 0.0, 0.2, 5.0, 40.0, 1e6], requires_grad=True)
    log_cdf, log_sf = normal_tails(x)
    torch.testing.assert_close(log_sf, log_ndtr(-x))
    torch.testing.assert_close(log_cdf, log_ndtr(x))
    (log_cdf + log_sf).sum().backward()
    assert torch.isfinite(log_cdf).all() and torch.isfinite(log_sf).all() and torch.isfinite(x.grad).all()


def test_gradcheck():
    x = torch.tensor([-50.0, -36.5, -8.0, -1.0, 0.3, 2.0, 7.0], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(normal_tails, x, rtol=1e-5)
    torch.autograd.gradcheck(log_ndtr, x, rtol=1e-5)
