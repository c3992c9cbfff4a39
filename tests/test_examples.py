"""A joint distribution in three training loops: each learns, and what it learns reaches the copula."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from transformers import default_data_collator

from examples import lightning_module, plain_loop
from examples.two_views import TwoViews, digits


@pytest.mark.parametrize("example", [plain_loop, lightning_module])
def test_it_learns(example):
    found = example.main(epochs=3)
    assert found["accuracy"] > 0.5, "one in ten by chance"
    torch.manual_seed(0)
    assert found["kendall_tau"] != pytest.approx(TwoViews().joint.copula().kendall_tau.item(), abs=1e-4), "the copula was trained"


def test_the_trainer_of_hugging_face():
    pytest.importorskip("accelerate", reason="transformers' Trainer needs it")
    from examples import hugging_face_trainer

    assert hugging_face_trainer.main(epochs=3)["accuracy"] > 0.5


@pytest.mark.skipif(find_spec("accelerate") is not None, reason="the Trainer itself is tested")
def test_what_the_trainer_of_hugging_face_asks_for():
    """Rows whose names are the model's arguments, collated by its own function, and outputs that hold the loss."""
    from examples import hugging_face_trainer

    rows = hugging_face_trainer.Digits(torch.arange(1797) % 4 == 0)
    batch = default_data_collator([rows[k] for k in range(32)])
    outputs = TwoViews()(**batch)
    outputs["loss"].backward()
    assert outputs["logits"].shape == (32, 10) and len(rows) == 450


def test_a_missing_view_is_never_read():
    views, observed, labels = (column[:64] for column in digits())
    model = TwoViews().eval()
    other = torch.where(observed[:, :, None], views, torch.nan)
    found = []
    for given in (views, other):
        torch.manual_seed(0)
        found.append(model(given, observed, labels))
    torch.testing.assert_close(found[0], found[1])
