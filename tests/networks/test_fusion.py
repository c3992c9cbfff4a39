"""Fusion: order, skipped modalities, errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cm2.networks.fusion import AdditiveFusion, ConcatFusion, LSTMFusion


def test_last_state_of_the_top_layer():
    fusion = LSTMFusion(4, hidden=6)
    z = torch.randn(5, 3, 4)
    torch.testing.assert_close(fusion(z), fusion.lstm(z)[0][:, -1])
    assert fusion(z).shape == (5, fusion.output_dim)
    assert fusion.lstm.num_layers == 2


def test_every_embedding_and_weight_gets_a_gradient():
    fusion = LSTMFusion(4, hidden=6)
    z = torch.randn(5, 3, 4, requires_grad=True)
    fusion(z).square().sum().backward()
    assert (z.grad.abs().amax(dim=-1) > 0).all()
    assert all(p.grad.abs().sum() > 0 for p in fusion.parameters())


def test_skipped_modalities_are_as_if_the_sequence_were_shorter():
    fusion = LSTMFusion(4, hidden=6)
    z = torch.randn(4, 3, 4)
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 1, 1]], dtype=torch.bool)
    expected = torch.cat([fusion(row[mask][None]) for row, mask in zip(z, present, strict=True)])
    torch.testing.assert_close(fusion(z, present), expected)


def test_skipped_modalities_are_never_read():
    fusion = LSTMFusion(4, hidden=6)
    present = torch.tensor([[True, False], [False, True]])
    z = torch.randn(2, 2, 4).masked_fill(~present[..., None], torch.nan).requires_grad_()
    out = fusion(z, present)
    out.sum().backward()
    assert out.isfinite().all() and z.grad.isfinite().all()
    assert not z.grad[~present].any()
    assert all(p.grad.isfinite().all() for p in fusion.parameters())


def test_one_layer_with_dropout():
    fusion = LSTMFusion(4, hidden=64, layers=1, dropout=0.5)
    z = torch.randn(2, 2, 4)
    assert (fusion(z) == 0).any() and not (fusion.eval()(z) == 0).any()


def test_another_width_is_refused():
    with pytest.raises(ValueError, match=r"expected embeddings \(B, M, 4\), got \(2, 3, 5\)"):
        LSTMFusion(4)(torch.zeros(2, 3, 5))


def test_concatenation_reads_zeros_for_what_is_skipped():
    fusion = ConcatFusion(4, 3)
    z = torch.randn(2, 3, 4)
    assert fusion.output_dim == 12
    assert torch.equal(fusion(z), torch.cat(z.unbind(1), dim=-1))
    present = torch.tensor([[True, False, True], [False, True, True]])
    holes = z.masked_fill(~present[..., None], torch.nan)
    assert torch.equal(fusion(holes, present), torch.where(present[..., None], z, 0).flatten(1))
    with pytest.raises(ValueError, match=r"expected embeddings \(B, 3, 4\), got \(2, 2, 4\)"):
        fusion(z[:, :2])


def test_additive_log_odds_are_a_sum_over_the_modalities_that_are_read():
    fusion, classifier = AdditiveFusion(4, 3, 5), nn.Linear(15, 1)
    z = torch.randn(6, 3, 4)

    def logit(z, *which):
        return classifier(fusion(z, torch.tensor([m in which for m in range(3)]).expand(len(z), 3)))

    alone = [logit(z, m) - classifier.bias for m in range(3)]
    torch.testing.assert_close(classifier(fusion(z)), classifier.bias + sum(alone))
    torch.testing.assert_close(logit(z, 0, 2), classifier.bias + alone[0] + alone[2])
    assert torch.equal(logit(z), classifier.bias.expand(6, 1)), "what is not read adds exactly 0"
    torch.testing.assert_close(alone[1], nn.functional.linear(fusion.hidden[1](z[:, 1]), classifier.weight[:, 5:10]))
    with pytest.raises(ValueError, match=r"expected embeddings \(B, 3, 4\), got \(6, 2, 4\)"):
        fusion(z[:, :2])


def test_additive_fusion_never_reads_what_is_skipped():
    fusion, present = AdditiveFusion(4, 2, 3), torch.tensor([[True, False], [False, True]])
    z = torch.randn(2, 2, 4).masked_fill(~present[..., None], torch.nan).requires_grad_()
    fusion(z, present).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in fusion.parameters()) and (z.grad[~present] == 0).all()
