"""Fits against pyvinecopulib, scipy and the spread over samples; bad samples."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize

from cm2.book.checks import check
from cm2.copulas import make
from cm2.copulas.inference.estimation import pseudo_observations
from cm2.numerics.maximise import hessian_of, maximise, maximise_scalar
from tests.copulas.conftest import LEARNABLE, strong

ONE = {
    "gumbel": [1.05, 2.0, 12.0],
    "joe": [1.1, 3.0],
    "clayton": [0.1, 2.0, 15.0],
    "frank": [-6.0, 0.4, 20.0],
    "gaussian": [-0.8, 0.05, 0.95],
}
each_law = pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in ONE.items() for value in values])


def one(name, value):
    return make(name, 2, **{"rho" if name == "gaussian" else "alpha": value})


@each_law
@pytest.mark.parametrize("n", [200, 20_000])
def test_one_parameter_against_a_bounded_search(name, value, n):
    """Brent's method on the log-likelihood, from the law's own density."""
    u = one(name, value)().sample((n,))
    module = make(name, 2)
    report = module.fit(u)
    key, found = next(iter(report.parameters.items()))
    width = abs(value) * 0.8 if name != "gaussian" else 0.04
    bounds = {
        "gumbel": (1.0, value + width),
        "joe": (1.0, value + width),
        "gaussian": (max(-0.9999, value - 0.3), min(0.9999, value + 0.3)),
    }
    low, high = bounds.get(name, (value - 1.2 * width, value + 1.2 * width))
    total = lambda x: one(name, x)(validate_args=False).log_prob(u).sum().item()
    best = optimize.minimize_scalar(lambda x: -total(x), bounds=(low, high), method="bounded", options={"xatol": 1e-9})
    assert report.converged and not report.at_boundary
    error = report.standard_errors[key]
    assert abs(found - best.x) < 1e-5 * error + 2e-7 * (1 + abs(value))  # Brent's own limit, the root of eps
    assert report.log_likelihood == pytest.approx(total(found), rel=1e-10, abs=1e-7)
    assert report.log_likelihood >= -best.fun - 1e-7 * (1 + abs(best.fun))
    assert getattr(module, key).item() == found
    # the observed information is the second difference of the log-likelihood
    step = 0.02 * error
    information = -(total(found + step) - 2 * total(found) + total(found - step)) / step**2
    assert error == pytest.approx(1 / math.sqrt(information), rel=2e-3)


@each_law
def test_one_parameter_against_pyvinecopulib(name, value):
    peer = pytest.importorskip("pyvinecopulib")
    u = one(name, value)().sample((3000,))
    bicop = peer.Bicop(family=getattr(peer.BicopFamily, name))
    bicop.fit(np.asfortranarray(u.numpy()))
    report = make(name, 2).fit(u)
    key, found = next(iter(report.parameters.items()))
    # its search stops at a relative 1e-4 or so: far below the standard error, and never at a higher likelihood
    assert found == pytest.approx(bicop.parameters[0, 0], abs=1e-2 * report.standard_errors[key])
    assert report.log_likelihood >= bicop.loglik(np.asfortranarray(u.numpy())) - 1e-6 * abs(report.log_likelihood)


@pytest.mark.parametrize("method", ["maximum_likelihood", "kendall_tau"])
@pytest.mark.parametrize(("name", "value"), [("gumbel", 1.6), ("clayton", 1.0), ("frank", -3.0), ("gaussian", 0.5)])
def test_standard_errors_are_the_spread(name, value, method):
    law, module, n = one(name, value)(), make(name, 2), 250 if method == "kendall_tau" else 150
    reports = [module.fit(law.sample((300,)), method) for _ in range(n)]
    key = "rho" if name == "gaussian" else "alpha"
    found = np.array([each.parameters[key] for each in reports])
    errors = np.array([each.standard_errors[key] for each in reports])
    check("the mean standard error", errors.mean(), near=found.std(), standard_error=found.std() / math.sqrt(2 * n))
    check("the mean estimate", found.mean(), near=value, standard_error=found.std() / math.sqrt(n), relative=0.03)


@pytest.mark.parametrize("dim", [3, 5])
@pytest.mark.parametrize("name", LEARNABLE)
def test_more_dimensions(name, dim):
    truth, module = strong(name, dim), make(name, dim)
    u = truth().sample((3000,))
    report = module.fit(u)
    assert report.converged and not report.at_boundary
    for key in truth.shown:
        check(
            f"the estimate of {key}",
            getattr(module, key),
            near=getattr(truth, key),
            standard_error=report.standard_errors[key],
            within=1e-12,
        )
    law = module(validate_args=False)
    assert report.log_likelihood == pytest.approx(law.log_prob(u).sum().item(), rel=1e-9)
    # the score vanishes
    law.log_prob(u).mean().backward()
    assert max(each.grad.abs().max().item() for each in module.parameters()) < 1e-6
    assert report.log_likelihood >= make(name, dim).fit(u, "kendall_tau").log_likelihood
    k = sum(each.numel() for each in module.parameters())
    assert report.aic == pytest.approx(2 * k - 2 * report.log_likelihood)
    assert report.bic == pytest.approx(k * math.log(3000) - 2 * report.log_likelihood)


def test_gaussian_correlations_and_their_errors():
    """In the plane the information is known: n (1 + ρ²)/(1 - ρ²)² (the margins being known)."""
    u = make("gaussian", 2, rho=0.6)().sample((50_000,))
    report = make("gaussian", 2).fit(u)
    rho = report.parameters["rho"]
    assert report.standard_errors["rho"] == pytest.approx((1 - rho**2) / math.sqrt(50_000 * (1 + rho**2)), rel=0.02)
    z = torch.special.ndtri(u)
    score = 50_000 * rho * (1 - rho**2) + (1 + rho**2) * (z[:, 0] * z[:, 1]).sum() - rho * z.square().sum()
    assert abs(score) < 1e-6 * 50_000


def test_student_against_pyvinecopulib_and_its_information():
    peer = pytest.importorskip("pyvinecopulib")
    u = make("student", 2, rho=0.5, nu=4.0)().sample((1500,))
    bicop = peer.Bicop(family=peer.BicopFamily.student)
    bicop.fit(np.asfortranarray(u.numpy()))
    report = make("student", 2).fit(u)
    for name, other in zip(("rho", "nu"), bicop.parameters[:, 0], strict=True):
        assert report.parameters[name] == pytest.approx(other, abs=1e-2 * report.standard_errors[name])
    assert report.log_likelihood >= bicop.loglik(np.asfortranarray(u.numpy())) - 1e-6
    # second differences in the natural parameters
    place = np.array([report.parameters["rho"], report.parameters["nu"]])
    step = 0.05 * np.array([report.standard_errors["rho"], report.standard_errors["nu"]])
    total = lambda x: make("student", 2, rho=x[0], nu=x[1])(validate_args=False).log_prob(u).sum().item()
    cross = lambda a, b: sum(s * t * total(place + s * step * a + t * step * b) for s in (-1, 1) for t in (-1, 1)) / 4
    first, second = np.eye(2)
    information = -np.array([[cross(a, b) for a in (first, second)] for b in (first, second)]) / np.outer(step, step)
    expected = np.sqrt(np.diag(np.linalg.inv(information)))
    np.testing.assert_allclose([report.standard_errors["rho"], report.standard_errors["nu"]], expected, rtol=1e-2)


def test_normal_data_leave_the_degrees_of_freedom_open():
    u = make("gaussian", 2, rho=0.5)().sample((400,))
    report, normal = make("student", 2).fit(u), make("gaussian", 2).fit(u)
    assert report.log_likelihood >= normal.log_likelihood - 1e-4
    if report.at_boundary:
        assert math.isnan(report.standard_errors["nu"]) and report.parameters["nu"] > 100
        assert report.standard_errors["rho"] == pytest.approx(normal.standard_errors["rho"], rel=0.05)


def test_inversion_of_tau_is_the_map():
    u = make("clayton", 2, alpha=2.0)().sample((500,))
    from scipy import stats

    tau = stats.kendalltau(u[:, 0], u[:, 1]).statistic
    report = make("clayton", 2).fit(u, method="kendall_tau")
    assert report.parameters["alpha"] == pytest.approx(2 * tau / (1 - tau), rel=1e-12)
    assert report.method == "kendall_tau"


@pytest.mark.parametrize("method", ["maximum_likelihood", "kendall_tau"])
@pytest.mark.parametrize("name", ["gumbel", "joe", "clayton"])
def test_negative_dependence_lies_on_the_boundary(name, method):
    u = make("gaussian", 2, rho=-0.5)().sample((400,))
    report = make(name, 2).fit(u, method)
    assert report.at_boundary
    assert math.isnan(report.standard_errors["alpha"])
    assert report.log_likelihood == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", LEARNABLE)
def test_a_comonotone_sample_is_reported(name):
    column = torch.rand(100, 1)
    report = make(name, 2).fit(column.expand(100, 2))
    assert report.at_boundary
    assert report.log_likelihood > 500


def test_a_fit_needs_no_gradients_of_the_caller():
    u = make("gumbel", 2, alpha=2.0)().sample((200,))
    wanted = make("gumbel", 2).fit(u, ranks=True)
    with torch.no_grad():
        assert make("gumbel", 2).fit(u, ranks=True) == wanted


def test_independence_has_nothing_to_fit():
    report = make("independence", 3).fit(torch.rand(50, 3))
    assert (report.log_likelihood, report.n_parameters, report.parameters) == (0, 0, {})


@pytest.mark.parametrize("name", LEARNABLE)
def test_single_precision_modules_are_fitted_in_double(name):
    u = strong(name, 2)().sample((500,))
    single, double = make(name, 2).float(), make(name, 2)
    first, second = single.fit(u), double.fit(u)
    assert first.parameters == pytest.approx(second.parameters, rel=1e-6)  # the starting values are rounded
    assert all(each.dtype == torch.float32 for each in single.parameters())


@pytest.mark.parametrize(
    ("u", "message"),
    [
        (torch.rand(10), r"u has shape \(10,\); give a sample \(n, 2\)"),
        (torch.rand(10, 3), r"u has shape \(10, 3\); give a sample \(n, 2\)"),
        (torch.rand(4, 2), r"u has 4 rows; a fit of 1 parameters needs at least 5"),
        (torch.tensor([[0.2, 0.3]] * 4 + [[0.1, float("nan")]]), r"column 1 of u holds NaN"),
        (torch.tensor([[0.2, 0.3]] * 4 + [[0.1, 1.0]]), r"column 1 of u holds 1, outside \(0, 1\); map data to uniforms"),
        (torch.tensor([[0.2, 0.3]] * 4 + [[-0.1, 0.5]]), r"column 0 of u holds -0.1"),
        (torch.tensor([[0.2, 0.3]] * 4 + [[0.2, 0.5]]), r"column 0 of u is constant \(0.2\)"),
    ],
)
@pytest.mark.parametrize("method", ["maximum_likelihood", "kendall_tau"])
def test_samples_are_checked(u, message, method):
    with pytest.raises(ValueError, match=message):
        make("gumbel", 2).fit(u, method)


def test_other_refusals():
    u = torch.rand(50, 2)
    with pytest.raises(ValueError, match=r"unknown method 'moments'; choose one of maximum_likelihood, kendall_tau"):
        make("gumbel", 2).fit(u, "moments")
    with pytest.raises(ValueError, match=r"parameters of batch shape \(3,\); fit them one by one"):
        make("gumbel", 2, alpha=torch.tensor([1.0, 2.0, 3.0])).fit(u)
    with pytest.raises(ValueError, match=r"no parameter that Kendall's tau would determine"):
        make("independence", 2).fit(u, "kendall_tau")


def test_pseudo_observations():
    x = torch.tensor([[3.0, 1.0], [1.0, 1.0], [2.0, 5.0]])
    torch.testing.assert_close(pseudo_observations(x), torch.tensor([[0.75, 0.375], [0.25, 0.375], [0.5, 0.75]]))
    with pytest.raises(ValueError, match=r"x holds NaN"):
        pseudo_observations(torch.tensor([[1.0, torch.nan]]))
    with pytest.raises(ValueError, match=r"x has shape \(3,\)"):
        pseudo_observations(torch.rand(3))


@pytest.mark.parametrize("start", [-7.0, 0.0, 1.3, 8.0])
def test_scalar_maximum(start):
    calls = []

    def function(x):
        calls.append(x)
        return -math.cosh(x - 1.2), -math.sinh(x - 1.2)

    found = maximise_scalar(function, start, -10.0, 10.0)
    assert found.point == pytest.approx(1.2, abs=1e-9)
    assert found.value == pytest.approx(-1, abs=1e-12)
    assert found.curvature == pytest.approx(-1, abs=1e-5)
    assert found.converged and found.evaluations == len(calls) <= 14


def test_scalar_maximum_at_the_end_and_without_digits():
    found = maximise_scalar(lambda x: (-x, -1.0), 0.5, 0.0, 10.0)
    assert found.at_boundary and found.point == 0
    with pytest.raises(FloatingPointError, match=r"slope nan at 0.5"):
        maximise_scalar(lambda x: (x, math.nan), 0.5, 0.0, 10.0)


def test_maximum_of_several():
    matrix, peak = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([0.3, -2.0])
    function = lambda x: (-(x - peak) @ matrix @ (x - peak) / 2, -matrix @ (x - peak))
    plain, informed = maximise(function, np.zeros(2)), maximise(function, np.zeros(2), hessian=-matrix)
    for found in (plain, informed):
        np.testing.assert_allclose(found.point, peak, atol=1e-6)
        assert found.converged
    assert informed.evaluations <= 3
    np.testing.assert_allclose(hessian_of(lambda x: function(x)[1], peak), -matrix, atol=1e-8)
