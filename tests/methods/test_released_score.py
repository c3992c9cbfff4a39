"""The released program's score: its numbers, and what its parameters do whatever the data."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from benchmarks._released_loss import ReleasedLoss
from cm2.book.checks import check
from cm2.methods.released_score import FAMILIES, ReleasedScore, bell, misprinted_frank

DIM = 256
every_family = pytest.mark.parametrize("family", FAMILIES)


def unit_vectors(stays=32, dim=DIM, modalities=2):
    return torch.stack([F.normalize(torch.randn(stays, dim), dim=-1) for _ in range(modalities)], 1)


def pairs(how, stays=32, dim=DIM):
    """Two modalities that are independent, identical or exactly opposite."""
    x, y = unit_vectors(stays, dim).unbind(1)
    return torch.stack((x, {"independent": y, "identical": x, "opposite": -x}[how]), 1)


def train(score, z, steps, learning_rate=1e-3):
    optimiser = torch.optim.Adam(score.parameters(), learning_rate, betas=(0.9, 0.9))
    for _ in range(steps):
        optimiser.zero_grad()
        (-score(z).mean()).backward()
        optimiser.step()
    return score


@pytest.mark.parametrize(("family", "loss", "part"), [("gumbel", 3441, -1986), ("frank", 1457, -2.85), ("gaussian", 1456, -1.63)])
def test_values_at_the_start_are_the_programs(family, loss, part):
    """Measured in the program itself on random unit vectors with its initial parameters; Gaussian: to one digit, -1.6."""
    score, z = ReleasedScore(family, 2, DIM, theta=1), unit_vectors()
    log_normal, log_u = score.parts(z)
    assert -score(z).mean().item() == pytest.approx(loss, abs=0.6)
    assert score.dependence(log_u).mean().item() == pytest.approx(part, rel=1e-2)
    torch.testing.assert_close(log_normal, torch.full_like(log_normal, -726.74), atol=0.01, rtol=0)
    assert [f(log_u[:, 0]).item() for f in (torch.min, torch.mean, torch.max)] == pytest.approx([-1248, -992, -823], abs=1)


def test_gumbel_is_the_restated_loss_with_its_gradients():
    z = unit_vectors().requires_grad_()
    ours, theirs = ReleasedScore("gumbel", 2, DIM, theta=1.3), ReleasedLoss(DIM, 3)
    with torch.no_grad():
        theirs.theta.fill_(1.3)
    loss = -ours(z).mean()
    torch.testing.assert_close(loss, theirs(*z.unbind(1)))
    (gradient,) = torch.autograd.grad(loss, z)
    (expected,) = torch.autograd.grad(theirs(*z.unbind(1)), z)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-3)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters()) == 3079


def test_u_is_zero_for_every_stay():
    _, log_u = ReleasedScore("gumbel", 2, DIM).parts(unit_vectors())
    assert not log_u.exp().any()


@pytest.mark.parametrize("family", ["gumbel", "frank"])
def test_theta_counts_steps_whatever_the_dependence(family):
    theta = {
        how: train(ReleasedScore(family, 2, 64), pairs(how, dim=64), 200).theta.item() for how in ("independent", "identical", "opposite")
    }
    for value in theta.values():
        assert value == pytest.approx(1 + 200 * 1e-3, abs=0.02 * 0.2)


@pytest.mark.parametrize("sign", [1, -1])
def test_gaussian_theta_rises_for_negative_dependence_as_for_positive(sign):
    """One factor of a stay moves all coordinates, of the second modality in the other direction; so little that log u is linear in it."""
    factor, noise = torch.special.ndtri((torch.arange(32) + 0.5) / 32), 0.00025 * torch.randn(32, 2, 64)
    z = 0.001 * factor[:, None, None] * torch.tensor([1.0, sign])[:, None] + noise
    assert train(ReleasedScore("gaussian", 2, 64), z, 100, 2e-3).theta.item() > 1.15


def test_the_step_counts_not_the_weight_of_the_score():
    """Adam is free of scale: λ = 1 and λ = 1e-6 move theta alike, as far as Adam's own epsilon lets it."""
    z = pairs("independent", dim=64)
    theta = []
    for weight in (1.0, 1e-3):
        score = ReleasedScore("gumbel", 2, 64)
        optimiser = torch.optim.Adam(score.parameters(), 1e-3, betas=(0.9, 0.9))
        for _ in range(50):
            optimiser.zero_grad()
            (-weight * score(z).mean()).backward()
            optimiser.step()
        theta.append(score.theta.item())
    assert theta[0] == pytest.approx(theta[1], abs=1e-4)


def test_from_exactly_one_gumbels_theta_never_moves():
    z = pairs("identical", dim=64)
    assert train(ReleasedScore("gumbel", 2, 64, theta=1), z, 20).theta.item() == 1
    assert train(ReleasedScore("gumbel", 2, 64), z, 20).theta.item() > 1.015


@every_family
def test_components_do_nothing(family):
    """Equal components receive equal gradients, the weights none: but for rounding, which Adam may magnify and which is shared out here."""
    z = pairs("independent", dim=32)
    scores = {k: ReleasedScore(family, 2, 32, k) for k in (1, 2, 6)}
    for k, score in scores.items():
        torch.testing.assert_close(score(z), scores[1](z) - math.log(k), rtol=1e-5, atol=1e-3)
    one, six = train(scores[1], z, 50), scores[6]
    optimiser = torch.optim.Adam(six.parameters(), 1e-3, betas=(0.9, 0.9))
    for _ in range(50):
        optimiser.zero_grad()
        (-six(z).mean()).backward()
        assert six.weights.grad.abs().max() < 1e-4
        six.weights.grad.zero_()
        for parameter in (six.mean, six.raw_scale):
            shared = parameter.grad.mean(1, keepdim=True)
            check("each component's gradient", parameter.grad, near=shared, within=1e-4 * float(shared.abs().max()))
            parameter.grad.copy_(shared.expand_as(parameter))
        optimiser.step()
    torch.testing.assert_close(six(z), one(z) - math.log(6), rtol=1e-3, atol=0)


def test_franks_signs_leave_a_fraction_of_a_density():
    middle = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    u, v = torch.meshgrid(middle, middle, indexing="ij")
    integral = {a: misprinted_frank(u, v, torch.tensor(a, dtype=torch.float64)).exp().mean().item() for a in (1.0, 5.0)}
    assert integral == {1.0: pytest.approx(0.059, abs=1e-3), 5.0: pytest.approx(0.568, abs=2e-3)}


def test_the_bell_is_even_and_not_uniform():
    u = bell(torch.randn(200_000))
    assert u.mean().item() == pytest.approx(0.5**0.5, abs=0.01)
    quartiles = u.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
    assert quartiles == pytest.approx([math.exp(-(x**2) / 2) for x in stats.norm.ppf([0.875, 0.75, 0.625])], abs=0.01)
    x = torch.randn(50)
    torch.testing.assert_close(bell(x), bell(-x))


def test_stays_that_agree_have_no_bell():
    log_u = torch.full((4, 2), -30.0, requires_grad=True)
    bell(log_u).sum().backward()
    assert torch.equal(bell(log_u), torch.ones(4, 2)) and not log_u.grad.any()
    assert torch.equal(bell(log_u[:1]), torch.ones(1, 2))


@every_family
@pytest.mark.parametrize("stays", [1, 7])
def test_every_parameter_but_the_weights_receives_a_gradient(family, stays):
    score, z = ReleasedScore(family, 2, 8), unit_vectors(stays, 8).requires_grad_()
    value = score(z)
    assert value.shape == (stays,)
    value.mean().backward()
    assert value.isfinite().all() and z.grad.isfinite().all()
    for name in ("mean", "raw_scale"):
        assert getattr(score, name).grad.isfinite().all() and getattr(score, name).grad.all()
    assert score.theta.grad.abs() > 0
    assert score.weights.grad.abs().max() < 1e-4


def test_three_modalities():
    score, z = ReleasedScore("gumbel", 3, 8, theta=1.5), unit_vectors(5, 8, 3)
    _, log_u = score.parts(z)
    torch.testing.assert_close(score.dependence(log_u), -(((-log_u) ** 1.5).sum(1) ** (1 / 1.5)), rtol=1e-5, atol=0)


def test_far_embeddings_stay_finite():
    score = ReleasedScore("gumbel", 2, 8)
    for offset in (-50.0, 50.0):
        z = torch.full((4, 2, 8), offset, requires_grad=True)
        score(z).sum().backward()
        assert z.grad.isfinite().all() and all(p.grad.isfinite().all() for p in score.parameters())


def test_draws_are_a_weighted_sum_without_gradient():
    score, z = ReleasedScore("gumbel", 2, DIM), unit_vectors()
    present = torch.tensor([[True, False]]).expand(32, 2)
    drawn = score.impute(z, present, 50)
    assert not drawn.requires_grad and torch.equal(drawn[:, :, 0], z[:, 0].expand(50, -1, -1))
    sigma = math.log1p(math.exp(-4))
    assert drawn[:, :, 1].std().item() == pytest.approx(sigma / math.sqrt(3), rel=0.01)
    assert drawn[:, :, 1].norm(dim=-1).mean().item() == pytest.approx(sigma * math.sqrt(DIM / 3), rel=0.01)
    one = ReleasedScore("gumbel", 2, DIM, draws="mixture").impute(z, present, 50)
    assert one[:, :, 1].std().item() == pytest.approx(sigma, rel=0.01)
    kept = ReleasedScore("gumbel", 2, DIM, detach_draws=False)
    kept.impute(z, present).square().sum().backward()
    assert kept.raw_scale.grad[1].any() and not kept.raw_scale.grad[0].any()


def test_state_and_expectation():
    score = ReleasedScore("gumbel", 2, 4, theta=2.5)
    assert score.state() == pytest.approx({"alpha": 2.5, "kendall_tau": 0.6, "mean_scale": math.log1p(math.exp(-4))}, rel=1e-5)
    assert score.expected().shape == (2, 4)
    assert "kendall_tau" not in ReleasedScore("frank", 2, 4).state()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ReleasedScore("clayton", 2, 4),
            "Clayton density is empty, so there is no such score; choose one of gumbel, frank, gaussian",
        ),
        (lambda: ReleasedScore("student", 2, 4), "no score of the family 'student'"),
        (lambda: ReleasedScore("frank", 3, 4), "frank for two modalities, got 3; more only with gumbel"),
        (lambda: ReleasedScore("gumbel", 1, 4), "for two modalities, got 1"),
        (lambda: ReleasedScore("gumbel", 2, 4, draws="one"), "unknown draws='one'"),
        (lambda: ReleasedScore("gumbel", 2, 4, draws="mixture", detach_draws=False), "has no gradient"),
        (lambda: ReleasedScore("gumbel", 2, 4).impute(torch.zeros(3, 2, 4), torch.ones(3, 2).bool(), how="conditional"), "only draws from"),
    ],
)
def test_what_the_program_does_not_have_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
