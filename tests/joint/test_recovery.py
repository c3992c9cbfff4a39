"""Fitting by gradient descent finds the law that the data come from.

Bounds are six times the spread over eight seeds, and what a hundred steps leave of the way.
"""

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from cm2.copulas import make
from cm2.joint import CopulaJoint
from cm2.marginals import GaussianMixture
from tests.joint.laws import mixture

DIM, COMPONENTS, STAYS = 8, 3, 10_000


def _truth(family: str = "gumbel", link: str = "component", **parameters: float) -> CopulaJoint:
    return CopulaJoint(make(family, 2, **parameters), [mixture(DIM, COMPONENTS, seed=m, spread=3.0) for m in range(2)], link)


def _fit(z: torch.Tensor, family: str, link: str = "component", steps: int = 100) -> CopulaJoint:
    model = CopulaJoint(make(family, 2), [GaussianMixture(COMPONENTS, DIM) for _ in range(2)], link)
    model.initialise(z[:1_000])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.15)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.15, total_steps=steps)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = -model(validate_args=False).log_prob(z[torch.randint(len(z), (2_000,))]).mean()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model


def _largest_error_of_a_mean(model: CopulaJoint, truth: CopulaJoint) -> float:
    errors = []
    for found, true in zip(model.marginals, truth.marginals, strict=True):
        distance = (found.mean[:, None] - true.mean[None]).abs().amax(-1).detach()
        errors.append(distance[linear_sum_assignment(distance.numpy())].max().item())
    return max(errors)


@pytest.mark.parametrize("link", ["component", "scalar", "dimension"])
def test_gumbel_parameter_and_means_are_recovered(link):
    truth = _truth(link=link, alpha=2.5)
    model = _fit(truth().sample((STAYS,)), "gumbel", link)
    assert model.copula.alpha.item() == pytest.approx(2.5, rel=0.1)
    assert _largest_error_of_a_mean(model, truth) < 0.15


def test_independent_modalities_stay_at_independence():
    model = _fit(_truth("independence")().sample((STAYS,)), "gumbel")
    assert 1 <= model.copula.alpha.item() < 1.1


@pytest.mark.parametrize("family", ["gaussian", "frank"])
def test_opposite_modalities_give_a_negative_parameter(family):
    """The copula of (V, 1 - V'), with (V, V') Gaussian of correlation 0.8, is Gaussian of correlation -0.8: Kendall's tau -0.59."""
    model = _fit(_truth("gaussian", rho=-0.8)().sample((STAYS,)), family)
    parameter = model.copula.rho if family == "gaussian" else model.copula.alpha
    assert parameter.item() < 0
    assert model.copula().kendall_tau.item() < -0.35  # the truth's is -0.59; Frank's is another family
    if family == "gaussian":
        assert parameter.item() == pytest.approx(-0.8, abs=0.04)


def test_joint_types_are_recovered():
    truth = CopulaJoint(make("gumbel", 2, alpha=2.0), [mixture(DIM, COMPONENTS, seed=m, spread=3.0) for m in range(2)], types="joint")
    with torch.no_grad():
        truth.table.add_(3 * torch.eye(COMPONENTS))
        z = truth().sample((STAYS,))
    model = CopulaJoint(make("gumbel", 2), list(truth.marginals), types="joint")
    optimiser = torch.optim.Adam([model.table, *model.copula.parameters()], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        (-model(validate_args=False).log_prob(z[torch.randint(STAYS, (1_000,))]).mean()).backward()
        optimiser.step()
    assert model.copula.alpha.item() == pytest.approx(2.0, rel=0.13)
    torch.testing.assert_close(model().link.excess, truth().link.excess, atol=0.35, rtol=0)
