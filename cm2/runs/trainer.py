"""Trainer of all methods, on Lightning; its random numbers depend on (seed, epoch, step) only."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, WeightAveraging
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Sampler

from cm2.batch import Batch
from cm2.cohorts import Stays
from cm2.config import Config, TrainConfig
from cm2.methods.contract import FitsStays, Method, Pretraining
from cm2.metrics import aupr, auroc
from cm2.progress import Progress

_LOWER = {
    "mixture": "model.lambda_mix",
    "copula": "model.lambda_copula",
    "rate": "model.beta",
    "heads": "model.lambda_heads",
    "alignment": "model.lambda_alignment",
}
"""Setting that weighs a term of the loss, for the error of a training that diverges."""
INITIAL_STAYS = 512
_REFIT = 512
VALIDATION = 2**31
"""Replaces the epoch in the seed of validation and prediction; above any number of epochs."""

logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)  # it logs device lists and advertisements


class EpochSampler(Sampler[list[int]]):
    """Batches of indices; the order depends on (seed, epoch) only, so a resumed run reads the same batches as an uninterrupted one.

    With several processes each takes every ``world_size``-th batch.
    """

    def __init__(self, size: int, batch_size: int, seed: int = 0, shuffle: bool = False) -> None:
        self.size, self.batch_size, self.seed, self.shuffle = size, batch_size, seed, shuffle
        self.epoch = 0

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size) if self.shuffle else np.arange(self.size)
        rank, world = self._rank()
        batches = [order[start : start + self.batch_size].tolist() for start in range(0, self.size, self.batch_size)]
        return iter(batches[rank : len(self) * world : world])

    def __len__(self) -> int:
        batches, world = math.ceil(self.size / self.batch_size), self._rank()[1]
        # in training all processes must take equally many steps, as they wait for each other; in prediction no stay may be dropped
        return batches // world if self.shuffle else math.ceil(batches / world)

    @staticmethod
    def _rank() -> tuple[int, int]:
        ready = distributed.is_available() and distributed.is_initialized()
        return (distributed.get_rank(), distributed.get_world_size()) if ready else (0, 1)


def loader(stays: Stays, config: TrainConfig, seed: int = 0, shuffle: bool = False) -> DataLoader[Batch]:
    """Batches of a split; each is one gather from the cohort's memory maps."""
    return _loader(stays, config, EpochSampler(len(stays), config.batch_size, seed, shuffle))


def _loader(stays: Stays, config: TrainConfig, sampler: EpochSampler) -> DataLoader[Batch]:
    if config.workers:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a tokenizer that notices the fork may warn on stderr
    return DataLoader(
        _Batches(stays),
        sampler=sampler,
        batch_size=None,
        num_workers=config.workers,
        persistent_workers=config.workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


class _Batches(torch.utils.data.Dataset[Batch]):
    def __init__(self, stays: Stays) -> None:
        self.stays = stays

    def __len__(self) -> int:
        return len(self.stays)

    def __getitem__(self, indices: list[int]) -> Batch:
        return self.stays.batch(indices)


class TrainingLoop(LightningModule):
    """Lightning module around a method.

    Every step seeds from (seed, epoch, step), which makes dropout and draws independent of what ran before; validation uses the same
    random numbers in every epoch, to compare epochs on equal draws. ``history`` has one row per epoch: the training loss terms,
    validation AUROC and AUPR, and the method's ``state_of_law``.
    """

    def __init__(
        self, method: Method, config: Config, sampler: EpochSampler | None = None, train_batches: Iterable[Batch] | None = None
    ) -> None:
        super().__init__()
        self.train_batches = train_batches
        self._fitted: list[Tensor] = []
        self.method = method
        self.config = config
        self.sampler = sampler
        self.history: list[dict[str, float]] = []
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._valid: dict[str, float] = {}
        self._predicted: list[tuple[Tensor, Tensor]] = []

    def __getstate__(self) -> dict[str, Any]:
        """A copy, of which averaging keeps one, has no need of the stays."""
        return super().__getstate__() | {"sampler": None, "train_batches": None}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, with separate learning rates for the method's ``law_parameters``, without weight decay, and ``encoder_parameters``."""
        train, rate = self.config.train, self.config.model.encoder_rate
        law = self.method.law_parameters()
        encoders = self.method.encoder_parameters() if rate != 1 else []
        known = {id(p) for p in (*law, *encoders)}
        groups = [{"params": [p for p in self.method.parameters() if id(p) not in known], "weight_decay": train.weight_decay}]
        if law:
            groups.append({"params": law, "lr": train.law_learning_rate})
        if encoders:
            groups.append({"params": encoders, "lr": rate * train.learning_rate, "weight_decay": train.weight_decay})
        return torch.optim.Adam(groups, lr=train.learning_rate, betas=(train.beta_1, train.beta_2))

    def on_train_start(self) -> None:
        """Lets the method fit what its first steps read, unless training continues from a checkpoint."""
        if self.train_batches is not None and self.trainer.global_step == 0:
            self._seed(VALIDATION, 0)
            self.method.before_first_epoch(_OnDevice(self.train_batches, self))

    def on_train_epoch_start(self) -> None:
        """Passes the epoch on to sampler and method."""
        self.method.epoch = self.current_epoch
        if self.sampler is not None:
            self.sampler.epoch = self.current_epoch
        self._sums, self._steps = {}, 0

    def training_step(self, batch: Batch, step: int) -> Tensor:
        """The method's loss; its terms are summed on the device and read once per epoch."""
        self._seed(self.current_epoch, step)
        terms = self._loss(batch)
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self._steps += 1
        return terms["loss"]

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.method.loss(batch)

    def on_validation_epoch_start(self) -> None:
        """Lets the method fit what it estimates from all training stays, and clears the last epoch's predictions.

        With averaged parameters these are the method's already: Lightning calls the callback that swaps them first.
        """
        self._predicted = []
        self._check_divergence()
        if self.train_batches is not None:
            self._seed(VALIDATION, 0)
            fitted = self.method.refit(_OnDevice(self.train_batches, self))
            self._fitted = [p.detach().clone() for p in self.method.law_parameters()] if fitted else []

    def validation_step(self, batch: Batch, step: int) -> None:
        """Stores probabilities and labels for the epoch's metrics."""
        self._seed(VALIDATION, step)
        self._predicted.append((self.method.predictive(batch)[0].float(), batch.label))

    def on_validation_epoch_end(self) -> None:
        """Validation AUROC, by which the best epoch is chosen, and AUPR."""
        probability, label = (torch.cat(parts).cpu() for parts in zip(*self._predicted, strict=True))
        if self.trainer.world_size > 1:  # processes may hold different numbers of stays
            everyone: list[Any] = [None] * self.trainer.world_size
            distributed.all_gather_object(everyone, (probability, label))
            probability, label = (torch.cat(parts) for parts in zip(*everyone, strict=True))
        truth, predicted = label.numpy(), probability.numpy()
        self._valid = {"valid_auroc": auroc(truth, predicted), "valid_aupr": aupr(truth, predicted)}
        self.log("valid_auroc", self._valid["valid_auroc"], prog_bar=True)
        # averaged parameters are swapped out again by now, and training goes on with the fitted ones
        with torch.no_grad():
            for own, fitted in zip(self.method.law_parameters(), self._fitted, strict=False):
                own.copy_(fitted)

    def on_train_epoch_end(self) -> None:
        """Adds the epoch's row to the history."""
        row: dict[str, float] = {"epoch": self.current_epoch}
        row |= {f"train_{name}": float(total) / self._steps for name, total in self._sums.items()}
        # plain floats: a checkpoint is loaded with weights_only, which refuses most other types
        row |= self._valid | {name: float(value) for name, value in self.method.state_of_law().items()}
        self.history.append(row)

    def predict_step(self, batch: Batch, step: int) -> tuple[Tensor, ...]:
        """Stay, label, probability and its variance between draws, with the random numbers of validation."""
        self._seed(VALIDATION, step)
        probability, variance = self.method.predictive(batch)
        return batch.stay_id, batch.label, probability.float(), variance.float()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores the history with the weights: a resumed run continues both."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the history and the sampler's epoch."""
        self.history = checkpoint["history"]
        # already here: Lightning creates the iterator before `on_train_epoch_start`
        if self.sampler is not None:
            self.sampler.epoch = checkpoint["epoch"] + 1

    def _check_divergence(self) -> None:
        """Stops before anything is stored, where a term of the loss is no longer a number."""
        broken = [name for name, total in self._sums.items() if not math.isfinite(float(total))]
        if not broken:
            return
        term = next((name for name in broken if name != "loss"), "loss")
        setting = next((setting for start, setting in _LOWER.items() if term.startswith(start)), "train.learning_rate")
        value, epoch = float(self._sums[term]), self.current_epoch + 1
        hint = f"lower {setting} or train.learning_rate, or set train.gradient_clip"
        raise ValueError(
            f"{self.config.method}: training diverged in epoch {epoch}: the term {term} is {value}; {hint}. Nothing of the run is stored"
        )

    def _seed(self, epoch: int, step: int) -> None:
        state = np.random.SeedSequence((self.config.seed, epoch, step)).generate_state(1)[0]
        torch.manual_seed(int(state))


class PretrainingLoop(TrainingLoop):
    """The loop before the training: a method's ``pretraining``, in every epoch, without validation."""

    def __init__(self, method: Method, stage: Pretraining, config: Config, sampler: EpochSampler) -> None:
        super().__init__(method, config, sampler)
        self.objective, self.rate = stage.objective, stage.learning_rate

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam for the method's parameters and the objective's own, without weight decay."""
        train = self.config.train
        return torch.optim.Adam(self.parameters(), lr=self.rate, betas=(train.beta_1, train.beta_2))

    def on_train_epoch_end(self) -> None:
        """Stops if the objective diverged; adds the epoch's row to the history."""
        self._check_divergence()
        row = {f"train_{name}": float(total) / self._steps for name, total in self._sums.items()}
        self.history.append({"epoch": self.current_epoch} | row)

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.objective(batch)


class _OnDevice:
    """Batches where a loop's method is; can be read more than once."""

    def __init__(self, batches: Iterable[Batch], loop: LightningModule) -> None:
        self.batches, self.loop = batches, loop

    def __iter__(self) -> Iterator[Batch]:
        return (self.loop.trainer.strategy.batch_to_device(batch, self.loop.device) for batch in self.batches)


class _Average(WeightAveraging):
    """Exponential moving average of parameters and buffers, one step with a weight; whole numbers are copied.

    Lightning's own averages those as well and cuts what comes out: a text encoder's positions 0, 1, 2, ... end as zeros.
    """

    def __init__(self, weight: float) -> None:
        def averaged(average: Tensor, current: Tensor, _: Tensor | int) -> Tensor:
            return (1 - weight) * average + weight * current if average.is_floating_point() else current

        super().__init__(use_buffers=True, avg_fn=averaged)


class _Shown(Callback):
    """Reports epochs and batches to a `Progress`."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_start(self, trainer: Trainer, loop: LightningModule) -> None:
        """Sets the number of batches of this process; epochs of an earlier call count as done."""
        epochs, batches = trainer.max_epochs or 0, int(trainer.num_training_batches)
        self.progress.total = epochs * batches
        self.progress.skip(trainer.current_epoch * batches)

    def on_train_epoch_start(self, trainer: Trainer, loop: LightningModule) -> None:
        """Shows the epoch and the last one's validation AUROC."""
        history = loop.history if isinstance(loop, TrainingLoop) else []
        last = f", validation AUROC {history[-1]['valid_auroc']:.3f}" if history and "valid_auroc" in history[-1] else ""
        what = "pre-training, epoch" if isinstance(loop, PretrainingLoop) else "epoch"
        self.progress.note = f"{what} {trainer.current_epoch + 1} of {trainer.max_epochs}{last}"

    def on_train_batch_end(self, *_: Any) -> None:
        self.progress.advance()

    def on_predict_batch_end(self, *_: Any) -> None:
        self.progress.advance()


def train(
    method: Method, config: Config, train: Stays, valid: Stays, folder: Path, progress: bool = True, devices: int = 1
) -> pd.DataFrame:
    """Trains a method and loads the weights of its best validation epoch into it.

    If the folder holds ``checkpoints/last.ckpt``, training continues from there, with the same result as an uninterrupted run.

    Args:
        method: initialised here from a first batch; a `FitsStays` is only fitted by its ``fit_stays``.
        config: the run's configuration; ``config.seed`` determines everything random.
        train: stays to train on.
        valid: stays whose AUROC chooses the epoch.
        folder: receives ``checkpoints/best.ckpt``, ``checkpoints/last.ckpt`` and ``history.csv``.
        progress: show the progress; see ``cm2.progress``.
        devices: number of processes, one per accelerator; the kind of accelerator is chosen automatically.

    Returns:
        The history, one row per epoch.
    """
    if isinstance(method, FitsStays):
        return _save_history(method.fit_stays(train, valid), folder)
    last = folder / "checkpoints" / "last.ckpt"
    sampler = EpochSampler(len(train), config.train.batch_size, config.seed, shuffle=True)
    # every process reads all stays: what is fitted to them must not differ
    every = [list(range(start, min(start + _REFIT, len(train)))) for start in range(0, len(train), _REFIT)]
    loop = TrainingLoop(method, config, sampler, DataLoader(_Batches(train), sampler=every, batch_size=None))
    if not last.is_file():
        order = np.random.default_rng(config.seed).permutation(len(train))
        _pretrain(method, config, train, folder, progress, devices)
        method.initialise(train.batch(order[:INITIAL_STAYS].tolist()))
    callbacks = [
        EarlyStopping("valid_auroc", mode="max", patience=config.train.patience),
        best := ModelCheckpoint(last.parent, "best", "valid_auroc", mode="max", enable_version_counter=False),
        ModelCheckpoint(last.parent, "last", enable_version_counter=False),
    ]
    if config.train.average:
        # first of all, so that the other callbacks see the averaged parameters
        callbacks.insert(0, _Average(config.train.average))
    limits = {"max_epochs": config.train.epochs, "gradient_clip_val": config.train.gradient_clip or None}
    with Progress("", unit="batch", show=progress, limit=True) as shown:
        trainer = _trainer(config.train, devices, callbacks=[*callbacks, _Shown(shown)], **limits)
        loaders = (_loader(train, config.train, sampler), loader(valid, config.train))
        trainer.fit(loop, *loaders, ckpt_path=last if last.is_file() else None, weights_only=True)
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
        loop.load_state_dict(state)
        return _save_history(loop.history, folder)


def _pretrain(method: Method, config: Config, stays: Stays, folder: Path, progress: bool, devices: int) -> None:
    """Trains what the method asks for before the task, if anything; continues from a checkpoint like the training itself."""
    if (stage := method.pretraining()) is None:
        return
    last = folder / "checkpoints" / "pretraining.ckpt"
    sampler = EpochSampler(len(stays), config.train.batch_size, config.seed, shuffle=True)
    loop = PretrainingLoop(method, stage, config, sampler)
    callbacks: list[Callback] = [ModelCheckpoint(last.parent, "pretraining", enable_version_counter=False)]
    if config.train.average:
        callbacks.insert(0, _Average(config.train.average))
    limits = {"max_epochs": stage.epochs, "gradient_clip_val": config.train.gradient_clip or None}
    with Progress("", unit="batch", show=progress, limit=True) as shown:
        trainer = _trainer(config.train, devices, callbacks=[*callbacks, _Shown(shown)], **limits)
        trainer.fit(loop, _loader(stays, config.train, sampler), ckpt_path=last if last.is_file() else None, weights_only=True)
    # from the file, which has the averaged parameters also where there was nothing left to train
    loop.load_state_dict(torch.load(last, map_location="cpu", weights_only=True)["state_dict"])
    _save_history(loop.history, folder, "pretraining.csv")


def _save_history(rows: list[dict[str, float]], folder: Path, name: str = "history.csv") -> pd.DataFrame:
    history = pd.DataFrame(rows)
    history.to_csv(folder / name, index=False)
    return history


def predictions(method: Method, config: Config, stays: Stays, progress: bool = False) -> pd.DataFrame:
    """Predictions for a split: ``stay_id``, ``label``, ``probability`` and ``variance`` (between draws), in the split's order."""
    batches = loader(stays, config.train)
    with Progress("predicting", len(batches), "batch", show=progress) as shown:
        parts = _trainer(config.train, 1, callbacks=[_Shown(shown)]).predict(TrainingLoop(method, config), batches) or []
    columns = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    return pd.DataFrame(dict(zip(("stay_id", "label", "probability", "variance"), columns, strict=True)))


def _trainer(config: TrainConfig, devices: int, **options: Any) -> Trainer:
    return Trainer(
        accelerator="auto",
        devices=devices,
        precision=config.precision,  # type: ignore[arg-type]  # Lightning refuses what it does not know
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing="max_epochs" in options,
        log_every_n_steps=1,
        **options,
    )
