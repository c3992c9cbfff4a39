"""The vector link against what it must agree with: a multivariate normal, the dimension link, quadrature, draws."""

import math
from itertools import product

import pytest
import torch
from scipy import stats

from cm2.book.checks import FALSE_ALARM, check
from cm2.copulas import make
from cm2.copulas.conditional_mean import conditional_mean
from cm2.joint import CopulaJoint
from cm2.joint.directions import orthonormal
from cm2.marginals import GaussianMixture
from tests.joint.laws import CASES, FAMILIES, copula, joint, mixture

DIM = 3


def _gaussian_pair() -> tuple[CopulaJoint, torch.distributions.MultivariateNormal]:
    """One component, full covariances, Gaussian copulas along all directions; and the normal distribution of both embeddings."""
    rho = torch.tensor([0.9, 0.4, -0.3])
    factors = torch.eye(DIM) + 0.5 * torch.randn(2, DIM, DIM).tril(-1)
    means = torch.randn(2, DIM)
    marginals = [GaussianMixture.from_parameters([1.0], means[m, None], factors[m, None]) for m in range(2)]
    law = CopulaJoint(make("gaussian", 2, rho=rho), marginals, "vector", directions=DIM)
    directions = law.directions.detach()
    cross = factors[0] @ directions[0] @ torch.diag(rho) @ directions[1].T @ factors[1].T
    first, second = (factors @ factors.mT).unbind(0)
    covariance = torch.cat([torch.cat([first, cross], 1), torch.cat([cross.T, second], 1)])
    return law, torch.distributions.MultivariateNormal(means.flatten(), covariance)


def test_gaussian_with_all_directions_is_a_multivariate_normal():
    law, normal = _gaussian_pair()
    z = 2 * torch.randn(50, 2, DIM)
    torch.testing.assert_close(law().log_prob(z), normal.log_prob(z.flatten(1)))


def test_gaussian_conditional_is_that_of_the_multivariate_normal():
    law, normal = _gaussian_pair()
    covariance, mean = normal.covariance_matrix, normal.mean
    z, present = torch.randn(4, 2, DIM), torch.tensor([[True, False]] * 4)
    weights = covariance[DIM:, :DIM] @ torch.linalg.inv(covariance[:DIM, :DIM])
    expected = mean[DIM:] + (z[:, 0] - mean[:DIM]) @ weights.T
    found = law().conditional_mean(z, present)
    torch.testing.assert_close(found.mean[:, 1], expected)
    torch.testing.assert_close(found.mean[:, 0], z[:, 0], rtol=0, atol=0)
    assert found.error.abs().max() == 0
    n = 20_000
    with torch.no_grad():
        draws = law().impute(z[:1], present[:1], n)[:, 0, 1]
    residual = covariance[DIM:, DIM:] - weights @ covariance[:DIM, DIM:]
    scale = residual.diagonal().sqrt()
    check("the mean of conditional draws", draws.mean(0), near=expected[0], standard_error=scale / math.sqrt(n))
    error = torch.sqrt((residual.square() + scale[:, None].square() * scale.square()) / n)
    check("the covariance of conditional draws", torch.cov(draws.T), near=residual, standard_error=error)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "independence"])
@pytest.mark.parametrize("types", ["none", "independent"])
def test_along_the_coordinates_it_is_the_dimension_link(types, family):
    """Without labels for every mixture; with labels where there is one component."""
    marginals = [mixture(DIM, components=3 if types == "none" else 1, seed=m) for m in range(2)]
    law = CopulaJoint(copula(family), marginals, "vector", types, DIM)
    with torch.no_grad():
        law.raw_directions.copy_(torch.eye(DIM).expand(2, DIM, DIM))
    z = 2 * torch.randn(20, 2, DIM)
    present = torch.rand(20, 2) < 0.7
    present[:, 0] |= ~present.any(-1)
    expected = CopulaJoint(copula(family), marginals, "dimension")().log_prob(z, present)
    torch.testing.assert_close(law().log_prob(z, present), expected, rtol=1e-7, atol=1e-7)


TYPES = ("none", "independent", "joint")


@pytest.mark.parametrize("family", ["gumbel", "frank", "clayton", "gaussian", "student"])
@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("modalities", [2, 3])
def test_with_full_covariances_it_integrates_to_one(modalities, types, family):
    """Importance sampling from a milder law with the same margins and directions: the mean of f / q is 1."""
    options = {"modalities": modalities, "types": types, "full": True, "components": 2}
    law, n = joint(family, "vector", 4, **options)(), 10_000
    correlation = 0.65 * torch.eye(modalities) + 0.35 * torch.ones(modalities, modalities)
    mild = make("gaussian", modalities, **({"rho": 0.35} if modalities == 2 else {"correlation": correlation}))
    proposal = joint(family, "vector", 4, tie=mild, **options)()
    with torch.no_grad():
        z = proposal.sample((n,))
        ratio = (law.log_prob(z) - proposal.log_prob(z)).exp()
    error = (ratio.std() / math.sqrt(n)).item()
    assert error < 0.1
    check("the mean of f / q", ratio.mean(), near=1, standard_error=error)


@pytest.mark.parametrize(("types", "family"), [("none", "frank"), ("independent", "clayton"), ("joint", "gumbel")])
def test_redrawing_any_of_three_modalities_keeps_the_law(types, family):
    """Two-sample tests of each pattern's draws, along random directions of all embeddings and of the dependence term."""
    n, law = 20_000, joint(family, "vector", 3, modalities=3, types=types, full=True, components=2)()
    with torch.no_grad():
        z, fresh = law.sample((n,)), law.sample((n,))
        along = torch.randn(9, 4)
        view = lambda z: torch.cat([z.flatten(1) @ along, law.dependence(z)[:, None]], 1).T.numpy()
        expected, p = view(fresh), []
        for pattern in list(product([True, False], repeat=3))[1:]:
            present = torch.tensor(pattern).expand(n, 3)
            drawn = law.impute(torch.where(present[..., None], z, math.nan), present)[0] if any(pattern) else law.sample((n,))
            p += [stats.ks_2samp(a, b).pvalue for a, b in zip(view(drawn), expected, strict=True)]
    check("what is redrawn has the law it was drawn from", p, above=FALSE_ALARM)


def test_information_is_that_of_every_direction():
    """The mean dependence under the distribution itself: the sum over directions of -log(1 - rho^2) / 2."""
    rho, n = torch.tensor([0.9, 0.6]), 20_000
    law = CopulaJoint(make("gaussian", 2, rho=rho), [mixture(6, components=1, seed=m) for m in range(2)], "vector", directions=2)()
    with torch.no_grad():
        nats = law.dependence(law.sample((n,)))
    check("nats", nats.mean(), near=-0.5 * torch.log1p(-rho.square()).sum(), standard_error=nats.std() / math.sqrt(n))


@pytest.mark.parametrize(
    ("link", "types", "family"),
    [*((*case, family) for case in CASES for family in ("gumbel", "gaussian")), ("vector", "independent", "vine")],
)
def test_conditional_mean_is_the_mean_of_draws(link, types, family):
    # a vine integrates what is hidden between the observed ones numerically: one label, to be quick
    law = joint(family, link, DIM, modalities=3, types=types, components=1 if family == "vine" else 3)()
    with torch.no_grad():
        z = law.sample((4,))
        present = torch.tensor([[True, False, False], [True, True, False], [False, True, True], [True, True, True]])
        found = law.conditional_mean(torch.where(present[..., None], z, math.nan), present, n_draws=1_000)
        draws = law.impute(z, present, 4_000)
    torch.testing.assert_close(found.mean[present], z[present], rtol=0, atol=0)
    assert found.error[present].abs().max() == 0
    if link == "vector" and types != "none":
        assert found.error.max() < (1e-12 if family == "gaussian" else 1e-3)
    error = torch.sqrt(draws.var(0)[~present] / len(draws) + found.error[~present].square())
    check("conditional means", found.mean[~present], near=draws.mean(0)[~present], standard_error=error)


def test_a_list_of_copulas_is_one_with_a_batch_of_parameters():
    alphas = [1.5, 2.5]
    marginals = [mixture(DIM, seed=m) for m in range(2)]
    batched = CopulaJoint(make("gumbel", 2, alpha=torch.tensor(alphas)), marginals, "vector", directions=2)
    several = CopulaJoint([make("gumbel", 2, alpha=alpha) for alpha in alphas], marginals, "vector", directions=2)
    with torch.no_grad():
        several.raw_directions.copy_(batched.raw_directions)
        z, present = torch.randn(5, 2, DIM), torch.tensor([[True, True]] * 2 + [[True, False]] * 3)
        torch.testing.assert_close(several().log_prob(z), batched().log_prob(z))
        torch.testing.assert_close(several().log_prob(z, present), batched().log_prob(z, present))
        for one, other in zip(several().conditional_mean(z, present), batched().conditional_mean(z, present), strict=True):
            torch.testing.assert_close(one, other)
        drawn = several().impute(z[2:3].expand(4_000, 2, DIM), present[2:3].expand(4_000, 2))[0, :, 1]
        expected = batched().conditional_mean(z[2:3], present[2:3]).mean[0, 1]
    check("the mean of draws", drawn.mean(0), near=expected, standard_error=drawn.std(0) / math.sqrt(4_000))


def test_conditional_mean_has_a_gradient():
    for family in ("gumbel", "gaussian"):
        law = joint(family, "vector", 2)
        z, present = torch.randn(2, 2, 2), torch.tensor([[True, False], [False, True]])

        def mean(z, law=law, present=present):
            return law(validate_args=False).conditional_mean(z, present).mean[~present]

        torch.autograd.gradcheck(mean, z.requires_grad_(), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("x", [0.0, -3.0, 20.0])
@pytest.mark.parametrize("rho", [-0.5, 0.2, 0.95])
def test_quadrature_of_a_mean_agrees_with_the_closed_form(rho, x):
    law = make("gaussian", 2, rho=rho)()
    scores, present = torch.tensor([math.nan, x]), torch.tensor([False, True])
    mean, error = conditional_mean(law.log_prob_scores, scores, present)
    torch.testing.assert_close(mean, torch.tensor([rho * x, x]), rtol=0, atol=max(1e-9, 10 * float(error[0])))
    torch.testing.assert_close(law.conditional_mean_scores(scores, present)[0], torch.tensor([rho * x, x]))


@pytest.mark.parametrize("x", [0.0, -0.1, 1.05, -6.0])
@pytest.mark.parametrize(
    ("family", "parameters"), [("gaussian", {"rho": 0.9999}), ("gumbel", {"alpha": 40.0}), ("clayton", {"alpha": 60.0})]
)
def test_the_stated_error_bounds_that_of_a_narrow_conditional(family, parameters, x):
    """Nearly comonotone, the missing score lies between two nodes of the quadrature."""
    law = make(family, 2, **parameters)()
    present = torch.tensor([False, True])
    with torch.no_grad():
        found, error = conditional_mean(law.log_prob_scores, torch.tensor([math.nan, x]), present)
        nodes = torch.linspace(x - 3, x + 3, 20_001)
        weight = (law.log_prob_scores(torch.stack([nodes, torch.full_like(nodes, x)], -1)) - nodes.square() / 2).softmax(0)
    exact = (weight * nodes).sum()
    assert (found[0] - exact).abs() <= error[0] + 1e-9
    assert error[0] < 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_directions_are_orthonormal_with_the_span_of_the_raw_ones(dtype):
    raw = torch.randn(3, 40, 8, dtype=dtype) @ torch.diag(torch.logspace(-2, 2, 8, dtype=dtype))
    found = orthonormal(raw)
    tolerance = 50 * torch.finfo(dtype).eps
    torch.testing.assert_close(found.mT @ found, torch.eye(8, dtype=dtype).expand(3, 8, 8), rtol=0, atol=tolerance)
    residual = raw - found @ (found.mT @ raw)
    assert residual.abs().max() < 1e3 * tolerance


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CopulaJoint(copula("gumbel"), [mixture(3), mixture(3)], "vector", directions=4), "choose 1 to 3"),
        (lambda: CopulaJoint(copula("gumbel"), [mixture(3), mixture(3)], "vector", directions=0), "choose 1 to 3"),
        (lambda: CopulaJoint(copula("gumbel"), [mixture(3), mixture(3)], "scalar", directions=2), 'only link="vector"'),
        (lambda: CopulaJoint([copula("gumbel")] * 3, [mixture(3), mixture(3)], "vector", directions=2), "each of 2 directions"),
        (lambda: CopulaJoint(copula("gumbel").side_by_side(3), [mixture(3), mixture(3)], "vector", directions=2), "one per direction"),
        (lambda: CopulaJoint(copula("gumbel"), [mixture(3), mixture(3)], "scalar", types="none"), "use link=vector"),
        (lambda: joint("gumbel", "vector", 3)().conditional_mean(torch.zeros(1, 2, 3), torch.tensor([[True, False]]), 1), "n_draws"),
        (lambda: copula("gumbel").side_by_side(0), "at least one copy"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
