"""Every kind of modality: written, read, checked, put into a batch, encoded and trained on."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

from cm2 import Config, load_cohort
from cm2.batch import Modality
from cm2.cohorts import Cohort
from cm2.kinds import KINDS, ArrayKind, build_encoder, kind
from cm2.methods import METHODS, build_method, tokenised
from data_prep.writer import PreparedCohort, PreparedModality, write_cohort

N = 24
ABSENT = (4, 9)
COLOUR = np.random.default_rng(1).integers(0, 256, size=(N, 32, 32, 3), dtype=np.uint8)
FORMS = {name: {} for name in sorted(KINDS)} | {"image in colour": {"image": COLOUR}}
"""Every kind with the values of its example, and the forms in which one has other shapes."""
every_form = pytest.mark.parametrize("form", FORMS)
every_kind = pytest.mark.parametrize("name", sorted(KINDS))


def write(out, *names: str, **changes) -> Cohort:
    """A cohort of made-up modalities, one of each kind; two stays lack the first."""
    rng = np.random.default_rng(0)
    present = [~np.isin(np.arange(N), ABSENT), *(np.ones(N, dtype=bool) for _ in names[1:])]
    data = {name: kind(name).example(N, rng) for name in names} | changes
    modalities = {f"my_{name}": PreparedModality(name, data[name], here) for name, here in zip(names, present, strict=True)}
    split = np.array(["train", "train", "valid", "test"])[np.arange(N) % 4]
    stays = pd.DataFrame({"stay_id": np.arange(N), "split": split, "death": (np.arange(N) // 4) % 2})
    tasks = {"death": "made up"}
    made = PreparedCohort("mine", "made up", "1", {}, stays, modalities, tasks, [], {}, credentialed=False)
    return load_cohort(write_cohort(out, made))


def write_form(out, form: str) -> tuple[str, Cohort]:
    """The kind of a form, and a cohort in which its modality comes first."""
    name = form.split()[0]
    return name, write(out, name, "series" if name != "series" else "vector", **FORMS[form])


@every_form
def test_written_and_read(form, tmp_path):
    name, cohort = write_form(tmp_path / "c", form)
    own, entry = kind(name), cohort.manifest["modalities"][f"my_{name}"]
    assert entry["kind"] == name == own.name
    own.check(cohort, f"my_{name}", entry)
    assert own.misplaced(cohort, f"my_{name}", cohort.present[:, 0])[1] == ""
    assert own.misplaced(cohort, f"my_{name}", np.arange(N) >= N // 2)[1], "values of stays that should have none"
    extremity = cohort.summary(f"my_{name}")
    assert extremity.shape == (N,) and np.isfinite(extremity).all() and len(set(extremity)) > 2


@every_kind
def test_two_preparations_are_compared(name, tmp_path):
    other, rows = "series" if name != "series" else "vector", np.arange(N)
    first, again = write(tmp_path / "a", name, other), write(tmp_path / "b", name, other)
    assert kind(name).alike(first, again, f"my_{name}", rows, rows).all()
    data = kind(name).example(N, np.random.default_rng(0))
    data[5] = data[6] = kind(name).example(1, np.random.default_rng(9))[0]
    changed = kind(name).alike(first, write(tmp_path / "c", name, other, **{name: data}), f"my_{name}", rows, rows)
    assert set(np.flatnonzero(~changed)) <= {5, 6} and not changed.all()


@every_form
def test_absent_rows_of_a_batch_are_placeholders(form, tmp_path):
    name, cohort = write_form(tmp_path / "c", form)
    cohort = tokenised(cohort, Config.from_profile("smoke"))
    stays = cohort.split("train", "death")
    batch = stays.batch(range(len(stays)))
    value = batch.values[f"my_{name}"]
    assert isinstance(value, dict) == kind(name).tokenised
    numbers = value["attention_mask"] if isinstance(value, dict) else value
    there = numbers.flatten(1).ne(0).any(dim=1)
    assert torch.equal(there, batch.present[:, 0]) and not there.all()


@every_form
def test_its_encoder_reads_it(form, tmp_path):
    config = Config.from_profile("smoke")
    name, cohort = write_form(tmp_path / "c", form)
    cohort = tokenised(cohort, config)
    batch = cohort.split("train", "death").batch(range(6))
    encoder = build_encoder(cohort.modalities[0], config.encoder).eval()
    value = batch.values[f"my_{name}"]
    features = encoder.features(value)
    assert encoder(value).shape == (6, encoder.output_dim)
    assert features.values.ndim == kind(name).feature_ndim(config.encoder)
    assert features.values.shape[-1] == encoder.feature_dim


@every_form
@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_takes_it(form, method, tmp_path):
    config = Config.from_profile("smoke", {"method": method, "task": "death"})
    cohort = tokenised(write_form(tmp_path / "c", form)[1], config)
    probability, _ = build_method(config, cohort).predictive(cohort.split("train", "death").batch(range(6)))
    assert probability.shape == (6,) and ((probability >= 0) & (probability <= 1)).all()


def test_a_kind_of_ones_own_is_one_class(tmp_path, monkeypatch):
    monkeypatch.setattr("cm2.kinds.contract.KINDS", KINDS)

    class Waveform(KINDS["series"]):
        name: ClassVar[str] = "waveform"

        def scaled(self, data: torch.Tensor) -> torch.Tensor:
            return data.mul_(1000)  # volts to millivolts

    try:
        cohort = write(tmp_path / "c", "waveform", "vector")
        volts, batch = cohort.array("my_waveform"), cohort.split("train", "death").batch([0])
        np.testing.assert_allclose(batch.values["my_waveform"][0].numpy(), 1000 * volts[0], rtol=1e-6)
        run_of = build_method(Config.from_profile("smoke", {"task": "death"}), cohort)
        assert run_of.predictive(batch)[0].shape == (1,)
        with pytest.raises(ValueError, match="kind of modality 'waveform' is"):
            type("Other", (ArrayKind,), {"name": "waveform", "__module__": __name__})
    finally:
        del KINDS["waveform"]


def test_an_unknown_kind_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match=r"unknown kind of modality 'serie'; .*did you mean 'series'"):
        kind("serie")
    with pytest.raises(ValueError, match="unknown kind of modality 'imag'"):
        write(tmp_path / "c", "imag", "vector")


def test_colours_reach_the_batch_as_they_were_written(tmp_path):
    _, cohort = write_form(tmp_path / "c", "image in colour")
    assert cohort.modalities[0].shape == (32, 32, 3)
    stays = cohort.split("train", "death")
    batch = stays.batch(range(len(stays)))
    seen = batch.present[:, 0].numpy()
    np.testing.assert_array_equal(np.rint(255 * batch.values["my_image"].numpy()[seen]), COLOUR[stays.rows[seen]])


@pytest.mark.parametrize("kind_of_network", ["resnet", "vit"])
def test_planes_may_come_first_or_last_and_equal_ones_are_grey(kind_of_network):
    config = Config.from_profile("smoke", {"encoder.image.kind": kind_of_network, "encoder.image.vit": "small"}).encoder
    encoder = build_encoder(Modality("film", "image", (32, 32, 3)), config).eval()
    grey, colour = torch.rand(2, 32, 32), torch.rand(2, 32, 32, 3)
    assert torch.allclose(encoder(colour), encoder(colour.movedim(3, 1)), atol=1e-5)
    assert torch.allclose(encoder(grey), encoder(grey[..., None].expand(-1, -1, -1, 3)), atol=1e-5)
    with pytest.raises(ValueError, match=r"expected \(B, .*got \(2, 32, 32, 4\)"):
        encoder(torch.rand(2, 32, 32, 4))


def test_a_residual_network_says_before_training_that_images_are_too_small():
    with pytest.raises(ValueError, match=r"'film': a residual network reads images from 32 pixels on, got 24 x 24"):
        build_encoder(Modality("film", "image", (24, 24)), Config.from_profile("smoke").encoder)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("series", np.zeros((N, 4)), r"my_series: a series has the shape \(n, T, F\), got \(24, 4\)"),
        ("series", [np.zeros((2, 1))] * N, r"my_series: a series is one array \(n, T, F\), got a list"),
        ("series", np.full((N, 2, 1), 1e300), r"my_series: stay 0 has a value that is not stored: numbers from .* rescale"),
        ("vector", np.array([["a"]] * N), "my_vector: expected numbers, got an array of <U1"),
        ("vector", np.zeros((N, 0)), r"my_vector: a vector has the shape \(n, F\), got \(24, 0\)"),
        ("image", np.zeros((N, 3, 32, 32), np.uint8), r"three channels, the last axis.*got shape \(24, 3, 32, 32\); move the channels"),
        ("image", np.zeros((N, 28, 28), np.uint8), "my_image: images of 28 x 28 pixels are read by no encoder; make them at least 32"),
        ("image", np.full((N, 32, 32), 0.5), "my_image: stay 0 has a value that is not stored: whole numbers from 0 to 255"),
        ("image", np.full((N, 32, 32), 300), "my_image: stay 0 has a value that is not stored"),
        ("text", [3.0] * N, "my_text: stay 0 has no text but a float"),
        ("text", [None] * N, "my_text: stay 0 has no text but None"),
    ],
)
def test_what_a_kind_does_not_store_is_refused_by_the_writer(name, data, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "c", name, "series" if name != "series" else "vector", **{name: data})
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_is_missing_may_be_anything(tmp_path):
    data = np.zeros((N, 3))
    data[list(ABSENT)] = np.nan
    assert write(tmp_path / "c", "vector", "series", vector=data).array("my_vector").any() == np.False_
