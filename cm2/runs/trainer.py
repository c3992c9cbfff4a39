"""Trainer of all methods, on Lightning."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from cm2.cohorts import Stays
from cm2.cohorts.disclosure import SMALLEST
from cm2.config import Config, TrainConfig
from cm2.durable import replaced
from cm2.errors import InputError
from cm2.escape import one_line
from cm2.methods.contract import FitsStays, Method
from cm2.progress import Progress
from cm2.runs import watching
from cm2.runs.batches import Batches, EpochSampler, InOrder, loader_of, sampler_of
from cm2.runs.callbacks import Average, Shown, StaysStopped
from cm2.runs.checkpoints import DurableCheckpoints, pretraining_to_continue_from, read, to_continue_from
from cm2.runs.loops import PretrainingLoop, TrainingLoop, monitored
from cm2.runs.resident import Resident, fit_in
from cm2.runs.run import BEST, LAST, PRETRAINING

INITIAL_STAYS = 512
VALID = "valid_"
"""How columns of a history begin that are computed on validation stays."""
DESCRIBED = 2_048
"""Largest number of training stays, spread evenly, beside which a law that follows gradient steps is described in every epoch."""


def train(
    method: Method,
    config: Config,
    train: Stays,
    valid: Stays,
    folder: Path,
    progress: bool = True,
    devices: int = 1,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[Callback] = (),
) -> pd.DataFrame:
    """Trains a method and loads the weights of its best validation epoch into it.

    If the folder holds ``checkpoints/last.ckpt``, training continues from there, with the same result as an uninterrupted run; if that
    file is damaged, from an earlier epoch or from the start, with a warning.

    Args:
        method: initialised here from a first batch; a `FitsStays` is only fitted by its ``fit_stays``.
        config: the run's configuration; ``config.seed`` determines everything random.
        train: stays to train on.
        valid: stays on which the task's criterion, such as AUROC, chooses the epoch.
        folder: receives ``checkpoints/best.ckpt``, ``checkpoints/last.ckpt`` and ``history.csv``.
        progress: show the progress; see ``cm2.progress``.
        devices: number of processes, one per accelerator; the kind of accelerator is chosen automatically.
        loggers: of Lightning; they are told every epoch's row of the history as far as it may be shown. Not the pre-training's.
        callbacks: of Lightning; they watch, see `cm2.runs.watching`. Not the pre-training.

    Returns:
        The history, one row per epoch.
    """
    if isinstance(method, FitsStays):
        return _save_history(_shown_history(method.fit_stays(train, valid), valid), folder)
    place = folder / "checkpoints"
    resumed = to_continue_from(place)
    held = fit_in((train, valid), config.train.resident)
    batches, validation = (Resident(stays) if held else Batches(stays, raw=True) for stays in (train, valid))
    sampler = sampler_of(train, config.train, config.seed)
    # every process reads all stays: what is fitted to them must not differ
    some = np.linspace(0, len(train) - 1, min(len(train), DESCRIBED)).round().astype(int)
    everyone, spread = (InOrder(batches, rows) for rows in (np.arange(len(train)), some))
    loop = TrainingLoop(method, config, sampler, everyone, spread, shown=partial(_shown_row, valid))
    if resumed is None:
        order = np.random.default_rng(config.seed).permutation(len(train))
        _pretrain(method, config, batches, folder, progress, devices)
        method.initialise(train.batch(order[:INITIAL_STAYS].tolist()))
    chosen_by, mode = monitored(method.task), "max" if method.task.chooses.higher else "min"
    early = EarlyStopping(chosen_by, mode=mode, patience=config.train.patience)
    own = [
        early,
        StaysStopped(),
        ModelCheckpoint(place, Path(BEST).stem, chosen_by, mode=mode, enable_version_counter=False),
        ModelCheckpoint(place, Path(LAST).stem, enable_version_counter=False),
    ]
    if config.train.average:
        # first of all, so that the other callbacks see the averaged parameters
        own.insert(0, Average(config.train.average))
    limits = {"max_epochs": config.train.epochs, "gradient_clip_val": config.train.gradient_clip or None}
    with Progress("", unit="batch", show=progress, limit=True) as shown, watching.others_may_be_gone():
        every_callback = [*own, *_shown(shown, devices, _may_be_shown(valid)), *callbacks]
        trainer = _trainer(config.train, devices, callbacks=every_callback, logger=list(loggers) or False, **limits)
        watching.begin(loggers, config)
        in_turn = EpochSampler(len(valid), config.train.batch_size)
        loaders = (loader_of(batches, config.train, sampler), loader_of(validation, config.train, in_turn))
        trainer.fit(loop, *loaders, ckpt_path=resumed, weights_only=True)
    watching.refuse_stop(trainer, early)
    # from the files: with several processes it was others that trained
    loop.load_state_dict(read(place / BEST)["state_dict"])
    return _save_history(_shown_history(read(place / LAST)["history"], valid), folder)


def _pretrain(method: Method, config: Config, batches: Batches, folder: Path, progress: bool, devices: int) -> None:
    """Trains what the method asks for before the task, if anything; continues from a checkpoint like the training itself."""
    if (stage := method.pretraining()) is None:
        return
    place = folder / "checkpoints"
    sampler = sampler_of(batches.stays, config.train, config.seed)
    loop = PretrainingLoop(method, stage, config, sampler)
    callbacks: list[Callback] = [ModelCheckpoint(place, Path(PRETRAINING).stem, enable_version_counter=False)]
    if config.train.average:
        callbacks.insert(0, Average(config.train.average))
    limits = {"max_epochs": stage.epochs, "gradient_clip_val": config.train.gradient_clip or None}
    with Progress("", unit="batch", show=progress, limit=True) as shown:
        trainer = _trainer(config.train, devices, callbacks=[*callbacks, *_shown(shown, devices)], **limits)
        resumed = pretraining_to_continue_from(place)
        trainer.fit(loop, loader_of(batches, config.train, sampler), ckpt_path=resumed, weights_only=True)
    # from the file, which has the averaged parameters also where there was nothing left to train
    stored = read(place / PRETRAINING)
    loop.load_state_dict(stored["state_dict"])
    _save_history(stored["history"], folder, "pretraining.csv")


def _shown(progress: Progress, devices: int, metric: bool = True) -> list[Callback]:
    """What reports to the display, which is this process's own: several processes train without a word."""
    return [Shown(progress, metric)] if devices == 1 else []


def _may_be_shown(valid: Stays) -> bool:
    """Whether the validation metrics tell of no fewer than ten stays of a credentialed cohort."""
    return not valid.cohort.disclosure.credentialed or valid.task.smallest(valid.label.numpy()) >= SMALLEST


def _shown_history(rows: list[dict[str, float]], valid: Stays) -> list[dict[str, float]]:
    """The history with what is computed on validation stays as far as it may be shown; empty otherwise."""
    number = valid.cohort.disclosure.number if _may_be_shown(valid) else lambda _: math.nan
    return [{name: number(value) if name.startswith(VALID) else value for name, value in row.items()} for row in rows]


def _shown_row(valid: Stays, row: dict[str, float]) -> dict[str, float]:
    return _shown_history([row], valid)[0]


def _save_history(rows: list[dict[str, float]], folder: Path, name: str = "history.csv") -> pd.DataFrame:
    history = pd.DataFrame(rows)
    with replaced(folder / name) as part:
        history.to_csv(part, index=False)
    return history


def predictions(method: Method, config: Config, stays: Stays, progress: bool = False) -> pd.DataFrame:
    """Predictions for a split, in its order: ``stay_id``, ``label``, ``probability`` and ``variance`` (between draws).

    A task that is not binary has the columns of `cm2.tasks.Task.frame`.
    """
    return predicted(method, config, Batches(stays, raw=True), progress)


def predicted(method: Method, config: Config, rows: Batches, progress: bool = False) -> pd.DataFrame:
    """`predictions` of whatever can be read in batches."""
    batches = loader_of(rows, config.train, EpochSampler(len(rows), config.train.batch_size))
    with Progress("predicting", len(batches), "batch", show=progress) as shown:
        parts = _trainer(config.train, 1, callbacks=[Shown(shown)]).predict(TrainingLoop(method, config), batches) or []
    stay_id, label, prediction, variance = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    return method.task.frame(stay_id, label, prediction, variance)


def _trainer(config: TrainConfig, devices: int, **options: Any) -> Trainer:
    # processes that are started for the training alone: started anew, the whole program would run in each of them
    strategy = "ddp_spawn" if devices > 1 and "LOCAL_RANK" not in os.environ else "auto"
    try:
        return Trainer(
            accelerator="auto",
            strategy=strategy,
            devices=devices,
            precision=config.precision,  # type: ignore[arg-type]  # Lightning refuses what it does not know
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_checkpointing="max_epochs" in options,
            log_every_n_steps=1,
            plugins=[DurableCheckpoints()],
            **{"logger": False} | options,
        )
    except MisconfigurationException as error:  # such as more devices than there are
        wanted = f"{devices} devices and precision {config.precision}"
        raise InputError(f"Lightning cannot train with {wanted} on this machine ({one_line(error):.160}); change them") from None
