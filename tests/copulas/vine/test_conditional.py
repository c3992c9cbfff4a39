"""Draws of the absent coordinates given any set of present ones."""

from itertools import combinations

import pytest
import torch
from scipy import stats

from cm2.book.checks import FALSE_ALARM, check
from cm2.copulas import make
from cm2.copulas.vine import Vine, VineStructure
from cm2.copulas.vine.hidden import plan

SETS = [s for size in (1, 2, 3) for s in combinations(range(4), size)]
# the trees of neither a C- nor a D-vine, dim 5
TREES = [[(0, 1), (1, 2), (1, 3), (3, 4)], [(0, 2, [1]), (2, 3, [1]), (1, 4, [3])], [(0, 3, [1, 2]), (2, 4, [1, 3])], [(0, 4, [1, 2, 3])]]


def vine(kind="d"):
    pairs = [
        [make("gumbel", 2, alpha=2.0), make("clayton", 2, alpha=2.5, rotation=180), make("student", 2, rho=-0.6, nu=3.0)],
        [make("frank", 2, alpha=5.0), make("joe", 2, alpha=2.0, rotation=270)],
        [make("gaussian", 2, rho=0.5)],
    ]
    return Vine(4, kind, pairs)


def check_uniform(law, drawn):
    """The Rosenblatt transform of draws given draws: independent uniforms, whatever was given."""
    w = law.rosenblatt(drawn).numpy()
    p = [stats.kstest(column, "uniform").pvalue for column in w.T]
    p += [stats.kendalltau(w[:, i], w[:, j]).pvalue for i, j in combinations(range(w.shape[1]), 2)]
    check("uniform, and uncorrelated in pairs", p, above=FALSE_ALARM / len(p))


@pytest.mark.parametrize("kind", ["c", "d"])
@pytest.mark.parametrize("present", SETS)
def test_any_given_set(kind, present):
    law = vine(kind)()
    here = torch.tensor([v in present for v in range(4)])
    hidden = len(plan(law.structure, frozenset(present)).hidden)
    n = (1500, 800, 100)[hidden]  # each hidden coordinate takes its time
    with torch.no_grad():
        u = law.sample((n,))
        drawn = law.conditional_sample(torch.where(here, u, torch.nan), here.expand(n, 4))[0]
        assert torch.equal(drawn[:, here], u[:, here])
        assert (drawn[:, ~here] != u[:, ~here]).all()
        check_uniform(law, drawn)


def test_masks_that_differ_from_point_to_point_in_a_regular_vine_of_five():
    families = [make("gumbel", 2, alpha=1.8), make("clayton", 2, alpha=1.5), make("frank", 2, alpha=-4.0), make("gaussian", 2, rho=0.5)]
    law = Vine(5, VineStructure(5, TREES), [families[: len(tree)] for tree in TREES])()
    with torch.no_grad():
        u = law.sample((1200,))
        present = torch.rand(1200, 5) < 0.75
        # at most one coordinate hidden between present ones, to be quick
        present[present.sum(-1) < 4] = True
        drawn = law.conditional_sample(torch.where(present, u, torch.nan), present, 2)
        assert drawn.shape == (2, 1200, 5)
        assert torch.equal(drawn[:, present], u[present].expand(2, -1))
        check_uniform(law, drawn[1])


@pytest.mark.parametrize("present", [(0, 2), (1, 3), (0, 2, 3), (0,)])
def test_draws_are_differentiable(present):
    module = vine()
    here = torch.tensor([v in present for v in range(4)])

    def mean(law, given):
        torch.manual_seed(3)
        u = torch.where(here, given, 0.5).expand(40, 4)
        drawn = law.conditional_sample(u, here.expand(40, 4))[0]
        return drawn[:, ~here].square().mean()

    given = torch.full((4,), 0.4).requires_grad_()
    value = mean(module(validate_args=False), given)
    grads = torch.autograd.grad(value, (given, *module.parameters()), allow_unused=True)
    assert (grads[0][here] != 0).all() and (grads[0][~here] == 0).all()
    with torch.no_grad():
        law = module(validate_args=False)
        for v in present:
            step = 1e-5 * torch.nn.functional.one_hot(torch.tensor(v), 4)
            difference = (mean(law, given + step) - mean(law, given - step)) / 2e-5
            assert grads[0][v].item() == pytest.approx(difference.item(), rel=2e-3, abs=1e-5)
        for own, grad in zip(module.parameters(), grads[1:], strict=True):
            own += 1e-5
            above = mean(module(validate_args=False), given)
            own -= 2e-5
            below = mean(module(validate_args=False), given)
            own += 1e-5
            assert (0.0 if grad is None else grad.sum().item()) == pytest.approx((above - below).item() / 2e-5, rel=5e-3, abs=2e-5)


def test_batched_parameters_draw_too():
    law = Vine(
        3, "d", [[make("gumbel", 2, alpha=torch.tensor([1.5, 3.0])), make("clayton", 2, alpha=2.0)], [make("frank", 2, alpha=3.0)]]
    )()
    present = torch.tensor([True, False, True])
    drawn = law.conditional_sample(torch.full((2000, 1, 3), 0.2), present.expand(2000, 1, 3), 1)
    assert drawn.shape == (1, 2000, 2, 3)
    alone = Vine(3, "d", [[make("gumbel", 2, alpha=3.0), make("clayton", 2, alpha=2.0)], [make("frank", 2, alpha=3.0)]])()
    other = alone.conditional_sample(torch.full((2000, 3), 0.2), present.expand(2000, 3))[0, :, 1]
    p = stats.ks_2samp(drawn[0, :, 1, 1].detach().numpy(), other.detach().numpy()).pvalue
    check("draws of one of several laws", p, above=FALSE_ALARM)
