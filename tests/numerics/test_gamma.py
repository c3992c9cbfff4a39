"""Incomplete gamma tails and their inverse against mpmath, in both tails and far beyond underflow."""

import mpmath
import pytest
import torch

from cm2.numerics.gamma import inverse_log_gamma_tails, log_gamma_tails

SHAPES = (1, 2, 16, 256)
POINTS = torch.logspace(-8, 5, 53, dtype=torch.float64)


def _oracle(shape: int, t: float) -> tuple[float, float]:
    with mpmath.workdps(60):
        t = mpmath.mpf(t)
        density = mpmath.exp((shape - 1) * mpmath.log(t) - t - mpmath.loggamma(shape))
        term, terms = mpmath.mpf(1), [mpmath.mpf(1)]
        for n in range(1, shape):
            term *= (shape - n) / t
            terms.append(term)
        upper = density * mpmath.fsum(terms)
        lower = density * t / shape * mpmath.hyp1f1(1, shape + 1, t) if upper > 0.9 else 1 - upper
        log_q = mpmath.log(upper) if upper < 0.5 else mpmath.log1p(-lower)
        log_p = mpmath.log(lower) if lower < 0.5 else mpmath.log1p(-upper)
        return float(log_q), float(log_p)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_log_tails_agree_with_mpmath(shape):
    points = torch.cat([POINTS, shape * torch.linspace(0.2, 5, 41, dtype=torch.float64)])
    log_q, log_p = log_gamma_tails(shape, points)
    for t, q, p in zip(points.tolist(), log_q.tolist(), log_p.tolist(), strict=True):
        true_q, true_p = _oracle(shape, t)
        assert q == pytest.approx(true_q, rel=2e-12, abs=1e-300), t
        assert p == pytest.approx(true_p, rel=2e-12, abs=1e-300), t


@pytest.mark.parametrize("shape", SHAPES)
def test_tails_are_monotone_across_the_change_of_method(shape):
    t = torch.logspace(-3, 4.5, 20_000, dtype=torch.float64)
    log_q, log_p = log_gamma_tails(shape, t)
    assert (log_q.diff() <= 0).all()
    assert (log_p.diff() >= 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_of_the_tails(shape):
    points = torch.cat([shape * torch.tensor([0.3, 0.9, 1.0, 1.5, 3.0]), torch.tensor([0.05])]).double().requires_grad_()
    torch.autograd.gradcheck(lambda t: log_gamma_tails(shape, t), points, eps=1e-7, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_finite_and_right_where_the_probability_underflows(shape):
    t = torch.tensor([shape * 1e-7, 1e5], dtype=torch.float64, requires_grad=True)
    log_q, log_p = log_gamma_tails(shape, t)
    (slope,) = torch.autograd.grad(log_p[0] + log_q[1], t)
    assert slope[0].item() == pytest.approx(shape / t[0].item(), rel=1e-6)
    assert slope[1].item() == pytest.approx(-1.0, rel=3e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_inverse_recovers_the_argument(shape):
    t = torch.cat([POINTS, shape * torch.linspace(0.2, 5, 41, dtype=torch.float64)])
    back = inverse_log_gamma_tails(shape, *log_gamma_tails(shape, t))
    assert ((back - t) / t).abs().max() < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", [1e-12, 1e-3, 0.5, 3.0, 50.0, 1e4, 1e6])
def test_inverse_from_either_tail(shape, depth):
    small = torch.tensor([-depth], dtype=torch.float64)
    other = torch.log(-torch.expm1(small))
    for log_q, log_p in ((small, other), (other, small)):
        t = inverse_log_gamma_tails(shape, log_q, log_p)
        if t.item() > 1e-300:
            again = log_gamma_tails(shape, t)
            assert torch.where(log_q < log_p, again[0] - log_q, again[1] - log_p).item() == pytest.approx(0, abs=1e-9 * max(1.0, depth))


@pytest.mark.parametrize("shape", SHAPES)
def test_implicit_gradient_of_the_inverse(shape):
    logit = torch.tensor([-30.0, -4.0, -0.3, 0.4, 2.0, 30.0], dtype=torch.float64, requires_grad=True)
    sigmoid = torch.nn.functional.logsigmoid
    torch.autograd.gradcheck(lambda x: inverse_log_gamma_tails(shape, sigmoid(x), sigmoid(-x)), logit, eps=1e-6, rtol=1e-5)


def test_single_precision_keeps_its_type_and_stays_finite():
    t = torch.tensor([1e-6, 200.0, 1e5], requires_grad=True)
    log_q, log_p = log_gamma_tails(256, t)
    assert log_q.dtype == log_p.dtype == torch.float32
    (log_q[1:].sum() + log_p[:2].sum()).backward()
    assert torch.isfinite(t.grad).all()
    assert inverse_log_gamma_tails(256, log_q.detach(), log_p.detach()).dtype == torch.float32


@pytest.mark.parametrize("shape", [0, -1, 2.0])
def test_refuses_a_shape_that_is_not_a_positive_integer(shape):
    with pytest.raises(ValueError, match="integer >= 1"):
        log_gamma_tails(shape, torch.ones(1))
