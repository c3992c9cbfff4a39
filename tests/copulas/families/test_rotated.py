"""Rotations against pyvinecopulib, against symmetries, and in the corners."""

import numpy as np
import pytest
import torch
from scipy import stats

from cm2.book.checks import FALSE_ALARM, check
from cm2.copulas import Rotated, RotatedDistribution, make

VALUES = {"gumbel": 2.5, "clayton": 1.7, "joe": 3.0, "frank": 5.0}
EDGES = torch.tensor([1e-12, 1e-5, 0.3, 0.9, 1 - 1e-12], dtype=torch.float64)
GRID = torch.cartesian_prod(EDGES, EDGES)
every_rotation = pytest.mark.parametrize("rotation", [90, 180, 270])


def reflected(u, rotation):
    return torch.stack([1 - u[..., 0] if rotation in (90, 180) else u[..., 0], 1 - u[..., 1] if rotation in (180, 270) else u[..., 1]], -1)


@every_rotation
@pytest.mark.parametrize("name", VALUES)
def test_against_pyvinecopulib(name, rotation):
    other = pytest.importorskip("pyvinecopulib")
    turn = {"rotation": rotation} if name != "frank" else {}
    peer = other.Bicop(family=getattr(other.BicopFamily, name), parameters=np.array([[VALUES[name]]]), **turn)
    law = make(name, 2, alpha=VALUES[name], rotation=rotation)()
    u = torch.rand(500, 2) * 0.98 + 0.01
    at = u if turn else reflected(u, rotation)  # pyvinecopulib turns no copula that is radially symmetric
    turned = np.asfortranarray(at.numpy())
    np.testing.assert_allclose(torch.exp(law.log_prob(u)).detach(), peer.pdf(turned), rtol=1e-8)
    if not turn:
        return
    np.testing.assert_allclose(law.cdf(u).detach(), peer.cdf(turned), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(law.h(u).detach(), peer.hfunc2(turned), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(law.flipped.h(u.flip(-1)).detach(), peer.hfunc1(turned), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(law.h_inverse(u[:, 0], u[:, 1]).detach(), peer.hinv2(turned), rtol=1e-5, atol=1e-7)
    assert law.kendall_tau.item() == pytest.approx(peer.parameters_to_tau(peer.parameters), abs=1e-6)


@every_rotation
@pytest.mark.parametrize("name", VALUES)
def test_every_digit_is_kept_in_the_corners(name, rotation):
    law, inside = make(name, 2, alpha=VALUES[name], rotation=rotation)(), make(name, 2, alpha=VALUES[name])()
    low, high = torch.log(GRID), torch.log1p(-GRID)
    turned = torch.tensor([rotation in (90, 180), rotation in (180, 270)])
    at = torch.where(turned, high, low), torch.where(turned, low, high)
    for points in (law.log_prob(GRID), law.log_prob_tails(low, high)):
        torch.testing.assert_close(points, inside.log_prob_tails(*at), rtol=1e-12, atol=1e-13)
    found, own = law.h_tails(low, high), inside.h_tails(*at)
    for left, right in zip(found, own[::-1] if turned[0] else own, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-13, atol=0)
    back = law.h_inverse_tails(found, (low[:, 1], high[:, 1]))
    told = (torch.maximum(*found) < -1e-9) & (torch.minimum(*found) > -500)  # where h is neither 0 nor 1 to the last digit
    torch.testing.assert_close(back[0][told], low[:, 0][told], rtol=1e-5, atol=1e-9)


@every_rotation
def test_a_vine_is_turned_as_its_pair_is(rotation):
    pair = make("gumbel", 2, alpha=2.5)
    law, other = (Rotated(copula, rotation)() for copula in (make("vine", 2, pair_copulas=[[pair]]), pair))
    u = torch.rand(100, 2)
    for method in ("log_prob", "cdf", "h", "rosenblatt"):
        torch.testing.assert_close(getattr(law, method)(u), getattr(other, method)(u))
    drawn = law.conditional_sample(torch.tensor([0.5, 0.2]), torch.tensor([False, True]), 4000)
    p = stats.kstest(law.h(drawn).detach(), "uniform").pvalue
    check("h of draws given the other coordinate is uniform", p, above=FALSE_ALARM)


def test_the_frank_copula_turned_is_that_of_the_other_sign():
    u = torch.rand(200, 2)
    whole, other = make("frank", 2, alpha=5.0)(), make("frank", 2, alpha=-5.0)()
    for rotation in (90, 270):
        law = RotatedDistribution(whole, rotation)
        for method in ("log_prob", "cdf", "h"):
            torch.testing.assert_close(getattr(law, method)(u), getattr(other, method)(u), rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(law.spearman_rho, other.spearman_rho, rtol=1e-9, atol=0)
    torch.testing.assert_close(RotatedDistribution(whole, 180).log_prob(u), whole.log_prob(u), rtol=1e-11, atol=1e-13)


def test_flipping_exchanges_the_quarter_turns():
    u = torch.rand(100, 2)
    for rotation in (0, 90, 180, 270):
        law = RotatedDistribution(make("joe", 2, alpha=2.0)(), rotation)
        torch.testing.assert_close(law.flipped.log_prob(u), law.log_prob(u.flip(-1)), rtol=1e-12, atol=1e-13)
    assert RotatedDistribution(make("joe", 2)(), 90).flipped.rotation == 270


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("name", ["clayton", "student"])
def test_tail_dependence_of_all_four_corners(name, rotation):
    inside = make(name, 2, **({"alpha": 1.7} if name == "clayton" else {"rho": 0.6, "nu": 2.0}))()
    law, t = RotatedDistribution(inside, rotation), torch.tensor([1e-7, 1e-7])
    near, far = law.tail_dependence, law.discordant_tail_dependence
    for first, second, value in ((0, 0, near[0]), (1, 1, near[1]), (0, 1, far[0]), (1, 0, far[1])):
        turn = {(0, 0): 0, (1, 0): 90, (1, 1): 180, (0, 1): 270}[first, second]
        corner = RotatedDistribution(law, turn).cdf(t) / t[0]
        assert corner.item() == pytest.approx(value.item(), abs=2e-3)


def test_cdf_is_exact_on_the_boundary():
    for rotation in (90, 180, 270):
        law = make("clayton", 2, alpha=2.0, rotation=rotation)()
        u = torch.tensor([[0.0, 0.4], [0.4, 0.0], [1.0, 0.4], [0.4, 1.0], [1.0, 1.0]])
        torch.testing.assert_close(law.cdf(u), torch.tensor([0, 0, 0.4, 0.4, 1.0]), rtol=1e-14, atol=1e-15)
        assert (law.cdf(GRID) >= 0).all()


def test_make_and_fit():
    module = make("gumbel", 2, rotation=90, kendall_tau=-0.5)
    assert module().kendall_tau.item() == pytest.approx(-0.5)
    assert make("gumbel", 2, rotation=180, kendall_tau=0.5).copula.alpha.item() == pytest.approx(2)
    assert isinstance(make("gumbel", 2, rotation=0), type(make("gumbel", 2)))
    u = module().sample((4000,))
    for method in ("maximum_likelihood", "kendall_tau"):
        other = make("gumbel", 2, rotation=90)
        report = other.fit(u, method)
        assert report.name == "gumbel 90°"
        error = report.standard_errors["alpha"]
        check("alpha", report.parameters["alpha"], near=2, standard_error=error)
        assert error < 0.07
        assert report.log_likelihood == pytest.approx(other().log_prob(u).sum().item())
    assert repr(module) == "Rotated(\n  gumbel 90°, dim=2\n  (copula): Gumbel(dim=2, alpha=2.0)\n)"


def test_bad_input():
    with pytest.raises(ValueError, match=r"rotation is 45; a pair copula is turned by 0, 90, 180 or 270 degrees"):
        make("gumbel", 2, rotation=45)
    with pytest.raises(ValueError, match=r"rotation is 90 in dim 3; only a copula of dim 2 can be turned"):
        make("gumbel", 3, rotation=90)
    with pytest.raises(ValueError, match=r"rotation is '90'; a pair copula"):
        Rotated(make("gumbel", 2), "90")
    with pytest.raises(ValueError, match=r"kendall_tau is -0.5; the clayton copula reaches"):
        make("clayton", 2, rotation=90, kendall_tau=0.5)
    with pytest.raises(ValueError, match=r"column 1 of u holds 1, outside \(0, 1\)"):
        make("clayton", 2, rotation=90).fit(torch.cat([torch.rand(9, 2), torch.tensor([[0.5, 1.0]])]))
