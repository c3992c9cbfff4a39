"""Elementary functions against mpmath, and their derivatives."""

import mpmath as mp
import numpy as np
import pytest
import torch

from cm2.numerics import elementary as el

mp.mp.dps = 60


def check(function, oracle, values, rtol=1e-13, atol=1e-16):
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    y = function(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    for value, got, slope in zip(values, y.tolist(), grad.tolist(), strict=True):
        assert got == pytest.approx(float(oracle(mp.mpf(value))), rel=rtol, abs=atol)
        assert slope == pytest.approx(float(mp.diff(oracle, mp.mpf(value), h=mp.mpf(10) ** -25)), rel=1e-12, abs=1e-15)


def test_log1mexp():
    check(el.log1mexp, lambda x: mp.log(-mp.expm1(x)), [-1e-18, -1e-9, -0.3, -0.6931, -0.6932, -5.0, -40.0, -800.0])


def test_log_expm1():
    check(el.log_expm1, lambda x: mp.log(mp.expm1(x)), [1e-18, 1e-9, 0.3, 5.0, 40.0, 2000.0])


def test_log1pexp():
    check(el.log1pexp, lambda x: mp.log1p(mp.exp(x)), [-700.0, -40.0, -1.0, 0.0, 1.0, 40.0, 1e4])


def test_log_expc():
    oracle = lambda x: mp.log(-mp.expm1(-x) / x) if x else mp.mpf(0)
    # a logarithm of a number next to 1: its error is that number's, some 1e-16
    check(el.log_expc, oracle, [-500.0, -3.0, -1e-3, 1e-7, 1e-3, 0.3, 0.6, 20.0, 500.0], atol=2e-15)
    assert el.log_expc(torch.zeros((), dtype=torch.float64)).item() == pytest.approx(0, abs=2e-15)
    assert el.log_expc(torch.tensor([-200.0, 200.0])).isfinite().all()


def test_langevin():
    oracle = lambda x: mp.coth(x) - 1 / x
    check(el.langevin, oracle, [-30.0, -0.26, -0.24, 1e-8, 0.1, 0.249, 0.251, 2.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_neg_log_and_its_inverse_meet_in_both_tails(dtype):
    log_u = torch.tensor([-1e6, -50.0, -0.5, -1e-3, 0.0, 0.0], dtype=dtype, requires_grad=True)
    log1m_u = torch.tensor([0.0, 0.0, -0.9327521295671886, -6.908255, -60.0, -1e6], dtype=dtype, requires_grad=True)
    x = el.log_neg_log(log_u, log1m_u)
    expected = torch.tensor([13.815510557964274, 3.912023005428146, -0.6931471805599453, -6.907755278982137, -60.0, -1e6], dtype=dtype)
    torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-7)
    back, back1m = el.exp_neg_exp_tails(x)
    torch.testing.assert_close(back, log_u, rtol=1e-5, atol=1e-12)
    torch.testing.assert_close(back1m, log1m_u, rtol=1e-5, atol=1e-6)
    grads = torch.autograd.grad(x.sum() + back.sum() + back1m.sum(), (log_u, log1m_u))
    assert all(grad.isfinite().all() for grad in grads)


def test_second_derivatives():
    x = -torch.rand(5, dtype=torch.float64) * 3 - 0.01
    for function in (el.log1mexp, el.log_expc, el.langevin):
        assert torch.autograd.gradgradcheck(function, x.clone().requires_grad_())


def test_log_exp_plus_and_its_derivatives_at_weight_zero():
    x = torch.tensor([-800.0, -30.0, -1.0, 0.0, 5.0, 800.0], dtype=torch.float64)
    for weight in (0.0, 1e-300, 1e-8, 0.7, 40.0):
        w = torch.full_like(x, weight).requires_grad_()
        at = x.clone().requires_grad_()
        value = el.log_exp_plus(at, w)
        slopes = torch.autograd.grad(value.sum(), [at, w])
        with mp.workdps(400):
            exact = [mp.log(mp.exp(mp.mpf(each)) + mp.mpf(weight)) for each in x.tolist()]
            shares = [float(mp.exp(mp.mpf(each) - e)) for each, e in zip(x.tolist(), exact, strict=True)]
            steep = [float(min(mp.exp(-e), mp.mpf(2) ** 1022)) for e in exact]
        np.testing.assert_allclose(value.detach(), [float(e) for e in exact], rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(slopes[0], shares, rtol=1e-12)
        np.testing.assert_allclose(slopes[1], steep, rtol=1e-12)
    w = torch.tensor([0.0, 0.3, 2.0], dtype=torch.float64, requires_grad=True)
    at = torch.tensor([-1.0, 0.4, 2.0], dtype=torch.float64, requires_grad=True)
    smooth = lambda x, w: el.log_exp_plus(x, w + 0.1)
    assert torch.autograd.gradcheck(smooth, (at, w)) and torch.autograd.gradgradcheck(smooth, (at, w))
