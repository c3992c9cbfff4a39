"""Every kind of modality: written, read, checked, put into a batch, encoded and trained on."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

from cm2 import Config, load_cohort
from cm2.cohorts import Cohort
from cm2.kinds import KINDS, ArrayKind, build_encoder, kind
from cm2.methods import METHODS, build_method, tokenised
from data_prep.writer import PreparedCohort, PreparedModality, write_cohort

N = 24
ABSENT = (4, 9)
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


@every_kind
def test_written_and_read(name, tmp_path):
    cohort = write(tmp_path / "c", name, "series" if name != "series" else "vector")
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


@every_kind
def test_absent_rows_of_a_batch_are_placeholders(name, tmp_path):
    cohort = tokenised(write(tmp_path / "c", name, "series" if name != "series" else "vector"), Config.from_profile("smoke"))
    stays = cohort.split("train", "death")
    batch = stays.batch(range(len(stays)))
    value = batch.values[f"my_{name}"]
    assert isinstance(value, dict) == kind(name).tokenised
    numbers = value["attention_mask"] if isinstance(value, dict) else value
    there = numbers.flatten(1).ne(0).any(dim=1)
    assert torch.equal(there, batch.present[:, 0]) and not there.all()


@every_kind
def test_its_encoder_reads_it(name, tmp_path):
    config = Config.from_profile("smoke")
    cohort = tokenised(write(tmp_path / "c", name, "series" if name != "series" else "vector"), config)
    batch = cohort.split("train", "death").batch(range(6))
    encoder = build_encoder(cohort.modalities[0], config.encoder).eval()
    value = batch.values[f"my_{name}"]
    features = encoder.features(value)
    assert encoder(value).shape == (6, encoder.output_dim)
    assert features.values.ndim == kind(name).feature_ndim(config.encoder)
    assert features.values.shape[-1] == encoder.feature_dim


@every_kind
@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_takes_it(name, method, tmp_path):
    config = Config.from_profile("smoke", {"method": method})
    cohort = tokenised(write(tmp_path / "c", name, "series" if name != "series" else "vector"), config)
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
        run_of = build_method(Config.from_profile("smoke"), cohort)
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
