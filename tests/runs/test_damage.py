"""Damaged checkpoints and runs: nothing of them is believed, no code of theirs runs, and the next call ends as an unbroken one."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from cm2 import Config, RunStore, load_cohort
from cm2.networks.encoders import TextEncoder
from cm2.runs.run import Run
from cm2.runs.trainer import train
from tests.tables.conftest import FAST

SETTINGS = FAST | {"method": "late_fusion", "task": "death", "train.epochs": 4, "train.patience": 2}


class Killed(BaseException):
    """Ends a training after it has written its checkpoints."""


@pytest.fixture(scope="module")
def config():
    return Config.from_profile("smoke", SETTINGS)


@pytest.fixture(scope="module")
def unbroken(config, complete, tmp_path_factory):
    return RunStore(tmp_path_factory.mktemp("unbroken")).fit(config, complete, progress=False)


@pytest.fixture
def interrupted(config, complete, tmp_path, monkeypatch):
    """The store with an unfinished run, its folder of checkpoints."""

    def after_training(*arguments, **options):
        train(*arguments, **options)
        raise Killed

    store = RunStore(tmp_path / "before")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("cm2.runs.trainer.train", after_training)
        store.fit(config, complete, progress=False)
    moved = RunStore(tmp_path / "moved" / "elsewhere")  # paths in a checkpoint must not matter
    moved.root.parent.mkdir()
    store.root.rename(moved.root)
    (partial,) = moved.root.glob(".*.partial")
    return moved, partial / "checkpoints"


def same(run, unbroken):
    assert run.path.name == unbroken.path.name and not run.damage()
    pd.testing.assert_frame_equal(run.history, unbroken.history, check_exact=False, rtol=1e-5)
    pd.testing.assert_frame_equal(run.predictions, unbroken.predictions, check_exact=False, atol=1e-5)


def test_a_training_that_had_stopped_early_is_not_trained_on(interrupted, config, complete, unbroken):
    store, _ = interrupted
    same(store.fit(config, complete, progress=False), unbroken)


@pytest.mark.parametrize("names", [["last.ckpt"], ["best.ckpt"], ["best.ckpt", "last.ckpt"]], ids="+".join)
@pytest.mark.parametrize("damage", ["half", "empty", "a byte", "code"])
def test_a_damaged_checkpoint_gives_way(interrupted, config, complete, unbroken, evil, names, damage):
    store, place = interrupted
    for name in names:
        content = bytearray((place / name).read_bytes())
        if damage == "code":
            torch.save({"epoch": evil, "state_dict": evil}, place / name)
        elif damage == "a byte":
            content[len(content) // 2] ^= 255
            (place / name).write_bytes(content)
        else:
            (place / name).write_bytes(content[: len(content) // 2 if damage == "half" else 0])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run = store.fit(config, complete, progress=False)
    said = [str(each.message) for each in told]
    assert any(" is damaged (" in text and text.endswith("is not used: epochs are trained again") for text in said)
    same(run, unbroken)


@pytest.mark.parametrize(
    "name", ["predictions.parquet", "metrics.json", "config.json", "history.csv", "environment.json", "checksums.json"]
)
def test_a_damaged_run_is_set_aside_and_trained_again(config, complete, unbroken, tmp_path, name):
    shutil.copytree(unbroken.path, tmp_path / unbroken.path.name)
    file = tmp_path / unbroken.path.name / name
    file.write_bytes(file.read_bytes()[:-9])
    store = RunStore(tmp_path)
    with pytest.warns(UserWarning, match="is damaged .* and computed again"):
        same(store.fit(config, complete, progress=False), unbroken)
    assert [run.path.name for run in store.runs()] == [unbroken.path.name]


def test_damaged_weights_are_refused(complete, unbroken, tmp_path):
    shutil.copytree(unbroken.path, tmp_path / "run")
    file = tmp_path / "run" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 255
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged \(wrong checksum\); remove the run and train it again"):
        Run(tmp_path / "run").load_method(complete)


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("n", float("nan"), "test: n: expected a whole number, got nan"),
        ("positives", 2.5, "test: positives: expected a whole number, got 2.5"),
        ("auroc_low", None, "test: auroc has a number without its interval"),
    ],
)
def test_metrics_that_no_run_writes_are_named(unbroken, tmp_path, entry, value, message):
    shutil.copytree(unbroken.path, tmp_path / "run")
    path = tmp_path / "run" / "metrics.json"
    tree = json.loads(path.read_text())
    tree["test"][entry] = value
    path.write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=message):
        _ = Run(tmp_path / "run").metrics


def test_pretrained_weights_are_part_of_a_run_s_identity(small_cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("cm2.networks.encoders.text.reachable", lambda url: False)
    monkeypatch.setattr("cm2.networks.encoders.pretrained.reachable", lambda url: False)
    folder, store = tmp_path / "bert", RunStore(tmp_path / "runs")
    config = Config.from_profile("smoke", {"modalities": ["series", "note"], "encoder.text.pretrained": str(folder)})
    with pytest.raises(ValueError, match=r"not on this machine.*--set encoder\.text\.pretrained="):
        store.fit(config, small_cohort, progress=False)
    assert store.runs() == []
    small_cohort.tokenizer().save_pretrained(folder)
    keys = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        TextEncoder(2000, hidden=16, layers=1, heads=2, intermediate=16, max_length=512).bert.save_pretrained(folder)
        keys.append(store.key(config, small_cohort))
    assert len({*keys, store.key(Config.from_profile("smoke", {"modalities": ["series", "note"]}), small_cohort)}) == 3


def test_an_array_of_objects_is_refused_and_runs_no_code(complete, tmp_path, evil):
    shutil.copytree(complete.path, tmp_path / "c")
    cohort = load_cohort(tmp_path / "c")
    np.save(tmp_path / "c" / "bedside.npy", np.array([evil], dtype=object), allow_pickle=True)
    cohort._cache.clear()
    entry = cohort.manifest["modalities"]["bedside"]
    from cm2.kinds import kind

    with pytest.raises(ValueError, match=r"bedside\.npy is not an array of numbers"):
        kind("series").check(cohort, "bedside", entry)
    np.save(tmp_path / "c" / "bedside.npy", np.zeros((len(cohort.stays), *entry["shape"])))
    cohort._cache.clear()
    with pytest.raises(ValueError, match="expected float32, got float64"):
        kind("series").check(cohort, "bedside", entry)
