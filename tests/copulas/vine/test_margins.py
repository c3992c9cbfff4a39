"""Margins over every set of coordinates: exact where they are vines, by quadrature elsewhere."""

from itertools import combinations

import pytest
import torch

from cm2.book.checks import check
from cm2.copulas import make
from cm2.copulas.vine import Vine, VineDistribution, VineStructure
from cm2.copulas.vine.hidden import plan
from cm2.copulas.vine.margin import VineMargin

MIXED = [
    [("gumbel", 2.0, 0), ("clayton", 1.5, 180), ("joe", 1.7, 90)],
    [("frank", 3.0, 0), ("clayton", 0.8, 0)],
    [("gumbel", 1.4, 0)],
]
STRONG = [[("clayton", 8.0, 0), ("gumbel", 5.0, 0), ("frank", 18.0, 0)], [("joe", 5.0, 0), ("frank", -12.0, 0)], [("gumbel", 3.0, 180)]]
SETS = [s for size in (2, 3, 4) for s in combinations(range(4), size)]


def vine(kind="d", pairs=MIXED):
    return Vine(4, kind, [[make(name, 2, alpha=alpha, rotation=turn) for name, alpha, turn in tree] for tree in pairs])


def mask(present, dim=4):
    return torch.tensor([v in present for v in range(dim)])


def integrated(law, u, present, count):
    """log of the density with the absent coordinates integrated out by trapezoids in their logits."""
    x = torch.linspace(-40, 40, count)
    low, high = torch.nn.functional.logsigmoid(x), torch.nn.functional.logsigmoid(-x)
    log_u, log1m_u, weight = torch.log(u), torch.log1p(-u), torch.zeros(len(u))
    for v in set(range(law.dim)) - set(present):
        column = lambda tails, v=v, values=None: torch.cat([tails[..., :v], values, tails[..., v + 1 :]], -1)
        shape = (count, *log_u.shape[:-1], 1)
        ahead = lambda values, shape=shape: values.view(-1, *[1] * (len(shape) - 1)).expand(shape)
        log_u, log1m_u = (column(tails.expand(count, *tails.shape), values=ahead(new)) for tails, new in ((log_u, low), (log1m_u, high)))
        weight = weight + (low + high + torch.log(x[1] - x[0])).view(-1, *[1] * weight.dim())
    value = law.log_prob_tails(log_u, log1m_u) + weight
    return value.flatten(0, -2).logsumexp(0) if value.dim() > 1 else value


@pytest.mark.parametrize("kind", ["c", "d"])
@pytest.mark.parametrize("present", SETS)
def test_every_margin(kind, present):
    law = vine(kind)()
    with torch.no_grad():
        u = torch.cat([law.sample((2,)), torch.rand(2, 4) * 0.9 + 0.05])
        value = law.log_prob(torch.where(mask(present), u, torch.nan), mask(present).expand(4, 4))
        hidden = len(plan(law.structure, frozenset(present)).hidden)
        expected = integrated(law, u, present, {0: 0, 1: 400, 2: 240}[4 - len(present)])
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-6 if hidden < 2 else 1e-4)
        part = law.marginalise(mask(present))
        assert isinstance(part, VineMargin if hidden else VineDistribution)
        torch.testing.assert_close(part.log_prob(u[:, list(present)]), value, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("kind", "present"), [("d", (0, 2)), ("d", (0, 2, 3)), ("c", (1, 2)), ("c", (0, 2, 3))])
def test_strong_dependence(kind, present):
    law = vine(kind, STRONG)()
    with torch.no_grad():
        u = law.sample((30,))
        part = law.marginalise(mask(range(max(present) + 1)))
        kept = [v for v in range(4) if v <= max(present)]
        expected = integrated(part, u[:, kept], present, 3000)
        error = law.log_prob(u, mask(present).expand(30, 4)) - expected
        assert error.abs().max() < 5e-2
        assert error.abs().median() < 1e-5


@pytest.mark.parametrize("kind", ["c", "d"])
def test_masks_per_point_equal_one_at_a_time(kind):
    law, u = vine(kind)(), torch.rand(60, 4) * 0.98 + 0.01
    present = torch.rand(60, 4) < 0.6
    value = law.log_prob(torch.where(present, u, torch.nan), present)
    alone = torch.stack([law.log_prob(point, here) for point, here in zip(u, present, strict=True)])
    torch.testing.assert_close(value, alone, rtol=1e-11, atol=1e-11)
    assert (value[present.sum(-1) < 2] == 0).all()
    two = law.log_prob(u.view(6, 10, 4), present.view(6, 10, 4))
    torch.testing.assert_close(two, value.view(6, 10), rtol=1e-11, atol=1e-11)


def test_masks_that_are_not_read_give_the_same(monkeypatch):
    law, u, present = vine()(), torch.rand(20, 4) * 0.9 + 0.05, torch.rand(20, 4) < 0.6
    value = law.log_prob(u, present)
    monkeypatch.setattr("cm2.copulas.vine.patterns._reads", lambda mask, dim: False)
    torch.testing.assert_close(law.log_prob(u, present), value, rtol=1e-11, atol=1e-11)
    draws = law.conditional_sample(u, present)
    assert torch.equal(draws[0][present], u[present])


def test_a_gaussian_vine_is_the_gaussian_copula():
    """Partial correlations along the trees give the correlation matrix; every margin is Gaussian, by closed form."""
    matrix = torch.tensor([[1, 0.6, 0.3, 0.5], [0.6, 1, 0.4, 0.2], [0.3, 0.4, 1, -0.3], [0.5, 0.2, -0.3, 1]])
    structure = VineStructure(4, [[(0, 1), (1, 2), (1, 3)], [(0, 2, [1]), (2, 3, [1])], [(0, 3, [1, 2])]])

    def partial(edge):
        chosen = [edge.first, edge.second, *edge.given]
        precision = torch.linalg.inv(matrix[chosen][:, chosen])
        return -precision[0, 1] / torch.sqrt(precision[0, 0] * precision[1, 1])

    law = Vine(4, structure, [[make("gaussian", 2, rho=partial(edge)) for edge in tree] for tree in structure.trees])()
    gaussian = make("gaussian", 4, correlation=matrix)()
    u = torch.rand(30, 4) * 0.98 + 0.01
    torch.testing.assert_close(law.log_prob(u), gaussian.log_prob(u), rtol=0, atol=1e-9)
    for present in SETS:
        here = mask(present).expand(30, 4)
        torch.testing.assert_close(law.log_prob(u, here), gaussian.log_prob(u, here), rtol=0, atol=1e-6)
    torch.testing.assert_close(law.kendall_tau, gaussian.kendall_tau, rtol=0, atol=4e-3)
    torch.testing.assert_close(law.spearman_rho, gaussian.spearman_rho, rtol=0, atol=4e-3)
    torch.testing.assert_close(law.cdf(u), gaussian.cdf(u), rtol=0, atol=3e-4)


@pytest.mark.parametrize("present", [(0, 2), (0, 2, 3), (0, 3)])
def test_margins_that_are_no_vine_have_every_operation_but_h(present):
    whole = vine()()
    law = whole.marginalise(mask(present))
    u = law.sample((500,))
    w = law.conditional_sample(u[:5], torch.arange(len(present)).expand(5, -1) > 0, 2)
    assert w.shape == (2, 5, len(present))
    assert law.kendall_tau.shape == law.spearman_rho.shape == law.tail_dependence[0].shape == ((3, 3) if len(present) == 3 else ())
    bound = torch.tensor([0.4, 0.7, 0.5])[: len(present)]
    below, value = (whole.sample((20_000,))[:, list(present)] <= bound).all(-1).double(), law.cdf(bound)
    error = torch.sqrt(value * (1 - value) / len(below))
    check("points below are as many as the cdf says", below.mean(), near=value.detach(), standard_error=error, within=1e-3)
    assert law.expand((3,)).log_prob(u[:3]).shape == (3,)
    assert law.marginalise(torch.arange(len(present)) < 2).log_prob(u[:, :2]).shape == (500,)
    if len(present) == 2:
        with pytest.raises(TypeError, match="has no h; it has log_prob, cdf and conditional_sample"):
            law.h(u)


def test_single_precision_has_no_surprises():
    module = vine()
    u, present = torch.rand(200, 4), torch.rand(200, 4) < 0.6
    expected = module().log_prob(u.float().double(), present)
    value = module.float()().log_prob(u.float(), present)
    assert value.dtype == torch.float32
    assert ((value - expected).abs() < 1e-3 * expected.abs().clamp_min(1)).all()
