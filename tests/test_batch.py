"""The batch contract: every error, and what travels along when a batch moves or is narrowed."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from cm2.batch import Batch

PRESENT = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]], dtype=torch.bool)


def parts() -> dict:
    values = {
        "series": torch.randn(4, 3, 2).masked_fill(~PRESENT[:, 0, None, None], torch.nan),
        "image": torch.randint(0, 255, (4, 8, 8), dtype=torch.uint8),
        "note": {"input_ids": torch.ones(4, 5, dtype=torch.long), "attention_mask": torch.ones(4, 5, dtype=torch.long)},
    }
    return {"values": values, "present": PRESENT.clone(), "label": torch.tensor([0.0, 1, 0, 1]), "stay_id": torch.arange(100, 104)}


def test_rows_list_who_has_what():
    batch = Batch(**parts())
    assert len(batch) == 4
    assert batch.modalities == ("series", "image", "note")
    assert {name: rows.tolist() for name, rows in batch.rows.items()} == {"series": [0, 1, 3], "image": [0, 2, 3], "note": [1, 2, 3]}


def test_placeholders_of_absent_modalities_may_be_anything():
    assert parts()["values"]["series"][2].isnan().all()
    Batch(**parts())


def test_a_batch_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Batch(**parts()).label = torch.zeros(4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"present": PRESENT.float()}, r"present: expected bool \(B, M\), got torch.float32"),
        ({"present": PRESENT[:, 0]}, r"present: expected bool \(B, M\), got torch.bool \(4,\)"),
        ({"present": PRESENT[:, :2]}, r"present has 2 columns for 3 modalities \['series', 'image', 'note'\]"),
        ({"present": PRESENT[:3]}, r"series: expected 3 rows as in present, got shape \(4, 3, 2\)"),
        ({"label": torch.zeros(3)}, r"label: expected shape \(4,\) or \(4, L\), got \(3,\)"),
        ({"label": torch.zeros(4, 1, 1)}, r"label: expected shape \(4,\) or \(4, L\), got \(4, 1, 1\)"),
        ({"stay_id": torch.arange(5)}, r"stay_id: expected shape \(4,\), got \(5,\)"),
        ({"present": PRESENT & (torch.arange(4) != 2)[:, None]}, "stay 102 has no modality; drop such stays"),
        ({"label": torch.tensor([0.0, 1, torch.inf, 1])}, "label: expected a finite number for every stay, or NaN"),
    ],
)
def test_parts_that_disagree_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Batch(**parts() | change)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_present_values_must_be_finite(bad):
    given = parts()
    given["values"]["series"][1, 2, 0] = bad
    with pytest.raises(ValueError, match="series: stay 101 has a value that is not finite; impute or mark the modality absent"):
        Batch(**given)


def test_both_parts_of_a_text_need_every_row():
    given = parts()
    given["values"]["note"]["attention_mask"] = torch.ones(3, 5, dtype=torch.long)
    with pytest.raises(ValueError, match=r"note.attention_mask: expected 4 rows as in present, got shape \(3, 5\)"):
        Batch(**given)


def test_everything_moves():
    batch = Batch(**parts())
    moved = batch.to("meta")
    assert {moved.present.device.type, moved.label.device.type, moved.stay_id.device.type} == {"meta"}
    assert moved.values["series"].device.type == moved.values["note"]["input_ids"].device.type == "meta"
    assert {name: rows.shape for name, rows in moved.rows.items()} == {name: rows.shape for name, rows in batch.rows.items()}
    assert all(rows.device.type == "meta" for rows in moved.rows.values())
    assert batch.present.device.type == "cpu"


def test_moving_checks_nothing_again():
    """A meta tensor has no values: a check on it would fail, as it would wait for an accelerator."""
    again = Batch(**parts()).to("meta").to("meta")
    assert len(again) == 4 and again.modalities == ("series", "image", "note")


def test_taking_modalities_away_recomputes_the_rows():
    batch = Batch(**parts())
    fewer = PRESENT.clone()
    fewer[3, 0] = False
    narrowed = batch.with_present(fewer)
    assert narrowed.rows["series"].tolist() == [0, 1]
    assert narrowed.rows["note"].tolist() == [1, 2, 3]
    assert batch.rows["series"].tolist() == [0, 1, 3]
    assert narrowed.values is batch.values


def test_modalities_cannot_be_conjured_up():
    with pytest.raises(ValueError, match="a modality that the cohort lacks for a stay was asked for"):
        Batch(**parts()).with_present(torch.ones_like(PRESENT))


def test_taking_the_last_modality_away_is_refused():
    fewer = PRESENT.clone()
    fewer[0] = False
    with pytest.raises(ValueError, match="stay 100 has no modality"):
        Batch(**parts()).with_present(fewer)


def test_replacing_parts_of_a_checked_batch_keeps_its_rows():
    batch = Batch(**parts())
    assert replace(batch, label=torch.ones(4)).rows is batch.rows
