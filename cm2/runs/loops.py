"""The training loop of every method, and that of what a method does before; random numbers depend on (seed, epoch, step) only."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from sys import intern
from typing import Any, Self

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, distributed

from cm2.batch import Batch
from cm2.config import Config
from cm2.errors import DivergedError
from cm2.kinds import augmented, ready
from cm2.methods.contract import Method, Pretraining
from cm2.runs import watching
from cm2.runs.batches import EpochSampler
from cm2.runs.speed import quicken, slacken
from cm2.tasks import Task

_LOWER = {
    "mixture": "model.lambda_mix",
    "copula": "model.lambda_copula",
    "rate": "model.beta",
    "heads": "model.lambda_heads",
    "alignment": "model.lambda_alignment",
}
"""Setting that weighs a term of the loss, for the error of a training that diverges."""
LARGEST = 2.0**24
"""Above it 32 bits do not resolve a change of the loss by 1."""
_LIMITS = {"task": 87.0}
"""Of a mean cross-entropy: it belongs to probabilities that 32 bits cannot hold."""
for _name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.distributed"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # they log device lists, advertisements and every process that starts

VALIDATION = 2**31
"""Replaces the epoch in the seed of validation and prediction; above any number of epochs."""


class TrainingLoop(LightningModule):
    """Lightning module around a method.

    Every step seeds from (seed, epoch, step), which makes dropout and draws independent of what ran before; validation uses the same
    random numbers in every epoch, to compare epochs on equal draws. ``history`` has one row per epoch: the training loss terms,
    the validation metrics of the task, and the method's ``state_of_law``.

    Args:
        method: to be trained.
        config: of the run.
        sampler: of the training batches; it is told the epoch.
        train_batches: all training stays in a fixed order, for what the method fits to all of them; None: nothing is fitted.
        some_batches: a bounded number of them, beside which a law that is not fitted is described; None: it is not.
    """

    def __init__(
        self,
        method: Method,
        config: Config,
        sampler: EpochSampler | None = None,
        train_batches: Iterable[Batch] | None = None,
        some_batches: Iterable[Batch] | None = None,
        shown: Callable[[dict[str, float]], dict[str, float]] = dict,
    ) -> None:
        super().__init__()
        self.shown = shown
        self.train_batches, self.some_batches = train_batches, some_batches
        self._fitted: list[Tensor] = []
        self.method = method
        self.config = config
        self.sampler = sampler
        self.history: list[dict[str, float]] = []
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._valid: dict[str, float] = {}
        self._predicted: list[tuple[Tensor, Tensor]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy, of which averaging keeps one, has no need of the stays."""
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        apart = {"sampler": None, "train_batches": None, "some_batches": None, "shown": dict}
        other.__dict__.update(deepcopy(self.__getstate__() | apart, memo))
        return other

    def setup(self, stage: str) -> None:
        """Prepares the networks for a training; see `cm2.runs.speed`."""
        if stage == "fit":
            quicken(self.method, self.config.train, self.trainer.strategy.root_device)

    def teardown(self, stage: str) -> None:
        """Leaves the networks as they were built."""
        if stage == "fit":
            slacken(self.method)

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

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """The host goes on while memory that is page-locked is copied."""
        return batch.to(device, non_blocking=batch.label.is_pinned())

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Bytes of images, and what else is smaller on its way, become numbers on the device."""
        return ready(batch, self.method.modalities)

    def on_train_start(self) -> None:
        """Lets the method fit what its first steps read, unless training continues from a checkpoint."""
        if self.train_batches is not None and self.trainer.global_step == 0:
            self._seed(VALIDATION, 0)
            self.method.before_first_epoch(OnDevice(self.train_batches, self))

    def on_train_epoch_start(self) -> None:
        """Passes the epoch on to sampler and method."""
        self.method.epoch = self.current_epoch
        if self.sampler is not None:
            self.sampler.epoch = self.current_epoch
        self._sums, self._steps = {}, 0

    def training_step(self, batch: Batch, step: int) -> Tensor:
        """The method's loss; its terms are summed on the device and read once per epoch."""
        self._seed(self.current_epoch, step)
        if strength := self.config.train.augment:
            batch = augmented(batch, self.method.modalities, strength)
        terms = self._loss(batch)
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self._steps += 1
        return terms["loss"]

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.method.loss(batch)

    def on_validation_epoch_start(self) -> None:
        """Lets the method fit what it estimates from all training stays, or describe what it trains; clears the last predictions.

        With averaged parameters these are the method's already: Lightning calls the callback that swaps them first.
        """
        self._predicted = []
        self._check_divergence()
        if self.train_batches is not None:
            self._seed(VALIDATION, 0)
            fitted = self.method.refit(OnDevice(self.train_batches, self))
            self._fitted = [p.detach().clone() for p in self.method.law_parameters()] if fitted else []
            if not fitted and self.some_batches is not None:
                self.method.describe_law(OnDevice(self.some_batches, self))

    def validation_step(self, batch: Batch, step: int) -> None:
        """Stores predictions and labels for the epoch's metrics."""
        self._seed(VALIDATION, step)
        self._predicted.append((self.method.predictive(batch)[0].float(), batch.label))

    def on_validation_epoch_end(self) -> None:
        """The task's metrics on validation stays, one of which chooses the best epoch."""
        probability, label = (torch.cat(parts).cpu() for parts in zip(*self._predicted, strict=True))
        if self.trainer.world_size > 1:  # processes may hold different numbers of stays
            everyone: list[Any] = [None] * self.trainer.world_size
            distributed.all_gather_object(everyone, (probability, label))
            probability, label = (torch.cat(parts) for parts in zip(*everyone, strict=True))
        task = self.method.task
        truth, predicted = label.double().numpy(), probability.double().numpy()
        if not np.isfinite(predicted).all():
            raise diverged(self.config, self.current_epoch + 1, f"predicted {task.quantity}", float("nan"))
        self._valid = {intern(f"valid_{name}"): value for name, value in task.values(truth, predicted).items()}
        # loggers are told the whole epoch at its end, as far as it may be shown
        self.log(monitored(task), self._valid[monitored(task)], logger=False, sync_dist=self.trainer.world_size > 1)
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
        watching.tell(self.loggers, row, self.global_step, self.shown)

    def predict_step(self, batch: Batch, step: int) -> tuple[Tensor, ...]:
        """Stay, label, prediction and its variance between draws, with the random numbers of validation."""
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
        """Stops before anything is stored, where a term of the loss is no longer a number, or so large that nothing can be learnt."""
        means = {name: float(total) / max(self._steps, 1) for name, total in self._sums.items()}
        broken = [name for name, mean in means.items() if not abs(mean) < _LIMITS.get(name, LARGEST)]
        if broken:
            term = next((name for name in broken if name != "loss"), "loss")
            raise diverged(self.config, self.current_epoch + 1, term, means[term], means)

    def _seed(self, epoch: int, step: int) -> None:
        state = np.random.SeedSequence((self.config.seed, epoch, step)).generate_state(1)[0]
        torch.manual_seed(int(state))


def monitored(task: Task) -> str:
    """Column of the history by which the best epoch is chosen."""
    return intern(f"valid_{task.criterion}")  # one object for equal names: a checkpoint stores it once


def diverged(config: Config, epoch: int, term: str, value: float, terms: Mapping[str, float] | None = None) -> DivergedError:
    """The error of a training that led nowhere: epoch, term and value, and the settings to change with their values.

    Args:
        config: of the run.
        epoch: counted from 1.
        term: of the loss, or a prediction.
        value: of the term.
        terms: all of the loss, by name; the weight whose part of it is largest is named.
    """
    train, names = config.train, []
    weighed = {of: setting for of in terms or () for start, setting in _LOWER.items() if of.startswith(start)}
    if config.method == "cm2" and weighed:
        share = {setting: abs((terms or {})[of] * _value(config, setting)) for of, setting in weighed.items() if _value(config, setting)}
        if broken := weighed.get(term) or (term == "loss" and share and max(share, key=lambda setting: _rank(share[setting]))):
            names.append(broken)
    names += ["train.learning_rate", *(["train.law_learning_rate"] if train.law_learning_rate > train.learning_rate else [])]
    clip = "" if train.gradient_clip else ", or set train.gradient_clip"
    settings = " or ".join(f"{name} = {_value(config, name):g}" for name in names)
    return DivergedError(
        f"training diverged in epoch {epoch} ({config.method}, seed {config.seed}): the {'term ' if terms else ''}{term} is {value:g};"
        f" lower {settings}{clip}."
        " Nothing of the run is stored"
    )


def _value(config: Config, setting: str) -> float:
    group, name = setting.split(".")
    return float(getattr(getattr(config, group), name))


def _rank(share: float) -> float:
    return math.inf if math.isnan(share) else share


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


class OnDevice:
    """Batches where a loop's method is; can be read more than once."""

    def __init__(self, batches: Iterable[Batch], loop: LightningModule) -> None:
        self.batches, self.loop = batches, loop

    def __iter__(self) -> Iterator[Batch]:
        return (self.loop.trainer.strategy.batch_to_device(batch, self.loop.device) for batch in self.batches)
