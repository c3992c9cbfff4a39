"""The dependence of a batch at its own Gaussian maximum: canonical correlations, whatever the basis."""

import math

import pytest
import torch

from cm2.copulas import make
from cm2.joint import LINKS, CopulaJoint
from cm2.joint.diagnostics import describe, distance, effective_rank, gaussian_nats
from cm2.joint.profile import profiled_dependence
from cm2.marginals import GaussianMixture


def _pair(n: int = 400, d: int = 6) -> torch.Tensor:
    rho = torch.tensor([0.9, 0.7, 0.5, 0.2, 0.0, 0.0])[:d]
    x = torch.randn(n, d)
    y = rho * x + (1 - rho.square()).sqrt() * torch.randn(n, d)
    return torch.stack([x @ torch.randn(d, d), y @ torch.randn(d, d)], 1)


def _canonical(z: torch.Tensor) -> torch.Tensor:
    """Canonical correlations, by the definition."""
    x, y = (each - each.mean(0) for each in z.unbind(1))
    first, second = torch.linalg.qr(x).Q, torch.linalg.qr(y).Q
    return torch.linalg.svdvals(first.T @ second)


@pytest.mark.parametrize("directions", [1, 3, 6])
def test_it_is_the_information_of_the_canonical_correlations(directions):
    z, present = _pair(), torch.ones(400, 2, dtype=torch.bool)
    expected = -0.5 * torch.log1p(-_canonical(z)[:directions].square()).sum()
    found = profiled_dependence(z, present, directions, 1e-9)
    # the subspace iteration stops a little below the maximum
    assert 0.97 * expected < found <= expected + 1e-9


def test_it_does_not_change_with_the_basis():
    z, present = _pair(), torch.ones(400, 2, dtype=torch.bool)
    turned = torch.stack([3 * z[:, 0] @ torch.linalg.qr(torch.randn(6, 6)).Q - 5, z[:, 1]], 1)
    torch.testing.assert_close(profiled_dependence(turned, present, 6, 1e-9), profiled_dependence(z, present, 6, 1e-9), rtol=1e-6, atol=0)


def test_only_stays_with_two_modalities_count():
    z = _pair()
    present = torch.rand(400, 2) < 0.7
    both = present.all(1)
    expected = profiled_dependence(z[both], present[both], 3, 0.05)
    z[~present] = torch.nan
    torch.testing.assert_close(profiled_dependence(z, present, 3, 0.05), expected)


def test_shrinkage_bounds_it():
    x = torch.randn(50, 6)
    for z in (torch.stack([x, x], 1), torch.ones(50, 2, 6) * torch.randn(50, 1, 1)):
        found = profiled_dependence(z.requires_grad_(), torch.ones(50, 2, dtype=torch.bool), 3, 0.05)
        assert found.isfinite() and 0 < found < 30
        assert torch.autograd.grad(found, z)[0].isfinite().all()


def test_no_pair_has_no_dependence():
    z = torch.randn(10, 2, 4)
    alone = torch.tensor([[True, False], [False, True]] * 5)
    assert profiled_dependence(z, alone, 2, 0.05).abs() < 1e-9


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("directions", [1, 2, 8])
@pytest.mark.parametrize("pairs", [1, 2, 3, 9])
def test_fewer_pairs_than_directions(pairs, directions, modalities):
    """As in the last batch of an epoch: the moments have a lower rank than the directions, in both precisions."""
    for seed in range(20):
        z = torch.randn(pairs + 1, modalities, 8, dtype=torch.float32, generator=torch.Generator().manual_seed(seed))
        present = torch.ones(pairs + 1, modalities, dtype=torch.bool)
        present[-1, 1:] = False
        exact = profiled_dependence(z.double(), present, directions, 0.05)
        z.requires_grad_()
        found = profiled_dependence(z, present, directions, 0.05)
        found.backward()
        # what is added to a coordinate that hardly varies is of the order of the rounding, and differs between the precisions
        torch.testing.assert_close(found, exact.float(), rtol=3e-2, atol=1e-4)
        assert z.grad.isfinite().all()


def test_gradient():
    z, present = _pair(12, 3).requires_grad_(), torch.ones(12, 2, dtype=torch.bool)
    torch.autograd.gradcheck(lambda z: profiled_dependence(z, present, 3, 0.1), z, atol=1e-5)


def test_three_modalities_are_no_less_than_any_two():
    z = torch.cat([_pair(), torch.randn(400, 1, 6)], 1)
    present = torch.ones(400, 3, dtype=torch.bool)
    two = profiled_dependence(z, torch.tensor([True, True, False]).expand(400, 3), 4, 0.05)
    assert two * 0.9 < profiled_dependence(z, present, 4, 0.05)


def test_diagnostics():
    z = torch.randn(5_000, 8)
    assert effective_rank(z) == pytest.approx(8, abs=0.05)
    assert effective_rank(z[:, :1].expand(-1, 8)) == pytest.approx(1, abs=1e-6)
    mixture = GaussianMixture.from_parameters([1.0], torch.full((1, 8), 0.5), torch.ones(1, 8))
    assert distance(mixture.requires_grad_(False)(), z) == pytest.approx(0.5, abs=0.05)
    rho = torch.tensor([0.8, 0.6, 0, 0])
    x = torch.randn(20_000, 4)
    y = rho * x + (1 - rho.square()).sqrt() * torch.randn(20_000, 4)
    assert gaussian_nats(x, y) == pytest.approx(float(-0.5 * torch.log1p(-rho.square()).sum()), abs=0.03)
    assert gaussian_nats(x, torch.randn(20_000, 4)) == pytest.approx(0, abs=0.005)


def test_how_much_each_link_sees_at_the_same_margins():
    # dependence along rotated directions: one number a modality, or equal coordinates, say little of it
    torch.manual_seed(0)
    rho = torch.tensor([0.8, 0.7, 0.6, 0, 0, 0], dtype=torch.float64)
    x = torch.randn(4_000, 6, dtype=torch.float64)
    y = rho * x + (1 - rho.square()).sqrt() * torch.randn_like(x)
    turned = [torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q for _ in range(2)]
    z, present = torch.stack([x @ turned[0], y @ turned[1]], 1), torch.ones(4_000, 2, dtype=torch.bool)
    train, test = slice(0, 2_000), slice(2_000, None)
    found = {}
    for link in LINKS:
        margins = [GaussianMixture(1, 6, covariance="full") for _ in range(2)]
        count = {"vector": 4, "dimension": 6}.get(link)
        copula = make("gaussian", 2) if count is None else make("gaussian", 2).side_by_side(count)
        joint = CopulaJoint(copula, margins, link, directions=4 if link == "vector" else None).double()
        joint.fit(z[train], present[train])
        found[link] = describe(joint, z[test], present[test])
    there = float(-0.5 * torch.log1p(-rho.square()).sum())
    assert all(each["gaussian_nats"] == pytest.approx(there, rel=0.1) for each in found.values())
    seen = {link: each["law_nats"] / each["gaussian_nats"] for link, each in found.items()}
    assert seen["vector"] > 0.9
    assert all(share < 0.6 for link, share in seen.items() if link != "vector")


def test_embeddings_of_one_coordinate_are_described():
    joint, z = CopulaJoint(make("gaussian", 2, rho=0.6), [GaussianMixture(1, 1) for _ in range(2)], "vector"), torch.randn(400, 2, 1)
    found = describe(joint, z, torch.ones(400, 2, dtype=torch.bool))
    assert found["effective_rank"] == pytest.approx(1) and all(map(math.isfinite, found.values()))


def test_a_modality_that_nobody_has_is_passed_over():
    joint = CopulaJoint(make("gaussian", 2), [GaussianMixture(1, 3) for _ in range(2)], "scalar")
    z, present = torch.randn(40, 2, 3), torch.tensor([[True, False]] * 40)
    z[:, 1] = torch.nan
    found = describe(joint, z, present)
    assert set(found) == {"effective_rank", "law_distance"} and all(map(math.isfinite, found.values()))
    assert describe(joint, z[:1], present[:1]) == {}


def test_diagnostics_without_enough_pairs():
    joint = CopulaJoint(make("gaussian", 2), [GaussianMixture(1, 3) for _ in range(2)], "scalar")
    alone = torch.eye(2, dtype=torch.bool).repeat(20, 1)
    assert set(describe(joint, torch.randn(40, 2, 3), alone)) == {"effective_rank", "law_distance"}
