"""The paper's joint as printed: the formula itself, where it is a density and where it is none, what cannot be drawn from it."""

import math

import pytest
import torch

from cm2.book.checks import check
from cm2.copulas import make
from cm2.joint import CopulaJoint
from cm2.joint.links import ALL_LINKS, LINKS
from cm2.marginals import GaussianMixture
from tests.joint.laws import FAMILIES, copula, joint, mixture


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_printed_formula(family):
    """Density of the family at the products of normal distribution functions, mixed by the weights, in ordinary floats."""
    law, z = joint(family, "paper", 3, modalities=3)(), torch.randn(6, 3, 3)
    mixed = law.link.mixture
    u = (mixed.log_weights.exp() * torch.special.ndtr(mixed.standardise(z)).prod(-1)).sum(-1)
    torch.testing.assert_close(u, mixed.cdf(z))
    torch.testing.assert_close(law.dependence(z), law.link.copula.log_prob(u), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(law.marginal_log_prob(z), mixed.log_prob(z))


@pytest.mark.parametrize("family", FAMILIES)
def test_for_scalars_it_is_sklars_theorem(family):
    """d = 1: the same density as the exact link."""
    printed, exact = joint(family, "paper", 1), joint(family, "scalar", 1)
    z = torch.randn(20, 2, 1)
    torch.testing.assert_close(printed().log_prob(z), exact().log_prob(z))


def _single(family, dim):
    return CopulaJoint(copula(family), [GaussianMixture(1, dim) for _ in range(2)], "paper")


def _integral_for_pairs(family, nodes=400):
    """d = 2, K = 1: F is a product of two uniforms, with density -log t, so the integral is that of c(s, t) log s log t."""
    t, weight = _legendre(nodes)
    s = torch.stack(torch.meshgrid(t, t, indexing="ij"), -1)
    density = copula(family)(validate_args=False).log_prob(s).exp().detach()
    return (weight[:, None] * weight * density * t.log()[:, None] * t.log()).sum().item()


def _legendre(nodes):
    import numpy as np

    x, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(nodes))
    return (x + 1) / 2, w / 2


@pytest.mark.parametrize(("family", "expected"), [("independence", 1.0), ("frank", 1.519), ("gaussian", 1.660)])
def test_for_vectors_it_does_not_integrate_to_one(family, expected):
    """By quadrature, and by the mean of c over independent draws of the margins; independence alone is a density."""
    integral = _integral_for_pairs(family)
    assert integral == pytest.approx(expected, abs=1e-3)
    model = _single(family, 2)
    with torch.no_grad():
        z = torch.stack([m().sample((100_000,)) for m in model.marginals], 1)
        c = model().dependence(z).exp()
    check("the mean of c over independent draws", c.mean(), near=integral, standard_error=c.std() / math.sqrt(len(c)), within=1e-3)


@pytest.mark.parametrize("dim", [1, 16, 256])
def test_the_distribution_function_of_a_vector_is_of_order_e_to_minus_d(dim):
    """log F is a sum of d exponential variables with a minus: mean -d, variance d, fourth central moment 3 d² + 6 d."""
    law, n = GaussianMixture(1, dim)(), 10_000
    log_f = law.log_cdf(law.sample((n,))).detach()
    check("the mean of log F", log_f.mean(), near=-dim, standard_error=math.sqrt(dim / n))
    check("the variance of log F", log_f.var(), near=dim, standard_error=math.sqrt((2 * dim**2 + 6 * dim) / n))


def test_both_tails_of_the_distribution_function():
    mixed = mixture(3)()
    far = torch.tensor([-30.0, -3.0, 0.0, 3.0, 9.0, 30.0])[:, None].expand(-1, 3)
    _, low, high = mixed.cdf_terms(far)
    torch.testing.assert_close(low, mixed.log_cdf(far), rtol=1e-6, atol=1e-12)
    torch.testing.assert_close((low.exp() + high.exp()), torch.ones(6))
    assert (high.diff() < 0).all() and (low.diff() >= 0).all() and low.isfinite().all() and high.isfinite().all()


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "independence"])
def test_single_precision_in_256_dimensions(family):
    torch.set_default_dtype(torch.float32)
    model = CopulaJoint(copula(family).float(), [mixture(256, seed=m).float() for m in range(2)], "paper")
    for scale in (1.0, 30.0, -30.0):
        z = (scale + torch.randn(8, 2, 256)).requires_grad_()
        value = model().log_prob(z)
        value.sum().backward()
        assert value.isfinite().all() and z.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in model.parameters())


def test_absent_modalities_leave_the_copulas_margin():
    law, z = joint("clayton", "paper", 3, modalities=3)(), torch.randn(4, 3, 3)
    present = torch.tensor([[True, False, True]] * 3 + [[False, True, False]])
    holes = z.masked_fill(~present[..., None], math.nan)
    pair = copula("clayton")()
    expected = pair.log_prob(law.link.mixture.cdf(z)[:3][:, [0, 2]])
    torch.testing.assert_close(law.dependence(holes, present), torch.cat((expected, torch.zeros(1))), rtol=1e-6, atol=1e-8)


def test_draws_are_marginal_or_none():
    law, z = joint("gumbel", "paper", 3)(), torch.randn(4, 2, 3)
    present = torch.tensor([[True, False]] * 4)
    assert law.impute(z, present, 3, how="marginal").shape == (3, 4, 2, 3)
    for draw in (lambda: law.impute(z, present), lambda: law.rsample((2,))):
        with pytest.raises(ValueError, match=r'is no law of several embeddings.*how="marginal", or use an exact link: component'):
            draw()


def test_it_is_not_among_the_exact_links():
    assert set(ALL_LINKS) - set(LINKS) == {"paper"}
    with pytest.raises(ValueError, match="component"):
        CopulaJoint(make("gumbel", 2), [GaussianMixture(2, 3)] * 2, "paper", types="joint")
