"""The benchmarks' counter and restatement, and the claim that rests on them: our alignment loss never waits for its device."""

from __future__ import annotations

import pytest
import torch

from benchmarks._released_loss import ReleasedLoss
from benchmarks._timing import OperationCount, interleaved


def embeddings(batch: int = 32, dim: int = 256):
    return tuple(torch.nn.functional.normalize(torch.randn(batch, dim), dim=-1).requires_grad_() for _ in range(2))


def test_counter_sees_what_waits():
    x = torch.randn(10)
    waits = [lambda: x[x > 0], lambda: x.sum().item(), lambda: bool((x > 9).any()), lambda: x.nonzero(), lambda: torch.equal(x, x)]
    for operation in waits:
        with OperationCount() as count:
            operation()
        assert count.synchronisations >= 1
    with OperationCount() as count:
        torch.where(x > 0, x, 0).index_select(0, torch.arange(3)).sum()
    assert count.synchronisations == 0 and count.operations >= 4


def test_restatement_has_the_release_s_parameters_operations_and_value():
    loss, batch = ReleasedLoss(), embeddings()
    assert sum(p.numel() for p in loss.parameters()) == 3079
    loss(*batch)
    with OperationCount() as count:
        value = loss(*batch)
    assert count.synchronisations == 28
    assert count.operations == pytest.approx(445, rel=0.03)
    assert value.item() == pytest.approx(3441, rel=0.05)  # six times what another batch of random vectors changes


@pytest.mark.parametrize("link", ["component", "scalar", "dimension"])
@pytest.mark.parametrize("family", ["gumbel", "frank", "clayton", "gaussian"])
def test_our_alignment_loss_never_waits(family, link):
    from benchmarks.alignment_loss import OurLoss

    loss, batch = OurLoss(16, 3, family, link), embeddings(8, 16)
    with OperationCount() as count:
        loss(*batch).backward()
    assert count.synchronisations == 0
    assert all(z.grad.isfinite().all() for z in batch)


def test_calls_are_timed_in_turn():
    order = []
    timings = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=3, warmup=1)
    assert order == ["a", "b"] + ["a", "a", "b", "b"] * 3
    assert all(len(t.seconds) == 3 and t.fastest <= t.median for t in timings.values())
