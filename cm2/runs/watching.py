"""Loggers and callbacks of the user's. They watch a training: nothing of what the run's key stands for may depend on them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from lightning.fabric.loggers import Logger as AnyLogger
from lightning.pytorch import Trainer
from lightning.pytorch import callbacks as known
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import Logger
from torch import Tensor

from cm2.config import Config
from cm2.errors import InputError

_CHANGE = {
    known.EarlyStopping: "set train.patience",
    known.Timer: "set train.epochs",
    known.StochasticWeightAveraging: "set train.average",
    known.WeightAveraging: "set train.average",
    known.GradientAccumulationScheduler: "set train.batch_size",
    known.BatchSizeFinder: "set train.batch_size",
    known.LearningRateFinder: "set train.learning_rate",
    known.BaseFinetuning: "make it part of a method",
    known.ModelPruning: "make it part of a method",
}
"""Lightning's callbacks that change what is trained, and where a run says so instead."""


def check(loggers: Sequence[Logger], callbacks: Sequence[Callback]) -> None:
    """Checks that these can watch a training.

    Raises:
        InputError: something that is no logger or callback of Lightning; a callback that would change what is trained.
    """
    for given, kind, what in ((loggers, Logger, "loggers"), (callbacks, Callback, "callbacks")):
        if wrong := [each for each in given if not isinstance(each, kind)]:
            raise InputError(f"{what}: expected {what} of lightning.pytorch, got a {type(wrong[0]).__name__}")
    for callback in callbacks:
        if remedy := next((remedy for kind, remedy in _CHANGE.items() if isinstance(callback, kind)), None):
            name = type(callback).__name__
            raise InputError(f"callbacks: {name} changes what is trained, and the run's key would not say so; {remedy}")


def begin(loggers: Sequence[Logger], config: Config) -> None:
    """Tells the loggers the settings of the run."""
    for logger in loggers:
        logger.log_hyperparams(config.to_dict())


def tell(loggers: Sequence[AnyLogger], row: Mapping[str, float], steps: int, shown: Callable[[dict[str, float]], dict[str, float]]) -> None:
    """Tells the loggers an epoch's row of the history, as far as it may be shown: a logger may send it to another machine.

    Args:
        loggers: of Lightning, whose axis is the number of the last step.
        row: of the history.
        steps: taken so far.
        shown: the row as it may be shown; what is left out of it is NaN.
    """
    numbers = {name: float(value) for name, value in shown(dict(row)).items() if not np.isnan(value)}
    for logger in loggers:
        logger.log_metrics(numbers, step=steps - 1)


@contextmanager
def others_may_be_gone() -> Iterator[None]:
    """Without Lightning's warning that a callback, whose state a checkpoint has, is not there any more: it changed nothing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`, callbacks used to create the checkpoint")
        yield


def refuse_stop(trainer: Trainer, early: EarlyStopping) -> None:
    """Raises InputError where a callback has ended the training before its time: the run would not be what its key says."""
    epochs = trainer.max_epochs or 0
    if trainer.should_stop and early.wait_count < early.patience and trainer.current_epoch < epochs:
        raise InputError(
            f"callbacks: one of them stopped the training after epoch {trainer.current_epoch} of {epochs}, and the run's key would not say"
            " so; set train.epochs or train.patience. Nothing of the run is stored"
        )


def readable(states: Mapping[str, Any]) -> dict[str, Any]:
    """States of callbacks as far as a checkpoint can be read without unpickling: tensors and plain values. Others give a warning."""
    kept = {name: state for name, state in states.items() if _plain(state)}
    for name in states.keys() - kept.keys():
        warnings.warn(f"the state of the callback {name} holds more than tensors and plain values: it is not kept", stacklevel=2)
    return kept


def _plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_plain, value)) and all(map(_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return value is None or type(value) in (bool, int, float, str) or isinstance(value, Tensor)
