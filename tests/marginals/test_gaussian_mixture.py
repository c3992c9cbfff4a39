"""The Gaussian mixture: density, Rosenblatt transform and its inverse, draws and their implicit gradients."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.covariance import ledoit_wolf

from cm2.book.checks import FALSE_ALARM, check
from cm2.marginals import COVARIANCES, GaussianMixture, GaussianMixtureDistribution, draw_labels

DIM, COMPONENTS = 4, 3
either = pytest.mark.parametrize("covariance", COVARIANCES)


@pytest.fixture(autouse=True)
def _double_precision():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def _mixture(dim: int = DIM, components: int = COMPONENTS, covariance: str = "diagonal") -> GaussianMixture:
    generator = torch.Generator().manual_seed(1)
    weights = torch.tensor([0.5, 0.2, 0.3, 0.4])[:components]
    mean = 1.5 * torch.randn(components, dim, generator=generator)
    scale = 0.4 + torch.rand(components, dim, generator=generator)
    if covariance == "full":
        scale = torch.diag_embed(scale) + (torch.randn(components, dim, dim, generator=generator) / math.sqrt(dim)).tril(-1)
    return GaussianMixture.from_parameters(weights / weights.sum(), mean, scale)


def _two(covariance: str) -> GaussianMixture:
    """Two components of unit variance, at 0 and at 9."""
    scale = torch.eye(2).expand(2, 2, 2) if covariance == "full" else torch.ones(2, 2)
    return GaussianMixture.from_parameters([0.5, 0.5], torch.tensor([[0.0, 0.0], [9.0, 9.0]]), scale)


def test_parameters_are_given_back():
    mean, scale = torch.randn(3, DIM), 0.01 + torch.rand(3, DIM)
    law = GaussianMixture.from_parameters([0.5, 0.2, 0.3], mean, scale)()
    torch.testing.assert_close(law.log_weights.exp(), torch.tensor([0.5, 0.2, 0.3]))
    torch.testing.assert_close(law.mean, mean)
    torch.testing.assert_close(law.scale, scale)
    assert law.event_shape == (DIM,) and law.batch_shape == ()


@either
def test_log_prob_agrees_with_torch(covariance):
    law = _mixture(covariance=covariance)()
    factor = torch.diag_embed(law.scale) if covariance == "diagonal" else law.scale_tril
    normal = torch.distributions.MultivariateNormal(law.mean, scale_tril=factor)
    oracle = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=law.log_weights), normal)
    z = 3 * torch.randn(100, DIM)
    torch.testing.assert_close(law.log_prob(z), oracle.log_prob(z))


def test_cdf_agrees_with_scipy():
    law, z = _mixture()(), torch.randn(50, DIM)
    parts = stats.norm.cdf(z[:, None].numpy(), law.mean.detach().numpy(), law.scale.detach().numpy()).prod(-1)
    np.testing.assert_allclose(law.cdf(z).detach().numpy(), parts @ law.log_weights.exp().detach().numpy(), rtol=1e-10)


@either
def test_rosenblatt_of_draws_is_uniform_and_independent(covariance):
    law = _mixture(covariance=covariance)()
    n = 20_000
    u = law.rosenblatt(law.sample((n,))).detach()
    check("coordinates are uniform", [stats.kstest(column, "uniform").pvalue for column in u.T.numpy()], above=FALSE_ALARM / DIM)
    correlation = torch.corrcoef(torch.cat([u, (u - 0.5).square()], 1).T)
    check("coordinates and their squares are uncorrelated", correlation, near=torch.eye(2 * DIM), standard_error=n**-0.5)


@either
def test_inverse_is_exact(covariance):
    law = _mixture(covariance=covariance)()
    z = law.sample((2_000,))
    u = law.rosenblatt(z)
    inside = ((u > 1e-6) & (u < 1 - 1e-6)).all(-1)
    assert (law.inverse_rosenblatt(u[inside]) - z[inside]).abs().max() < 1e-9  # 1 - u carries 16 digits after the point only
    torch.testing.assert_close(law.inverse_rosenblatt_tails(*law.rosenblatt_tails(z)), z, rtol=1e-11, atol=1e-11)


@either
def test_inverse_from_tails_reaches_where_u_rounds_to_zero_or_one(covariance):
    law = _mixture(covariance=covariance)()
    z = torch.stack([torch.full((DIM,), 60.0), torch.full((DIM,), -60.0)])
    log_u, log1m_u = law.rosenblatt_tails(z)
    nearest = torch.max if covariance == "diagonal" else torch.min  # correlated coordinates may make up for each other
    assert nearest(log1m_u[0]) < -500 and nearest(log_u[1]) < -500
    torch.testing.assert_close(law.inverse_rosenblatt_tails(log_u, log1m_u), z, rtol=1e-9, atol=0)


def test_inverse_between_far_components():
    law = GaussianMixture.from_parameters([0.5, 0.5], torch.tensor([[-500.0], [500.0]]), torch.ones(2, 1))()
    u = torch.tensor([[1e-9], [0.3], [0.4999999], [0.5000001], [0.9]])
    torch.testing.assert_close(law.rosenblatt(law.inverse_rosenblatt(u)), u, rtol=1e-9, atol=0)


@either
def test_log_determinant_of_the_jacobian_is_the_log_density(covariance):
    law = _mixture(covariance=covariance)()
    for z in law.sample((5,)):
        jacobian = torch.autograd.functional.jacobian(law.rosenblatt, z)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], law.log_prob(z).detach())


@either
def test_high_dimension_in_single_precision(covariance):
    torch.set_default_dtype(torch.float32)
    mixture = _mixture(dim=256, covariance=covariance).float()
    law = mixture(validate_args=False)
    z = law.rsample((64,))
    exact = _mixture(dim=256, covariance=covariance).double()()
    single, double = law.rosenblatt_tails(z), exact.rosenblatt_tails(z.double())
    assert ((single[0].double() - double[0]).abs() / (1 + double[0].abs())).max() < 2e-4
    torch.testing.assert_close(law.log_prob(z).double(), exact.log_prob(z.double()), rtol=1e-5, atol=1e-2)
    z.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in mixture.parameters())


def test_density_integrates_to_one():
    law = _mixture(dim=1)()
    grid = torch.linspace(-20, 20, 20_001)[:, None]
    assert torch.trapezoid(law.log_prob(grid).exp(), grid[:, 0]).item() == pytest.approx(1, abs=1e-10)


@either
def test_component_uniforms_are_uniform_under_their_component(covariance):
    law = _mixture(dim=16, covariance=covariance)()
    labels = torch.full((20_000,), 1)
    z = law.from_component(torch.randn(20_000, 16), labels)
    log_v, log1m_v = law.component_tails(z)
    check("the component's own", stats.kstest(log_v[:, 1].exp().numpy(force=True), "uniform").pvalue, above=FALSE_ALARM)
    torch.testing.assert_close(log_v.exp() + log1m_v.exp(), torch.ones_like(log_v))


@either
def test_implicit_gradients_are_those_of_the_inverse(covariance):
    mixture = _mixture(dim=3, covariance=covariance)
    weights = mixture.logits.detach().clone().requires_grad_()
    law = mixture()
    mean = law.mean.detach().clone().requires_grad_()
    scale = (law.scale if covariance == "diagonal" else law.scale_tril).detach().clone().requires_grad_()
    u = torch.tensor([[0.03, 0.5, 0.9], [0.7, 0.99, 0.2]], requires_grad=True)

    def inverse(u, weights, mean, scale):
        factor = scale if covariance == "diagonal" else scale.tril()
        return GaussianMixtureDistribution(weights.log_softmax(-1), mean, factor).inverse_rosenblatt(u)

    torch.autograd.gradcheck(inverse, (u, weights, mean, scale), eps=1e-6, atol=1e-5, rtol=1e-4)


@either
@pytest.mark.parametrize("moment", [1, 2])
def test_gradient_of_an_expectation_through_draws(moment, covariance):
    """d/dtheta of E[a . Z^m] from 200,000 draws against the closed form, weights included."""
    mixture, direction, groups = _mixture(covariance=covariance), torch.linspace(0.5, 2.0, DIM), 100
    estimates = []
    for _ in range(groups):
        z = mixture().rsample((2_000,))
        estimates.append(torch.autograd.grad((z**moment @ direction).mean(), list(mixture.parameters())))
    law = mixture()
    variance = law.scale.square() if law.scale_tril is None else law.scale_tril.square().sum(-1)
    each = law.mean if moment == 1 else law.mean.square() + variance
    exact = torch.autograd.grad(law.log_weights.exp() @ each @ direction, list(mixture.parameters()), allow_unused=True)
    for name, truth, *draws in zip(dict(mixture.named_parameters()), exact, *estimates, strict=True):
        truth = torch.zeros_like(draws[0]) if truth is None else truth
        stack = torch.stack(draws)
        error = (stack.mean(0) - truth).abs() / (stack.std(0) / math.sqrt(groups)).clamp(min=1e-12)
        check(f"standard errors of the gradient in {name}", error, below=stats.t.isf(FALSE_ALARM / error.numel(), groups - 1))
        assert moment == 1 or stack.mean(0).abs().max() > 0.05, name


@either
def test_draws_follow_the_law(covariance):
    law = _mixture(covariance=covariance)()
    z = law.sample((20_000,))
    weights = law.log_weights.exp().detach()
    check("the mean of draws", z.mean(0), near=weights @ law.mean.detach(), standard_error=z.std(0) / math.sqrt(len(z)))
    assert not z.requires_grad


def test_batched_weights():
    mixture = _mixture()
    log_weights = torch.randn(6, COMPONENTS).log_softmax(-1)
    law = mixture(log_weights=log_weights)
    assert law.batch_shape == (6,)
    assert law.rsample((5,)).shape == (5, 6, DIM)
    z = torch.randn(6, DIM)
    torch.testing.assert_close(law.log_prob(z)[3], mixture(log_weights=log_weights[3]).log_prob(z[3]))
    torch.testing.assert_close(law.rosenblatt(z)[3], mixture(log_weights=log_weights[3]).rosenblatt(z[3]))


def test_draw_labels_has_the_given_probabilities():
    probabilities, n = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0]]), 50_000
    labels = draw_labels(probabilities.log(), n)
    share = torch.stack([(labels == k).double().mean(0) for k in range(3)], -1)
    check("shares of the labels", share, near=probabilities, standard_error=torch.sqrt(probabilities * (1 - probabilities) / n))


def test_initialise_shrinks_each_clusters_variance_by_one_pseudo_observation():
    """Two clusters far apart, so that k-means finds them: (sum of squares + variance of all) / (count + 1)."""
    first, second = torch.randn(5, 3, dtype=torch.float64), 100 + torch.randn(7, 3, dtype=torch.float64)
    points = torch.cat([first, second])
    mixture = GaussianMixture(2, 3, minimum_scale=1e-3).double()
    mixture.initialise(points)
    law = mixture()
    expected = [((part - part.mean(0)).square().sum(0) + points.var(0, correction=0)) / (len(part) + 1) for part in (first, second)]
    order = law.mean[:, 0].argsort()
    torch.testing.assert_close(law.scale[order].square(), torch.stack(expected))
    torch.testing.assert_close(law.log_weights.exp()[order], torch.tensor([5 / 12, 7 / 12], dtype=torch.float64))


def test_initialise_separates_components_and_finds_them():
    truth = GaussianMixture.from_parameters([0.3, 0.7], torch.tensor([[-2.0] * 8, [2.0] * 8]), torch.full((2, 8), 0.5))
    mixture, n, weights = GaussianMixture(2, 8), 2_000, torch.tensor([0.3, 0.7])
    mixture.initialise(truth().sample((n,)))
    order = mixture.mean[:, 0].argsort()
    of_a_mean = 0.5 / torch.sqrt(n * weights)[:, None]
    check("means", mixture.mean[order], near=truth.mean.detach(), standard_error=of_a_mean)
    of_a_scale = of_a_mean / math.sqrt(2)
    check("scales, but for a pseudo-observation", mixture().scale[order], near=0.5, standard_error=of_a_scale, within=0.01)
    check("weights", mixture().log_weights[order].exp(), near=weights, standard_error=torch.sqrt(weights.prod() / n))


@either
def test_fit_finds_the_maximum_of_the_likelihood(covariance):
    """The gradient of the mean log-likelihood is zero there, but for the floor of the variances and the limit of iterations."""
    z = _mixture(covariance=covariance)().sample((4_000,))
    mixture = GaussianMixture(COMPONENTS, DIM, covariance=covariance)
    mixture.initialise(z)
    first = mixture().log_prob(z).mean()
    mixture.fit(z, shrinkage=0.0, iterations=500)
    value = mixture().log_prob(z).mean()
    gradients = torch.autograd.grad(value, list(mixture.parameters()))
    assert value > first and max(g.abs().max() for g in gradients) < 0.02


def test_fit_shrinks_full_covariances_and_stands_more_coordinates_than_points():
    z = torch.randn(30, 40)
    mixture = GaussianMixture(1, 40, covariance="full")
    mixture.initialise(z)
    mixture.fit(z, shrinkage=0.3)
    factor, centred = mixture().scale_tril[0], z - z.mean(0)
    sample = centred.T @ centred / len(z)
    shrunk = 0.7 * sample + 0.3 * torch.diag(sample.diagonal())
    torch.testing.assert_close(factor @ factor.T, shrunk, rtol=1e-4, atol=1e-5)


def test_full_covariance_initialises_near_each_cluster():
    z = torch.cat([torch.randn(300, 3) @ torch.tensor([[1.0, 0.9, 0.0], [0, 0.4, 0], [0, 0, 1]]), 50 + torch.randn(200, 3)])
    mixture = GaussianMixture(2, 3, covariance="full")
    mixture.initialise(z)
    law, order = mixture(), mixture.mean[:, 0].argsort()
    covariance = (law.scale_tril @ law.scale_tril.mT)[order]
    for found, part in zip(covariance, (z[:300], z[300:]), strict=True):
        own, _ = ledoit_wolf((part - part.mean(0)).numpy(), assume_centered=True)
        pooled = (len(part) * torch.from_numpy(own) + torch.diag(z.var(0, correction=0))) / (len(part) + 1)
        torch.testing.assert_close(found, pooled + (2 * mixture.minimum_scale) ** 2 * torch.eye(3))


def test_a_cluster_of_one_point_has_half_the_variance_of_all():
    z = torch.cat([torch.randn(20, 3), torch.full((1, 3), 90.0)])
    mixture = GaussianMixture(2, 3, covariance="full")
    mixture.initialise(z)
    law = mixture()
    lone = law.scale_tril[law.mean[:, 0].argmax()]
    torch.testing.assert_close(lone @ lone.T, torch.diag(z.var(0, correction=0) / 2), rtol=1e-4, atol=1e-4)


def test_components_differ_from_the_start():
    assert torch.pdist(GaussianMixture(5, 8).mean).min() > 0.1


def test_scale_never_falls_below_its_floor():
    for covariance in COVARIANCES:
        mixture = GaussianMixture(2, 3, minimum_scale=0.2, covariance=covariance)
        with torch.no_grad():
            mixture.raw_scale.fill_(-1e3)
        assert mixture().scale.min() >= 0.2


@either
def test_saves_and_loads(covariance):
    first, second = _mixture(covariance=covariance), GaussianMixture(COMPONENTS, DIM, covariance=covariance)
    second.load_state_dict(first.state_dict())
    z = torch.randn(3, DIM)
    torch.testing.assert_close(first().log_prob(z), second().log_prob(z))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GaussianMixture(0, 3), "components >= 1"),
        (lambda: GaussianMixture(2, 3, minimum_scale=0.0), "must be positive"),
        (lambda: GaussianMixture.from_parameters(torch.ones(2), torch.zeros(2, 3), torch.ones(2, 3)), "sum to 1"),
        (lambda: GaussianMixture.from_parameters(torch.ones(2) / 2, torch.zeros(2, 3), torch.ones(2, 2)), "expected weights"),
        (lambda: GaussianMixture.from_parameters(torch.ones(2) / 2, torch.zeros(2, 3), torch.zeros(2, 3)), "lower the floor"),
        (lambda: GaussianMixture(3, 2).initialise(torch.zeros(2, 2)), "distinct embeddings"),
        (lambda: GaussianMixture(3, 2).initialise(torch.zeros(9, 4)), "expected embeddings"),
        (lambda: GaussianMixture(3, 2).initialise(torch.full((9, 2), math.nan)), "not finite"),
        (lambda: GaussianMixture(3, 2, covariance="tied"), "diagonal or full"),
        (lambda: GaussianMixture(2, 2).fit(torch.randn(9, 2), shrinkage=2.0), r"\[0, 1\]"),
        (lambda: GaussianMixture(2, 2).fit(torch.randn(9, 1) * torch.tensor([1.0, 0.0])), "constant"),
        (
            lambda: GaussianMixture.from_parameters([0.5, 0.5], torch.tensor([[0.0], [9.0]]), torch.ones(2, 1)).fit(
                torch.cat([torch.randn(20, 1).clamp(-2, 2), torch.tensor([[9.0]])])
            ),
            "component 1 has collapsed",
        ),
        *[
            # many stays with one embedding, as of a text that says the same of all of them
            (lambda covariance=covariance: _two(covariance).fit(torch.cat([torch.randn(20, 2), torch.full((15, 2), 9.0)])), message)
            for covariance, message in zip(COVARIANCES, ["component 1 has collapsed .*it has 15 of 35"] * 2, strict=True)
        ],
        (lambda: GaussianMixture(1, 12, covariance="full").fit(torch.randn(9, 12)), "component 0 has 9 of 9 .*covariance=.diagonal"),
        (lambda: _mixture(covariance="full")().log_cdf(torch.zeros(2, DIM)), "no closed form"),
        (lambda: _mixture()().log_prob(torch.zeros(2, DIM + 1)), "expected shape"),
        (lambda: _mixture()().log_prob(torch.full((2, DIM), math.nan)), "NaN"),
        (lambda: _mixture()().inverse_rosenblatt(torch.ones(2, DIM)), r"\(0, 1\)"),
        (lambda: _mixture()(log_weights=torch.zeros(COMPONENTS)), "sum to 1"),
        (lambda: _mixture()(log_weights=torch.zeros(COMPONENTS + 1)), "expected log_weights"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
