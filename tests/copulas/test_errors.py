"""Bad input: one error that names the thing, the value and the remedy."""

import pytest
import torch

from cm2.copulas import FAMILIES, Copula, make
from cm2.copulas.families.archimedean import ArchimedeanDistribution
from cm2.copulas.families.elliptical import EllipticalDistribution
from cm2.copulas.families.gumbel import GumbelDistribution

LAW = make("gumbel", 2, alpha=2.0)


@pytest.mark.parametrize(
    ("name", "dim", "parameters", "message"),
    [
        ("galambos", 2, {}, r"unknown copula 'galambos'; choose one of clayton, frank"),
        ("gumbel", 1, {}, r"dim is 1; a copula needs an integer dim of at least 2"),
        ("gumbel", 2, {"rho": 0.1}, r"the gumbel copula has no parameter 'rho'; it takes alpha"),
        ("independence", 2, {"alpha": 1.0}, r"no parameter 'alpha'; it takes none"),
        ("gumbel", 2, {"alpha": 0.5}, r"gumbel alpha is 0.5; it must lie in \[1, inf\)"),
        ("gumbel", 2, {"alpha": float("nan")}, r"gumbel alpha is nan"),
        ("clayton", 2, {"alpha": 0.0}, r"clayton alpha is 0; it must lie in \(0, inf\)"),
        ("clayton", 3, {"alpha": torch.tensor([1.0, -2.0])}, r"clayton alpha is -2"),
        ("frank", 2, {"alpha": 0}, r"frank alpha is 0; it must lie in \(-inf, 0\) or \(0, inf\)"),
        ("frank", 3, {"alpha": -1.0}, r"frank alpha in dim 3 is -1; it must lie in \(0, inf\)"),
        ("gaussian", 2, {"rho": 1.0}, r"rho is 1; it must lie in \(-1, 1\)"),
        ("gaussian", 3, {"rho": 0.5}, r"for dim 3 give correlation, a matrix \(3, 3\)"),
        ("gaussian", 3, {"correlation": torch.eye(2)}, r"correlation has shape \(2, 2\); give a matrix \(3, 3\)"),
        ("gaussian", 3, {"correlation": 2 * torch.eye(3)}, r"unit diagonal"),
        ("gaussian", 3, {"correlation": 1.6 * torch.eye(3) - 0.6}, r"not positive definite, its smallest eigenvalue is -0.2"),
    ],
)
def test_make_refuses(name, dim, parameters, message):
    with pytest.raises(ValueError, match=message):
        make(name, dim, **parameters)


@pytest.mark.parametrize("method", ["log_prob", "cdf", "h"])
def test_points_are_checked(method):
    call = getattr(LAW(), method)
    with pytest.raises(ValueError, match=r"shape \(4, 3\); the last dimension must be 2"):
        call(torch.rand(4, 3))
    with pytest.raises(ValueError, match=r"u holds NaN; mark missing"):
        call(torch.tensor([0.2, torch.nan]))
    with pytest.raises(ValueError, match=r"u holds 1.5, outside [\(\[]0, 1[\)\]]; map values"):
        call(torch.tensor([0.2, 1.5]))


def test_the_boundary_has_a_meaning():
    law = LAW()
    edge = torch.tensor([[0.0, 0.5], [0.5, 1.0], [0.3, 0.5]])
    assert law.log_prob(edge).tolist()[:2] == [-torch.inf, -torch.inf]
    torch.testing.assert_close(law.log_prob(edge)[2], law.log_prob(edge[2]))
    absent = torch.tensor([[False, True], [True, False], [True, True]])
    assert (law.log_prob(edge, absent)[:2] == 0).all()
    assert law.cdf(torch.tensor([[0.0, 0.5], [1.0, 0.5], [1.0, 1.0]])).tolist() == pytest.approx([0, 0.5, 1])
    assert law.h(torch.tensor([[0.0, 0.5], [1.0, 0.5]])).tolist() == [0, 1]
    assert law.h_inverse(torch.tensor([0.0, 1.0]), torch.tensor(0.5)).tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"condition on is exactly 1; it must lie in \(0, 1\)"):
        law.h(torch.tensor([0.5, 1.0]))
    with pytest.raises(ValueError, match=r"condition on is exactly 0"):
        law.h_inverse(torch.tensor(0.5), torch.tensor(0.0))
    with pytest.raises(ValueError, match=r"condition on is exactly 0"):
        law.conditional_sample(torch.tensor([0.0, 0.5]), torch.tensor([True, False]))


def test_masks_are_checked():
    u = torch.rand(4, 2)
    with pytest.raises(ValueError, match=r"present has dtype torch.int64 and shape \(4, 2\); give a bool mask"):
        LAW().log_prob(u, torch.ones(4, 2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"give a bool mask of shape \(2,\)"):
        LAW().marginalise(torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"marks no coordinate"):
        LAW().marginalise(torch.zeros(2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"n_draws is 0; ask for at least one"):
        LAW().conditional_sample(u, torch.ones(4, 2, dtype=torch.bool), 0)


def test_pair_functions_refuse_more_dimensions():
    law = make("clayton", 3)()
    with pytest.raises(ValueError, match=r"h is defined for dim 2, this copula has dim 3; marginalise"):
        law.h(torch.rand(3))
    with pytest.raises(ValueError, match=r"h_inverse is defined for dim 2"):
        law.h_inverse(torch.rand(3), torch.rand(3))


def test_a_family_that_forgets_a_method_cannot_be_made():
    with pytest.raises(TypeError, match=r"abstract class Copula .*forward"):
        Copula(2)
    with pytest.raises(TypeError, match=r"abstract class EllipticalDistribution .*_cdf_and_error"):
        EllipticalDistribution(torch.eye(2))
    for forgotten in sorted(ArchimedeanDistribution.__abstractmethods__):
        family = type("Forgetful", (GumbelDistribution,), {forgotten: getattr(ArchimedeanDistribution, forgotten)})
        with pytest.raises(TypeError, match=rf"abstract class Forgetful .*method {forgotten}$"):
            family(torch.tensor(2.0), 2)


def test_every_family_is_named():
    assert {"independence", "gumbel", "frank", "clayton", "joe", "gaussian"} <= set(FAMILIES)
    assert all(FAMILIES[name].name == name for name in FAMILIES)
