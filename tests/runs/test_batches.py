"""What travels to a device and in which order: raw batches, stays that lie there, texts of like length, images that are moved."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks._timing import OperationCount
from cm2 import Config
from cm2.batch import Batch, Modality
from cm2.kinds import KINDS, augmented, ready
from cm2.kinds.image import SHIFT, TURN, moved
from cm2.methods import build_method, tokenised
from cm2.runs import resident
from cm2.runs.batches import Batches, EpochSampler, text_lengths
from cm2.runs.loops import TrainingLoop
from cm2.runs.resident import Resident, fit_in
from tests.config.wiring import made_up_cohort


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """A stay or two without each kind of modality."""
    return made_up_cohort(tmp_path_factory.mktemp("cohorts") / "every")


@pytest.fixture
def stays(every):
    return tokenised(every, Config.from_profile("smoke")).split("train", "death")


def assert_equal(first: Batch, second: Batch):
    for name, value in first.values.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, tensor in parts:
            other = second.values[name][part] if part else second.values[name]
            assert tensor.dtype == other.dtype and torch.equal(tensor, other), (name, part)
    assert all(torch.equal(getattr(first, part), getattr(second, part)) for part in ("present", "stay_id"))
    torch.testing.assert_close(first.label, second.label, rtol=0, atol=0, equal_nan=True)
    assert all(torch.equal(rows, second.rows[name]) for name, rows in first.rows.items()) and first.raw == second.raw


def test_batches_that_travel_are_the_batches(stays):
    positions = [5, 0, 11, 7]
    raw, read = stays.raw(positions), stays.batch(positions)
    assert (
        raw.raw and not read.raw and raw.values["image"].dtype == torch.uint8 and raw.values["text"]["attention_mask"].dtype == torch.bool
    )
    assert_equal(ready(raw, stays.modalities), read)
    assert ready(read, stays.modalities) is read
    assert {m.kind for m in stays.modalities} == set(KINDS)
    assert raw.with_present(raw.present).raw


def test_stays_on_the_accelerator_give_the_same_batches(stays, monkeypatch):
    monkeypatch.setattr(resident, "AT_ONCE", 7)
    held, read = Resident(stays, torch.device("cpu")), Batches(stays, raw=True)
    for positions in ([3], [5, 0, 11, 7], list(range(len(stays)))):
        assert_equal(held[positions], read[positions])
    assert held.__getstate__()["_held"] == {} and len(held) == len(stays)


def test_stays_with_a_value_that_is_not_finite_do_not_get_there(stays):
    broken = stays.cohort.array("vector").copy()
    row = stays.rows[np.flatnonzero(stays.present[:, stays.modalities.index(next(m for m in stays.modalities if m.kind == "vector"))])[3]]
    broken[row] = np.nan
    stays.cohort.array = lambda name: broken if name == "vector" else type(stays.cohort).array(stays.cohort, name)
    with pytest.raises(ValueError, match=rf"vector: stay {row} has a value that is not finite"):
        Resident(stays, torch.device("cpu"))[[0]]


def test_memory_is_asked_before_stays_are_put_there(stays, monkeypatch):
    needed = resident.size(stays)
    image, (length,) = 32 * 32, next(m.shape for m in stays.modalities if m.kind == "text")
    assert needed > len(stays) * (image + 5 * length)
    assert not fit_in((stays,), 0.25) or torch.accelerator.is_available()
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda: (8 * needed, 9 * needed), raising=False)
    assert fit_in((stays, stays), 0.25) and not fit_in((stays, stays, stays), 0.25) and not fit_in((stays,), 0)


def lengths_within(batches, lengths):
    return sum(max(lengths[batch]) - min(lengths[batch]) for batch in batches)


@pytest.mark.parametrize("size", [96, 101, 5])
def test_texts_of_like_length_share_a_batch_and_every_stay_comes_once(size):
    lengths = np.random.default_rng(0).integers(0, 400, size)
    usual, alike = (EpochSampler(size, 8, seed=3, shuffle=True, lengths=lengths, pool=pool) for pool in (0, 4))
    first = list(alike)
    assert first == list(alike) and len(first) == len(alike) == len(usual)
    assert sorted(i for batch in first for i in batch) == list(range(size))
    assert [len(batch) for batch in first] == [len(batch) for batch in usual]
    assert {i for batch in first[:4] for i in batch} == {i for batch in list(usual)[:4] for i in batch}, "a pool is what was drawn"
    if size > 8:
        alike.epoch = 1
        assert first != list(alike)
        seen = np.where(lengths > 0, lengths, 200)
        assert lengths_within(first, seen) < 0.5 * lengths_within(usual, seen)


def test_stays_without_a_text_are_spread():
    lengths = np.where(np.arange(640) % 2, 0, np.arange(640))
    batches = list(EpochSampler(640, 16, seed=0, shuffle=True, lengths=lengths, pool=40))
    share = np.array([np.mean(lengths[batch] == 0) for batch in batches])
    assert abs(share.mean() - 0.5) < 0.01 and share.min() > 0 and share.max() < 1


def test_processes_share_the_batches_of_a_pool(monkeypatch):
    sampler = EpochSampler(64, 8, seed=1, shuffle=True, lengths=np.arange(64), pool=2)
    whole = list(sampler)
    for rank in (0, 1):
        monkeypatch.setattr(EpochSampler, "_rank", staticmethod(lambda rank=rank: (rank, 2)))
        assert list(sampler) == whole[rank::2]


def test_lengths_are_those_of_the_texts_that_are_observed(stays):
    text = next(i for i, m in enumerate(stays.modalities) if m.kind == "text")
    mask = stays.batch(range(len(stays))).values["text"]["attention_mask"]
    assert np.array_equal(text_lengths(stays), mask.sum(1).numpy())
    assert np.array_equal(text_lengths(stays) > 0, stays.present[:, text].numpy())


class Drawn:
    """In place of torch.rand: the same four numbers for each image, turn, scale, right and down, from -1 to 1."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = numbers

    def __call__(self, n: int, four: int, device: torch.device) -> torch.Tensor:
        return (torch.tensor(self.numbers, device=device).expand(n, four) + 1) / 2


def bar(height=48, width=96):
    image = torch.zeros(1, height, width)
    image[:, height // 2 - 2 : height // 2 + 2, width // 2 - 16 : width // 2 + 16] = 1
    return image


def moments(image):
    down, right = torch.meshgrid(torch.arange(image.shape[1]), torch.arange(image.shape[2]), indexing="ij")
    place = torch.stack([right, down]).float().flatten(1)
    weight = image.flatten() / image.sum()
    mean = place @ weight
    return mean, ((place - mean[:, None]) * weight) @ (place - mean[:, None]).T


def test_images_are_turned_scaled_and_shifted_by_what_is_drawn(monkeypatch):
    mean, spread = moments(bar())
    torch.testing.assert_close(moved(bar(), 0.0), bar(), atol=1e-4, rtol=0)
    monkeypatch.setattr(torch, "rand", Drawn(0, 0, 1, -0.5))
    shift = moments(moved(bar(), 1.0))[0] - mean
    torch.testing.assert_close(shift, torch.tensor([SHIFT * 96, -0.5 * SHIFT * 48]), atol=0.1, rtol=0)
    monkeypatch.setattr(torch, "rand", Drawn(1, 0, 0, 0))
    turned, (cosine, sine) = moments(moved(bar(), 0.5))[1], (np.cos(TURN / 2), np.sin(TURN / 2))
    turn = torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float32)
    expected = turn @ spread @ turn.T
    assert min((turned - expected).abs().max(), (turned - turn.T @ spread @ turn).abs().max()) < 0.03 * spread.max()
    monkeypatch.setattr(torch, "rand", Drawn(0, 1, 0, 0))
    assert moved(bar(), 1.0).sum() / bar().sum() == pytest.approx(1.15**2, rel=0.03)


def test_only_training_images_are_changed_by_the_seed_alone(every):
    config = Config.from_profile("smoke", {"modalities": ("series", "image", "text"), "train.augment": 0.5})
    cohort = tokenised(every, config)
    batch = cohort.split("train", "death").batch(range(8))
    loop = TrainingLoop(build_method(config, cohort), config)
    seen = []
    loop.method.loss = lambda given: seen.append(given) or {"loss": torch.zeros(())}
    loop.method.predictive = lambda given: seen.append(given) or (torch.zeros(8), torch.zeros(8))
    loop._trainer = type("Trainer", (), {"current_epoch": 0})()
    for step in (0, 1, 0):
        loop.training_step(batch, step)
    loop.predict_step(batch, 0)
    first, other, again, predicted = (given.values["image"] for given in seen)
    assert torch.equal(first, again) and not torch.equal(first, other) and not torch.equal(first, batch.values["image"])
    assert torch.equal(predicted, batch.values["image"])
    assert all(given.values[name] is batch.values[name] for given in seen for name in ("series", "text"))


def test_nothing_waits_for_the_device(stays):
    raw, held = stays.raw(range(8)), Resident(stays, torch.device("cpu"))
    here = torch.arange(8)
    held[[0]]
    with OperationCount() as count:
        augmented(ready(raw, stays.modalities), stays.modalities, 0.3)
        for modality in (m for m in stays.modalities if not m.vocabulary):  # a text's length is known to the host
            held._gathered(modality, here, here)
    assert count.synchronisations == 0 and count.operations > 10


def test_a_modality_of_another_shape_needs_no_new_code():
    """A kind that says nothing of itself travels as it is read."""
    made = Batch({"x": torch.ones(2, 3)}, torch.ones(2, 1, dtype=torch.bool), torch.zeros(2), torch.arange(2), raw=True)
    assert torch.equal(ready(made, [Modality("x", "vector", (3,))]).values["x"], made.values["x"])
