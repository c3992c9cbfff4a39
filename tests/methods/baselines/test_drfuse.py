"""DrFuse: its formulas against the paper's, what each variant aligns, what attention sees."""

import math

import pytest
import torch
from torch.nn import functional as F

from cm2.methods.baselines.drfuse import _divergence, _ranking
from cm2.tasks.scales import mean_log_odds
from tests.methods.baselines.cases import IMAGE, MIXED, SERIES, build, make_batch

EVERY = torch.ones(3, 2, dtype=torch.bool)


def test_two_shared_parts_are_pooled_as_in_the_paper():
    torch.manual_seed(0)
    s, t = 6 * torch.randn(2, 40, 5, dtype=torch.float64)
    zero = torch.zeros_like(s)
    printed = torch.stack([s + t, s + t, s, t]).logsumexp(dim=0) - torch.stack([zero, zero, s, t]).logsumexp(dim=0)
    ours = mean_log_odds(torch.stack([s, t], dim=1), torch.ones(40, 2, 1, dtype=torch.bool))
    torch.testing.assert_close(ours, printed, rtol=1e-12, atol=1e-12)


def test_the_divergence_is_that_of_bernoulli_laws():
    p, q = torch.tensor([[0.9, 0.2]], dtype=torch.float64), torch.tensor([[0.5, 0.2]], dtype=torch.float64)
    ours = _divergence(p.logit(), q.logit(), both_outcomes=True)
    m = 0.7
    expected = 0.5 * (0.9 * math.log(0.9 / m) + 0.1 * math.log(0.1 / 0.3) + 0.5 * math.log(0.5 / m) + 0.5 * math.log(0.5 / 0.3))
    assert float(ours) == pytest.approx(expected, rel=1e-12)
    half = _divergence(p.logit(), q.logit(), both_outcomes=False)
    assert float(half) == pytest.approx(0.5 * (0.9 * math.log(0.9 / m) + 0.5 * math.log(0.5 / m)), rel=1e-12)
    sure = _divergence(torch.tensor([[200.0]]), torch.tensor([[-200.0]]), both_outcomes=True)
    assert float(sure) == pytest.approx(math.log(2), rel=1e-5)


def test_the_better_token_should_weigh_more():
    label = torch.tensor([1.0, 1.0, 0.0])
    logits = torch.tensor([[2.0, -1.0, 0.0]]).expand(3, 3)  # the first token is best for outcome 1, the second for 0
    errors = F.binary_cross_entropy_with_logits(logits, label[:, None].expand(3, 3), reduction="none")
    weights = torch.tensor([[0.1, 0.6, 0.3]]).expand(3, 3)
    margin = torch.stack([weights[0, 1] - weights[0, 0], weights[0, 2] - weights[0, 0], weights[0, 1] - weights[0, 2]])
    torch.testing.assert_close(_ranking(weights, errors, EVERY), margin.mean())
    alone = torch.tensor([[True, False]]).expand(3, 2)
    assert _ranking(weights, errors, alone) == 0, "a stay with one modality has nothing to rank"


@pytest.mark.parametrize("variant", ["original", "released"])
def test_attention_is_a_law_over_present_tokens(variant):
    batch = make_batch(MIXED[3], stays=14)
    parts = build("drfuse", MIXED[3], variant).eval().disentangle(batch)
    torch.testing.assert_close(parts.weights.sum(dim=1), torch.ones(14))
    assert torch.equal(parts.weights[:, :3] > 0, batch.present)
    assert (parts.weights[:, 3] > 0).all()


def test_a_stay_with_one_modality_shares_that_ones_part():
    batch = make_batch(MIXED[3], stays=14)
    parts = build("drfuse", MIXED[3]).eval().disentangle(batch)
    for row in (batch.present.sum(dim=1) == 1).nonzero().flatten():
        torch.testing.assert_close(parts.pooled[row], parts.shared[row, batch.present[row]][0])


def test_only_the_released_variant_aligns_stays_without_pairs():
    present = torch.tensor([[True, True], [True, True], [True, False], [False, True]])
    batch = make_batch((SERIES, IMAGE), stays=4, present=present)
    paired = slice(0, 2)
    for variant, rows in (("original", paired), ("released", slice(None))):
        method = build("drfuse", (SERIES, IMAGE), variant).eval()
        shared = method.disentangle(batch).shared[rows]
        each = _divergence(shared[:, 0], shared[:, 1], both_outcomes=variant == "original")
        torch.testing.assert_close(method.loss(batch)["alignment"], each.sum().detach() / 2)
    lonely = make_batch((SERIES, IMAGE), stays=4, present=torch.eye(2, dtype=torch.bool).repeat(2, 1))
    assert build("drfuse", (SERIES, IMAGE)).loss(lonely)["alignment"] == 0


def test_the_loss_is_the_sum_of_its_terms():
    batch = make_batch(MIXED[3], stays=14)
    method = build("drfuse", MIXED[3]).eval()
    terms, parts = method.loss(batch), method.disentangle(batch)
    heads = F.binary_cross_entropy_with_logits(method.shared_head(parts.pooled).squeeze(-1), batch.label)
    for m, name in enumerate(MIXED[3]):
        rows = batch.present[:, m]
        own = method.heads[name.name](parts.distinct[rows, m]).squeeze(-1)
        heads = heads + F.binary_cross_entropy_with_logits(own, batch.label[rows])
    total = heads + terms["task"] + terms["alignment"] + terms["orthogonality"] + terms["ranking"]
    torch.testing.assert_close(terms["loss"], total)


def test_two_residual_networks_have_one_stem():
    shared, distinct = build("drfuse", (SERIES, IMAGE)).encoders["image"].networks
    assert shared.network.conv1 is distinct.network.conv1
    assert shared.network.layer1 is not distinct.network.layer1


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"baseline.embedding_dim = 9 is not a multiple of baseline.drfuse.heads = 2"):
        build("drfuse", (SERIES, IMAGE), baseline__embedding_dim=9)


@pytest.mark.parametrize("series", ["lstm", "transformer"])
def test_common_encoders_take_the_place_of_its_own(series):
    batch = make_batch((SERIES, IMAGE), stays=6)
    method = build("drfuse", (SERIES, IMAGE), baseline__encoders="common", encoder__series__kind=series)
    name = {"lstm": "LSTMEncoder", "transformer": "TransformerEncoder"}[series]
    assert [type(network).__name__ for network in method.encoders["series"].networks] == [name, name]
    method.loss(batch)["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in method.parameters())
