"""What is a mixture's own: posterior weights, Kendall's tau, gradients of draws, errors."""

import pytest
import torch
from scipy import stats

from cm2.book.checks import FALSE_ALARM, check
from cm2.copulas import Mixture, make
from cm2.copulas.sample_dependence import sample_kendall_tau, sample_spearman_rho
from tests.copulas.conftest import strong


def gumbel_and_gaussian(dim=3, weights=(0.6, 0.4)):
    return make("mixture", dim, copulas=[make("gumbel", dim, alpha=2.5), strong("gaussian", dim)], weights=weights)


@pytest.mark.parametrize("parts", [("gumbel", "clayton"), ("frank", "gaussian 90"), ("joe 270", "student")])
def test_kendall_tau_is_that_of_samples(parts):
    law = make("mixture", 2, copulas=[strong(part, 2) for part in parts], weights=[0.7, 0.3])()
    u = law.sample((40_000,))
    tau, rho = sample_kendall_tau(u), sample_spearman_rho(u)
    check("Kendall's tau of a sample", tau.value, near=law.kendall_tau, standard_error=tau.standard_error)
    check("Spearman's rho of a sample", rho.value, near=law.spearman_rho, standard_error=rho.standard_error)


@pytest.mark.parametrize("name", ["gumbel", "frank", "clayton", "gaussian", "student", "independence"])
def test_equal_components_are_one(name):
    alone = strong(name, 2)
    law = make("mixture", 2, copulas=[alone, strong(name, 2)], weights=[0.3, 0.7])()
    u = torch.rand(100, 2)
    for method in ("log_prob", "cdf", "h", "rosenblatt"):
        torch.testing.assert_close(getattr(law, method)(u), getattr(alone(), method)(u), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(law.h_inverse(u[:, 0], u[:, 1]), alone().h_inverse(u[:, 0], u[:, 1]), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(law.kendall_tau, alone().kendall_tau, rtol=0, atol=1e-9)


def test_measures_are_matrices_where_pairs_differ():
    law = gumbel_and_gaussian()()
    assert law.kendall_tau.shape == law.spearman_rho.shape == (3, 3)
    assert law.tail_dependence[1].shape == ()  # equal for all pairs
    assert law.kendall_tau[0, 1] > law.kendall_tau[0, 2]
    pair = law.marginalise(torch.tensor([True, False, True]))
    torch.testing.assert_close(law.kendall_tau[0, 2], pair.kendall_tau)
    torch.testing.assert_close(law.kendall_tau, law.kendall_tau.T)


def test_gradients_of_draws_are_those_of_the_expectation():
    """Against the score function's estimate on the same draws, in every parameter, the weights among them."""
    module = gumbel_and_gaussian()
    count = 200_000
    value = lambda u: u.prod(-1) + u[:, 0] * u[:, -1]
    drawn = module().rsample((count,))
    paths = torch.autograd.grad(value(drawn).mean(), list(module.parameters()))
    u = drawn.detach()
    weight = value(u) - value(u).mean()
    for path, theta in zip(paths, module.parameters(), strict=True):
        for k in range(theta.numel()):
            shift = torch.zeros_like(theta)
            shift.view(-1)[k] = 1e-5
            with torch.no_grad():
                theta.add_(shift)
                up = module().log_prob(u)
                theta.sub_(2 * shift)
                score = (up - module().log_prob(u)) / 2e-5
                theta.add_(shift)
            terms = weight * score
            check("the gradient of the draws", path.view(-1)[k], near=terms.mean(), standard_error=terms.std() / count**0.5)


def test_rosenblatt_gives_independent_uniforms():
    law = gumbel_and_gaussian()()
    w = law.rosenblatt(law.sample((10_000,))).detach().numpy()
    p = [stats.kstest(column, "uniform").pvalue for column in w.T]
    p += [stats.kendalltau(w[:, j], w[:, (j + 1) % 3]).pvalue for j in range(3)]
    check("uniform, and uncorrelated in pairs", p, above=FALSE_ALARM / 6)


def test_vines_are_components_like_others():
    trees = lambda: [[make("gumbel", 2, alpha=2.0), make("clayton", 2, alpha=1.5)], [make("frank", 2, alpha=3.0)]]
    vine = make("vine", 3, pair_copulas=trees())
    law = make("mixture", 3, copulas=[vine, make("vine", 3, pair_copulas=trees())])()
    u, present = vine().sample((4000,)), torch.tensor([True, False, False])
    (mixed,), (alone,) = (each.conditional_sample(u, present.expand(4000, 3)) for each in (law, vine()))
    p = [stats.ks_2samp(view(mixed.detach()), view(alone.detach())).pvalue for view in (lambda x: x[:, 0] * x[:, 2], lambda x: x[:, 1])]
    check("draws given a coordinate are those of the one vine", p, above=FALSE_ALARM / 2)


def test_without_components_it_starts_near_independence():
    law = make("mixture", 3)()
    assert len(law.laws) == 3
    assert (law.kendall_tau[0, 1] > 0).item()
    assert (law.kendall_tau[0, 1] < 0.2).item()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"copulas": [make("gumbel", 2)]}, "holds 1 copula; a mixture needs at least two"),
        ({"copulas": [make("gumbel", 2), make("gumbel", 3)]}, r"copulas\[1\] has dim 3; the components of this mixture need dim 2"),
        ({"copulas": [make("gumbel", 2), "frank"]}, r"copulas\[1\] is a str; give modules"),
        ({"weights": [0.5, 0.5]}, r"weights has shape \(2,\); give 3, one per component"),
        ({"weights": [0.5, 0.5, 0.5]}, "add up to 1.5"),
        ({"weights": [1.0, -0.5, 0.5]}, "a weight is -0.5"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        Mixture(2, **options)
