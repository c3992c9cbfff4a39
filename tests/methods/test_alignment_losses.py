"""Cosine and KL alignment: known values, pairs, absent embeddings."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from cm2.book.checks import check
from cm2.methods.alignment_losses import ALIGNMENTS, cosine_alignment, kl_alignment

every_alignment = pytest.mark.parametrize("name", ALIGNMENTS)


def everything(z):
    return torch.ones(z.shape[:2], dtype=torch.bool)


def test_values_of_random_unit_vectors_are_those_of_the_released_code():
    z = F.normalize(torch.randn(2000, 2, 256), dim=-1)
    assert kl_alignment(z, everything(z)).item() == pytest.approx(0.097, abs=2e-3)
    check("the cosine distance", cosine_alignment(z, everything(z)), near=1, standard_error=(2000 * 256) ** -0.5)


def test_against_torch():
    x, y = torch.randn(2, 7, 5)
    z = torch.stack((x, y), 1)
    expected = F.kl_div((y / 0.2).log_softmax(-1), (x / 0.2).softmax(-1), reduction="batchmean")
    torch.testing.assert_close(kl_alignment(z, everything(z)), expected)
    torch.testing.assert_close(cosine_alignment(z, everything(z)), F.cosine_embedding_loss(x, y, torch.ones(7)))


@every_alignment
def test_equal_embeddings_are_aligned(name):
    z = torch.randn(4, 1, 6).expand(4, 3, 6)
    assert ALIGNMENTS[name](z, everything(z)).item() == pytest.approx(0, abs=1e-6)


@every_alignment
def test_the_mean_is_over_the_pairs_that_are_there(name):
    z = torch.randn(3, 3, 6)
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    pairs = [(0, 0, 1), (0, 0, 2), (0, 1, 2), (1, 0, 2)]
    each = [ALIGNMENTS[name](z[i : i + 1, [m, n]], torch.ones(1, 2, dtype=torch.bool)) for i, m, n in pairs]
    torch.testing.assert_close(ALIGNMENTS[name](z, present), torch.stack(each).mean())


@every_alignment
@pytest.mark.parametrize("filler", [math.nan, 0.0])
def test_absent_embeddings_are_never_read(name, filler):
    present = torch.tensor([[True, False, True], [False, True, False]])
    z = torch.randn(2, 3, 6).masked_fill(~present[..., None], filler).requires_grad_()
    ALIGNMENTS[name](z, present).backward()
    assert z.grad.isfinite().all() and not z.grad[~present].any() and not z.grad[1].any()
    assert z.grad[0, 0].any() and z.grad[0, 2].any()


@every_alignment
def test_without_a_pair_it_is_zero(name):
    z = torch.randn(2, 2, 6, requires_grad=True)
    value = ALIGNMENTS[name](z, torch.tensor([[True, False], [False, True]]))
    value.backward()
    assert value.item() == 0 and not z.grad.any()
