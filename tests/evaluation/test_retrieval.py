"""Retrieval: standings against closed forms, simulation and counting."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cm2 import retrieval
from cm2.book.checks import check
from cm2.copulas import make
from cm2.evaluation.retrieval import Standing, cosine_standings, standings
from cm2.joint import CopulaJoint
from cm2.marginals import GaussianMixture

RHO = 0.8


def bivariate_normal(rho=RHO):
    """Standard normal margins and correlation rho, as a joint of one component and one coordinate."""
    one = torch.ones(1, dtype=torch.float64)
    marginals = [GaussianMixture.from_parameters(one, 0 * one[:, None], one[:, None]) for _ in range(2)]
    joint = CopulaJoint(make("gaussian", 2, rho=torch.tensor(rho, dtype=torch.float64)), marginals, "scalar")
    return joint.double().requires_grad_(False)(validate_args=False)


def drawn(stays, rho=RHO, seed=0):
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(2, stays))
    return torch.from_numpy(np.stack([x, rho * x + np.sqrt(1 - rho**2) * noise], axis=1)[..., None])


def given(stays, column=0):
    return torch.arange(2).expand(stays, 2) == column


def test_scores_rank_as_the_normal_densities_do():
    z = drawn(300)
    x, y = z[:, 0].numpy(), z[:, 1, 0].numpy()[None]
    joint = -(x**2 - 2 * RHO * x * y + y**2) / (2 * (1 - RHO**2))
    expected = {"density": joint, "dependence": joint + y**2 / 2}
    for name, found in standings(bivariate_normal(), z, given(300), z[:, 1], 1).items():
        own = np.diag(expected[name])[:, None]
        assert np.array_equal(found.better, (expected[name] > own).sum(axis=1)), name
        assert not found.tied.any()


def test_recall_among_ten_is_that_of_simulated_sets():
    z = drawn(1500)
    found = standings(bivariate_normal(), z, given(1500), z[:, 1], 1)["dependence"].recall(1, among=10)
    rng = np.random.default_rng(7)
    x, own = drawn(100_000, seed=8).squeeze(-1).numpy().T
    others = rng.normal(size=(9, 100_000))
    score = lambda y: -((y - RHO * x) ** 2) / (1 - RHO**2) + y**2
    simulated = (score(own) > score(others)).all(axis=0).mean()
    error = np.sqrt(found.var() / 1500 + simulated * (1 - simulated) / 100_000)
    check("recall among ten", found.mean(), near=simulated, standard_error=error, within=0.005)  # queries share their candidates
    assert simulated > 0.2


def test_the_dependence_retrieves_better_than_the_density_where_candidates_come_from_the_margin():
    """Against one other candidate, where 2,000 stays show it by seven standard errors."""
    z = drawn(2000)
    found = standings(bivariate_normal(), z, given(2000), z[:, 1], 1)
    difference = found["dependence"].recall(1, 2) - found["density"].recall(1, 2)
    check("the gain of the dependence", difference.mean(), above=0)


def test_independence_is_chance_and_identity_is_perfect():
    z = drawn(1000, rho=0.0)
    found = standings(bivariate_normal(), z, given(1000), z[:, 1], 1)["dependence"]
    chance = found.chance(100)
    assert chance == {"recall_1": 0.01, "recall_5": 0.05, "recall_10": 0.1, "median_rank": 50.5}
    summary = found.summary(among=100)
    for name, value in chance.items():
        four = summary[name].high - summary[name].low  # standard errors
        check(f"{name} of a score that knows nothing", summary[name].estimate, near=value, standard_error=four / 4)
    same = torch.randn(50, 1, 4).expand(50, 2, 4)
    perfect = cosine_standings(same, given(50), same[:, 1], 1)
    assert perfect.recall(1).min() == 1 and perfect.rank().max() == 1


def test_a_score_without_information_has_exactly_chance():
    found = retrieval._joined([retrieval._stand(torch.ones(40, 40), torch.arange(40))], 40)
    assert (found.tied == 39).all() and not found.better.any()
    for among in (None, 10):
        chance = found.chance(among)
        assert found.recall(5, among) == pytest.approx(chance["recall_5"])
        assert found.rank(among) == pytest.approx(chance["median_rank"])


def test_hypergeometric_recall_is_the_mean_over_all_subsets():
    from itertools import combinations

    standing = Standing(np.array([2]), np.array([0]), candidates=6)
    others = [True, True, False, False, False]  # better than the true one or not
    expected = np.mean([sum(chosen) < 2 for chosen in combinations(others, 3)])
    assert standing.recall(2, among=4)[0] == pytest.approx(expected)
    assert standing.recall(3)[0] == 1 and standing.recall(2)[0] == 0 and standing.rank()[0] == 3


def test_chunks_change_nothing(monkeypatch):
    z = drawn(30)
    whole = standings(bivariate_normal(), z, given(30), z[:, 1], 1)["dependence"]
    monkeypatch.setattr("cm2.evaluation.retrieval.PAIRS", 70)
    assert np.array_equal(whole.better, standings(bivariate_normal(), z, given(30), z[:, 1], 1)["dependence"].better)


def test_both_directions_and_what_is_not_given_is_not_read():
    z = drawn(100)
    back = standings(bivariate_normal(), z, given(100, 1), z[:, 0], 0)["dependence"]
    hidden = z.clone()
    hidden[:, 0] = torch.nan
    assert np.array_equal(back.better, standings(bivariate_normal(), hidden, given(100, 1), z[:, 0], 0)["dependence"].better)
    cosine = cosine_standings(hidden, given(100, 1), z[:, 0], 0)
    assert cosine.candidates == 100


def test_refusals():
    z = drawn(5)
    with pytest.raises(ValueError, match="4 candidates for 5 queries"):
        cosine_standings(z, given(5), z[:4, 1], 1)
    with pytest.raises(ValueError, match="no modality beside the target"):
        cosine_standings(z, given(5, 1), z[:, 1], 1)
    with pytest.raises(ValueError, match="among: 9 candidates of 5"):
        cosine_standings(z, given(5), z[:, 1], 1).recall(1, among=9)
    with pytest.raises(ValueError, match="NaN"):
        standings(bivariate_normal(), z * torch.nan, given(5), z[:, 1], 1)
