"""Imputation scores against the closed forms of normal laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from cm2.book.checks import check
from cm2.copulas import make
from cm2.evaluation.imputation import WAYS, impute_scores, spread, summarise
from cm2.joint import CopulaJoint
from cm2.marginals import GaussianMixture
from tests.evaluation.test_retrieval import RHO, bivariate_normal, drawn, given
from tests.joint.laws import joint

STAYS = 400


def crps(y, mean, scale):
    """Energy score of a normal law in one dimension (Gneiting and Raftery 2007, equation 21)."""
    x = (y - mean) / scale
    return scale * (x * (2 * norm.cdf(x) - 1) + 2 * norm.pdf(x) - 1 / np.sqrt(np.pi))


@pytest.fixture(scope="module")
def scored():
    z = drawn(STAYS)
    return z[..., 0].numpy(), impute_scores(bivariate_normal(), z, given(STAYS), 1, n_draws=200)


def test_log_likelihood_is_that_of_the_normal_laws(scored):
    (x, y), scores = scored[0].T, scored[1]
    unit = y.std()
    conditional = norm.logpdf(y, RHO * x, np.sqrt(1 - RHO**2)) + np.log(unit)
    np.testing.assert_allclose(scores["conditional"]["log_likelihood"], conditional, atol=1e-9)
    np.testing.assert_allclose(scores["marginal"]["log_likelihood"], norm.logpdf(y) + np.log(unit), atol=1e-9)
    assert {how for how in WAYS if "log_likelihood" in scores[how]} == {"conditional", "marginal"}


def test_energy_scores_are_those_of_the_normal_laws(scored):
    (x, y), scores = scored[0].T, scored[1]
    expected = {"conditional": crps(y, RHO * x, np.sqrt(1 - RHO**2)), "conditional mean": abs(y - RHO * x)}
    expected |= {"marginal": crps(y, 0, 1), "zero": abs(y), "mean": abs(y)}
    for how in WAYS:
        found = scores[how]["energy"] * y.std()
        np.testing.assert_allclose(found, expected[how], atol=0 if how in ("zero", "mean") else 0.4, rtol=1e-9)
        error = (found - expected[how]).std() / np.sqrt(STAYS)
        check(f"the mean energy score, {how}", found.mean(), near=expected[how].mean(), standard_error=error, within=1e-9)


def test_errors_are_those_of_the_exact_means(scored):
    (x, y), scores = scored[0].T, scored[1]
    for how, mean in {"conditional": RHO * x, "conditional mean": RHO * x, "marginal": 0, "mean": 0, "zero": 0}.items():
        expected = np.sqrt(np.mean((y - mean) ** 2)) / y.std()
        # of 200 draws of spread 1 for each of 400 stays; their square adds half of its own mean
        error = 1 / np.sqrt(200 * STAYS)
        check(f"the error, {how}", summarise(scores[how])["error"].estimate, near=expected, standard_error=error, within=1 / 400)


def test_the_conditional_mean_is_exact_where_it_has_a_closed_form():
    """Link vector with Gaussian copulas: no forecast has a smaller error, and two draws or many give the same one."""
    torch.manual_seed(0)
    law = CopulaJoint(
        make("gaussian", 2, rho=0.8).side_by_side(2),
        [GaussianMixture(1, 3, covariance="full") for _ in range(2)],
        link="vector",
        directions=2,
    )
    law = law.double().requires_grad_(False)(validate_args=False)
    z = law.rsample((STAYS,))
    few, many = (impute_scores(law, z, given(STAYS), 1, n_draws=n) for n in (2, 50))
    assert np.array_equal(few["conditional mean"]["error"], many["conditional mean"]["error"])
    exact = (law.conditional_mean(z, given(STAYS)).mean - z)[:, 1]
    np.testing.assert_allclose(many["conditional mean"]["energy"], exact.norm(dim=-1) / spread(z[:, 1]), rtol=1e-9)
    for how in ("marginal", "mean", "zero"):
        worse = many[how]["error"] - many["conditional mean"]["error"]
        check(f"the error of {how} above it", worse.mean(), above=0.1, standard_error=worse.std() / np.sqrt(STAYS))


@pytest.mark.parametrize("link", ["component", "scalar", "dimension"])
def test_conditional_beats_marginal_where_the_law_is_true_and_dependence_strong(link):
    # components that hardly differ: labels that are independent between modalities would hide what the copula tells
    # by ten standard errors and more
    law = joint("gumbel", link, 2, modalities=3, spread=0.2).requires_grad_(False)(validate_args=False)
    z = law.rsample((1600,))
    mask = torch.ones(1600, 3, dtype=torch.bool)
    scores = impute_scores(law, z, mask, 2, n_draws=4)
    for score, sign in (("energy", 1), ("log_likelihood", -1)):
        gain = sign * (scores["marginal"][score] - scores["conditional"][score])
        assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain)), score
    # more is known from two modalities than from one
    fewer = impute_scores(law, z, mask & torch.tensor([True, False, False]), 2, n_draws=2)
    assert fewer["conditional"]["log_likelihood"].mean() < scores["conditional"]["log_likelihood"].mean()
    np.testing.assert_allclose(fewer["marginal"]["log_likelihood"], scores["marginal"]["log_likelihood"])


def test_units_are_those_of_the_embedding():
    z = drawn(100)
    one, ten = (impute_scores(bivariate_normal(), z * torch.tensor([1.0, s])[:, None], given(100), 1, 2)["zero"] for s in (1.0, 10.0))
    np.testing.assert_allclose(one["energy"], ten["energy"])
    np.testing.assert_allclose(one["error"], ten["error"])


def test_the_same_seed_gives_the_same_draws_and_leaves_the_generator_alone():
    law, z = bivariate_normal(), drawn(20)
    state = torch.random.get_rng_state()
    one, two = (impute_scores(law, z, given(20), 1, 4, seed=3)["conditional"]["energy"] for _ in range(2))
    assert np.array_equal(one, two) and torch.equal(state, torch.random.get_rng_state())


def test_refusals():
    with pytest.raises(ValueError, match="two or more stays and draws"):
        impute_scores(bivariate_normal(), drawn(5), given(5), 1, n_draws=1)
    with pytest.raises(ValueError, match="the same for all stays"):
        impute_scores(bivariate_normal(), torch.zeros(5, 2, 1, dtype=torch.float64), given(5), 1)
