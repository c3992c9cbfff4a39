"""Standard errors of fits to ranks: they count what the unknown margins cost (Genest, Ghoudi, Rivest 1995)."""

import math

import numpy as np
import pytest
import torch

from cm2.book.checks import check
from cm2.copulas import make, pseudo_observations


@pytest.mark.parametrize("rho", [-0.3, 0.5, 0.8])
def test_gaussian_ranks_lose_what_theory_says(rho):
    """Known margins: (1 - ρ²)²/(1 + ρ²); ranks: (1 - ρ²)², the error of the normal scores' correlation (Klaassen and Wellner 1997)."""
    n = 80_000
    report = make("gaussian", 2).fit(pseudo_observations(make("gaussian", 2, rho=rho)().sample((n,))), ranks=True)
    # six times the spread of the estimated error, which is 0.5 percent
    assert report.standard_errors["rho"] == pytest.approx((1 - report.parameters["rho"] ** 2) / math.sqrt(n), rel=0.03)


@pytest.mark.parametrize(("name", "alpha"), [("clayton", 2.0), ("gumbel", 2.0)])
def test_errors_are_the_spread(name, alpha):
    law, n = make(name, 2, alpha=alpha)(), 150
    reports = [make(name, 2).fit(pseudo_observations(law.sample((300,))), ranks=True) for _ in range(n)]
    found = np.array([each.parameters["alpha"] for each in reports])
    errors = np.array([each.standard_errors["alpha"] for each in reports])
    check("the mean standard error", errors.mean(), near=found.std(), standard_error=found.std() / math.sqrt(2 * n))


def test_only_the_errors_differ():
    u = pseudo_observations(make("clayton", 2, alpha=2.0)().sample((200,)))
    plain, ranks = (make("clayton", 2).fit(u, ranks=each) for each in (False, True))
    assert plain.parameters == ranks.parameters and plain.log_likelihood == ranks.log_likelihood
    assert ranks.standard_errors["alpha"] > 1.1 * plain.standard_errors["alpha"]
    by_tau = [make("clayton", 2).fit(u, "kendall_tau", ranks=each).standard_errors for each in (False, True)]
    assert by_tau[0] == by_tau[1]


def test_several_parameters():
    u = pseudo_observations(make("student", 3, correlation=0.4 * torch.ones(3, 3) + 0.6 * torch.eye(3), nu=4.0)().sample((400,)))
    plain, ranks = (make("student", 3).fit(u, ranks=each) for each in (False, True))
    assert ranks.standard_errors["nu"] > plain.standard_errors["nu"] > 0
    pairs = ~torch.eye(3, dtype=torch.bool)
    ratio = ranks.standard_errors["correlation"][pairs] / plain.standard_errors["correlation"][pairs]
    assert ((ratio > 0.9) & (ratio < 2)).all()


def test_no_error_at_the_boundary():
    u = pseudo_observations(make("gaussian", 2, rho=-0.5)().sample((200,)))
    assert math.isnan(make("clayton", 2).fit(u, ranks=True).standard_errors["alpha"])
