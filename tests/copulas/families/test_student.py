"""What the t copula has that the others do not, and the orthant probabilities it shares with the Gaussian."""

import math

import pytest
import torch
from scipy import stats

from cm2.book.checks import check
from cm2.copulas import StudentDistribution, make
from tests.copulas.conftest import check_slopes, slope

CORRELATION = torch.tensor([[1.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 1.0]], dtype=torch.float64)


def points(n, dim):
    return torch.rand(n, dim) * 0.96 + 0.02


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"nu": 0.0}, r"student nu is 0; it must lie in \(0, inf\)"),
        ({"nu": -2}, r"student nu is -2"),
        ({"nu": float("nan")}, r"student nu is nan"),
        ({"nu": torch.tensor([3.0, -1.0])}, r"student nu is -1"),
        ({"rho": -1.0}, r"rho is -1; it must lie in \(-1, 1\)"),
        ({"correlation": CORRELATION}, r"correlation has shape \(3, 3\); give a matrix \(2, 2\)"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        make("student", 2, **parameters)


def test_parameters():
    module = make("student", 3, correlation=CORRELATION, nu=4)
    assert module.nu.item() == pytest.approx(4)
    torch.testing.assert_close(module.correlation, CORRELATION)
    assert "nu=4.0" in repr(module)
    assert make("student", 2, rho=torch.tensor([0.1, 0.2]), nu=3.0)().batch_shape == (2,)
    assert make("student", 2, rho=0.1, nu=torch.tensor([2.0, 3.0, 4.0]))().batch_shape == (3,)
    assert make("student", 2, kendall_tau=0.4, nu=5.0)().kendall_tau.item() == pytest.approx(0.4)


@pytest.mark.parametrize("dim", [2, 3])
def test_many_degrees_of_freedom_are_the_gaussian_copula(dim):
    matrix = CORRELATION[:dim, :dim]
    gaussian, u = make("gaussian", dim, correlation=matrix)(), points(50, dim)
    for nu, tolerance in ((1e4, 1e-2), (1e7, 1e-5), (1e12, 1e-3)):
        student = make("student", dim, correlation=matrix, nu=nu)()
        torch.testing.assert_close(student.log_prob(u), gaussian.log_prob(u), rtol=0, atol=tolerance)
    student = make("student", dim, correlation=matrix, nu=1e7)()
    torch.testing.assert_close(student.cdf(u), gaussian.cdf(u), rtol=0, atol=1e-6 if dim == 2 else 1e-4)
    if dim == 2:
        torch.testing.assert_close(student.h(u), gaussian.h(u), rtol=0, atol=1e-6)
        assert student.spearman_rho.item() == pytest.approx(gaussian.spearman_rho.item(), abs=1e-6)


def test_the_cauchy_copula_in_closed_form():
    """nu = 1: quantiles are tangents; nu = 2, and with them h, are algebraic."""
    u = torch.cat([points(40, 2), torch.tensor([[1e-9, 1e-12], [1e-12, 1 - 1e-12], [0.5, 0.5]])])
    x, y = torch.tan(math.pi * (u - 0.5)).unbind(-1)
    rho = 0.7
    form = (x * x - 2 * rho * x * y + y * y) / (1 - rho * rho)
    expected = math.log(math.pi / 2) - 0.5 * math.log(1 - rho * rho) - 1.5 * torch.log1p(form) + torch.log1p(x * x) + torch.log1p(y * y)
    law = make("student", 2, rho=rho, nu=1.0)()
    torch.testing.assert_close(law.log_prob(u)[:40], expected[:40], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(law.log_prob(u), expected, rtol=1e-5, atol=1e-5)
    s = math.sqrt(2) * (x - rho * y) / torch.sqrt((1 - rho * rho) * (1 + y * y))
    torch.testing.assert_close(law.h(u)[:40], (0.5 + s / (2 * torch.sqrt(2 + s * s)))[:40], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("nu", "rho"), [(0.6, -0.95), (0.6, 0.6), (1.5, 0.0), (4.0, -0.95), (4.0, 0.6), (30.0, 0.0)])
def test_cdf_and_its_derivatives(nu, rho):
    u = torch.tensor([[0.3, 0.7], [0.5, 0.5], [0.02, 0.04], [0.98, 0.9], [0.1, 0.9], [0.4, 0.600001]])
    one = torch.tensor(rho / math.sqrt((1 - rho) * (1 + rho)), requires_grad=True), torch.tensor(nu, requires_grad=True)
    raw, nu_ = (each.detach().expand(len(u)) for each in one)

    def law(raw, nu):
        row = torch.stack([raw, torch.ones_like(raw)], -1) / torch.sqrt(1 + raw * raw).unsqueeze(-1)
        return StudentDistribution(torch.stack([torch.eye(2)[0].expand_as(row), row], -2), nu)

    value = lambda u, raw, nu: law(raw, nu).cdf(u)
    check_slopes(value, u, raw, nu_, rtol=1e-4)
    for place in range(3):
        check_slopes(slope(lambda u, raw: value(u, raw, torch.full_like(raw, nu)), place), u, raw, rtol=1e-4, atol=1e-6)
    check_slopes(lambda *a: law(*a[1:]).h(a[0]), u, raw, nu_)
    check_slopes(lambda *a: law(*a[1:]).h_inverse(*a[0].unbind(-1)), u, raw, nu_)
    for place in range(4):
        check_slopes(slope(lambda *a: law(*a[1:]).log_prob(a[0]), place), u, raw, nu_)
    # one law for all points: their gradients add up
    assert torch.autograd.gradcheck(lambda *a: value(u, *a), one, rtol=1e-4)
    (in_nu,) = torch.autograd.grad(value(u, *one).sum(), one[1], create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        in_nu.backward()


def test_cdf_against_scipy():
    u = torch.tensor([0.15, 0.6])
    law = make("student", 2, rho=-0.4, nu=3.0)()
    reference = stats.multivariate_t(shape=[[1, -0.4], [-0.4, 1]], df=3).cdf(stats.t(3).ppf(u.numpy()), maxpts=2_000_000)
    assert law.cdf(u).item() == pytest.approx(reference, abs=2e-5)


@pytest.mark.parametrize("name", ["gaussian", "student"])
@pytest.mark.parametrize("dim", [3, 5])
def test_orthant_probabilities_and_their_error(name, dim):
    place = torch.arange(dim, dtype=torch.float64)
    matrix = CORRELATION if dim == 3 else 0.6 ** (place[:, None] - place).abs()
    law = make(name, dim, correlation=matrix)()
    half = torch.full((dim,), 0.5)
    if dim == 3:  # the same for every elliptical law
        angles = torch.asin(torch.stack([matrix[0, 1], matrix[0, 2], matrix[1, 2]])).sum().item()
        value, error = law.cdf_with_error(half)
        assert 0 < error < 1e-5
        check("the orthant probability", value, near=1 / 8 + angles / (4 * math.pi), standard_error=error, within=1e-9)
    u = torch.cat([points(6, dim), half[None]])
    u[1, 0], u[2, 1], u[3] = 1.0, 0.0, 1.0
    value, error = law.cdf_with_error(u)
    assert torch.equal(value, law.cdf(u))
    assert (error < (1e-5 if dim == 3 else 1e-4)).all()
    assert value[2] == error[2] == 0
    torch.testing.assert_close(value[3].item(), 1.0)
    kept = torch.ones(dim, dtype=torch.bool)
    kept[0] = False
    torch.testing.assert_close(value[1], law.marginalise(kept).cdf(u[1, 1:]), rtol=0, atol=5e-5)
    pair = make(name, 2, rho=0.5)()
    assert (pair.cdf_with_error(points(3, 2))[1] == 0).all()


def test_tail_dependence_matrix_and_limit():
    law = make("student", 3, correlation=CORRELATION, nu=2.5)()
    lower, upper = law.tail_dependence
    assert torch.equal(lower, upper)
    assert torch.equal(lower.diagonal(), torch.ones(3))
    t = torch.tensor(1e-10)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        pair = make("student", 2, rho=CORRELATION[i, j], nu=2.5)()
        assert lower[i, j].item() == pytest.approx(pair.tail_dependence[0].item(), rel=1e-12)
        assert lower[j, i].item() == pytest.approx((pair.cdf(torch.stack([t, t])) / t).item(), rel=1e-6)


def test_one_nu_and_many_points_agree_with_one_nu_per_point():
    u = torch.cat([points(6000, 2), torch.tensor([[1e-12, 1 - 1e-12], [1e-12, 1e-12], [0.5, 0.5], [1e-200, 0.3]])])
    for nu, rho in ((1.0, -0.9999), (4.5, 0.3), (50.0, 0.9999)):
        one, many = make("student", 2, rho=rho, nu=nu)(), make("student", 2, rho=rho, nu=torch.full((len(u),), nu))()
        torch.testing.assert_close(one.log_prob(u), many.log_prob(u), rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(one.h(u), many.h(u), rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(one.h_inverse(*u.unbind(-1)), many.h_inverse(*u.unbind(-1)), rtol=1e-9, atol=1e-11)


def test_a_network_may_predict_the_parameters():
    raw, log_nu, u = torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True), points(5, 2)

    def one(raw, log_nu, u):
        row = torch.stack([raw, torch.ones_like(raw)]) / torch.sqrt(1 + raw * raw)
        return StudentDistribution(torch.stack([torch.eye(2)[0], row]), torch.exp(log_nu), validate_args=False).log_prob(u)

    by_vmap = torch.func.vmap(torch.func.grad(one, argnums=(0, 1, 2)))(raw, log_nu, u)
    for k in range(5):
        alone = torch.func.grad(one, argnums=(0, 1, 2))(raw[k], log_nu[k], u[k])
        for left, right in zip(by_vmap, alone, strict=True):
            torch.testing.assert_close(left[k], right)


def test_draws_are_differentiable_in_the_degrees_of_freedom():
    log_nu = torch.tensor(1.2, requires_grad=True)
    factor = torch.linalg.cholesky(CORRELATION)
    moment = lambda law: (law.rsample((200_000,)) - 0.5).abs().prod(-1)
    (grad,) = torch.autograd.grad(moment(StudentDistribution(factor, torch.exp(log_nu))).mean(), log_nu)
    ends = [moment(StudentDistribution(factor, torch.exp(log_nu.detach() + step))) for step in (0.4, -0.4)]
    error = math.sqrt(sum(end.var().item() for end in ends) / 200_000) / 0.8
    difference = (ends[0].mean() - ends[1].mean()) / 0.8
    check("the gradient in log nu", grad, near=difference.detach(), standard_error=error, within=1e-4)


@pytest.mark.parametrize(("nu", "rho"), [(1.0, -0.3), (4.3, 0.5), (30.0, 0.99)])
def test_spearman_rho_as_a_mean_over_the_mixing_variables(nu, rho):
    """6/pi E asin(rho g1 / sqrt((g1 + g2)(g1 + g3))) with 1/g independent gamma variables (Heinen and Valdesogo 2020)."""
    step = torch.linspace(-3.2, 3.2, 61)
    inner = math.pi / 2 * torch.sinh(step)
    node, weight = torch.sigmoid(2 * inner), math.pi * torch.cosh(step) * torch.sigmoid(2 * inner) * torch.sigmoid(-2 * inner) * 6.4 / 60
    gamma = torch.from_numpy(stats.gamma(nu / 2).ppf(node.numpy()))
    keep = (gamma > 0) & gamma.isfinite()
    g, weight = 1 / gamma[keep], weight[keep]
    first, second, third = g[:, None, None], g[:, None], g
    value = torch.asin(rho * first / torch.sqrt((first + second) * (first + third)))
    expected = 6 / math.pi * torch.einsum("ijk,i,j,k->", value, weight, weight, weight)
    assert make("student", 2, rho=rho, nu=nu)().spearman_rho.item() == pytest.approx(expected.item(), abs=1e-9)
