"""Loggers and callbacks watch a training: they see it, and change neither the run, nor its key, nor what a killed one continues to."""

from __future__ import annotations

import warnings
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor, StochasticWeightAveraging
from lightning.pytorch.loggers import CSVLogger

from cm2 import Config, RunStore, fit
from cm2.errors import InputError
from cm2.runs import watching
from tests.tables.conftest import FAST

SETTINGS = FAST | {"train.epochs": 3, "train.patience": 9, "task": "death"}


class Watcher(Callback):
    """Counts epochs, and ends the process's part in one of them, as a kill would."""

    def __init__(self, ends_in: int | None = None, state: object = 1.0) -> None:
        self.ends_in, self.state, self.restored, self.epochs = ends_in, state, None, 0

    def on_train_epoch_start(self, trainer, loop) -> None:
        torch.rand(3)  # draws of a callback's do not matter
        if trainer.current_epoch == self.ends_in:
            raise KeyError("killed")
        self.epochs += 1

    def state_dict(self) -> dict:
        return {"state": self.state}

    def load_state_dict(self, state: dict) -> None:
        self.restored = state["state"]


class Stops(Callback):
    """Ends a training after its first epoch."""

    def on_train_epoch_end(self, trainer, loop) -> None:
        trainer.should_stop = True


@pytest.fixture(scope="module")
def config():
    return Config.from_profile("smoke", SETTINGS)


@pytest.fixture(scope="module")
def plain(config, complete, tmp_path_factory):
    return fit(config, complete, RunStore(tmp_path_factory.mktemp("plain")), progress=False)


def logged(folder) -> pd.DataFrame:
    return pd.concat([pd.read_csv(path) for path in sorted(folder.rglob("metrics.csv"))])


def same(run, other) -> None:
    assert run.path.name == other.path.name
    pd.testing.assert_frame_equal(run.history, other.history, rtol=1e-5)
    pd.testing.assert_frame_equal(run.predictions, other.predictions, atol=1e-5)


def test_they_see_the_training_and_change_nothing(config, complete, plain, tmp_path):
    watcher, logger = Watcher(), CSVLogger(tmp_path / "logs", name="")
    rates = LearningRateMonitor("epoch")
    run = fit(config, complete, RunStore(tmp_path / "runs"), progress=False, loggers=[logger], callbacks=[watcher, rates])
    same(run, plain)
    assert watcher.epochs == 3
    seen = logged(tmp_path / "logs")
    assert seen.filter(like="lr-").notna().any().any()
    seen = seen.dropna(subset=["epoch"])
    assert list(seen["epoch"]) == [0, 1, 2] and list(seen["step"]) == [4, 9, 14]
    for name in ("train_loss", "valid_auroc"):
        np.testing.assert_allclose(seen[name], run.history[name], rtol=1e-6)
    settings = next((tmp_path / "logs").rglob("hparams.yaml")).read_text()
    assert "epochs: 3" in settings and "task: death" in settings


def test_a_stored_run_is_returned_without_a_word(config, complete, plain, tmp_path):
    watcher, logger = Watcher(), CSVLogger(tmp_path / "logs")
    assert fit(config, complete, RunStore(plain.path.parent), progress=False, loggers=[logger], callbacks=[watcher]).path == plain.path
    assert watcher.epochs == 0 and not list(tmp_path.rglob("metrics.csv"))


@pytest.mark.parametrize("again", [True, False])
def test_a_killed_training_continues_with_them_and_without(again, config, complete, plain, tmp_path):
    store, logs = RunStore(tmp_path / "runs"), tmp_path / "logs"
    with pytest.raises(KeyError, match="killed"):
        fit(config, complete, store, progress=False, loggers=[CSVLogger(logs)], callbacks=[Watcher(2, state=2.5)])
    watcher = Watcher()
    run = fit(config, complete, store, progress=False, loggers=[CSVLogger(logs)], callbacks=[watcher] if again else [])
    same(run, plain)
    assert watcher.restored == (2.5 if again else None)
    assert sorted(logged(logs)["epoch"].unique()) == [0, 1, 2]


def test_a_state_that_only_pickle_could_read_is_left_out(config, complete, plain, tmp_path):
    store = RunStore(tmp_path)
    with pytest.warns(UserWarning, match="Watcher holds more than tensors and plain values"), pytest.raises(KeyError, match="killed"):
        fit(config, complete, store, progress=False, callbacks=[Watcher(2, state=datetime(2020, 1, 1))])
    watcher = Watcher()
    same(fit(config, complete, store, progress=False, callbacks=[watcher]), plain)
    assert watcher.restored is None and watcher.epochs == 1


def test_what_would_change_the_training_is_refused(config, complete, tmp_path):
    store = RunStore(tmp_path / "runs")
    for callback, remedy in ((EarlyStopping("valid_auroc"), "train.patience"), (StochasticWeightAveraging(1e-2), "train.average")):
        with pytest.raises(InputError, match=f"changes what is trained.*{remedy}"):
            fit(config, complete, store, progress=False, callbacks=[callback])
    for wrong in ({"callbacks": [CSVLogger(tmp_path)]}, {"loggers": [Watcher()]}, {"loggers": [True]}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))}: expected"):
            fit(config, complete, store, progress=False, **wrong)
    assert not (tmp_path / "runs").exists()
    with pytest.raises(InputError, match="stopped the training after epoch 1 of 3"):
        fit(config, complete, store, progress=False, callbacks=[Stops()])
    assert store.runs() == []


def test_loggers_get_what_may_be_shown():
    class Kept:
        def log_metrics(self, numbers, step):
            self.numbers, self.step = numbers, step

    logger = Kept()
    watching.tell([logger], {"epoch": 4, "train_loss": 1.0, "valid_auroc": 0.71234}, 50, lambda row: row | {"valid_auroc": float("nan")})
    assert (logger.numbers, logger.step) == ({"epoch": 4.0, "train_loss": 1.0}, 49)


def test_which_states_are_kept():
    plain = {"a": [1, 2.0, None, "x", True], "b": {"c": (torch.ones(2),)}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert watching.readable({"x": plain}) == {"x": plain}
    with pytest.warns(UserWarning, match="callback y"):
        assert watching.readable({"x": plain, "y": {"z": np.float64(1)}}) == {"x": plain}
