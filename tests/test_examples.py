"""A joint distribution in three training loops: each learns, and what it learns reaches the copula."""

from __future__ import annotations

import pytest
import torch

from examples import hugging_face_trainer, lightning_module, plain_loop
from examples.two_views import TwoViews, digits


@pytest.mark.parametrize("example", [plain_loop, lightning_module, hugging_face_trainer])
def test_it_learns(example):
    found = example.main(epochs=3)
    assert found["accuracy"] > 0.5, "one in ten by chance"
    torch.manual_seed(0)
    assert found["kendall_tau"] != pytest.approx(TwoViews().joint.copula().kendall_tau.item(), abs=1e-4), "the copula was trained"


def test_a_missing_view_is_never_read():
    views, observed, labels = (column[:64] for column in digits())
    model = TwoViews().eval()
    other = torch.where(observed[:, :, None], views, torch.nan)
    found = []
    for given in (views, other):
        torch.manual_seed(0)
        found.append(model(given, observed, labels))
    torch.testing.assert_close(found[0], found[1])
