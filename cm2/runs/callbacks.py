"""What Lightning calls beside the loops: the average of parameters over steps, the progress that is shown, and what a resumed run knows."""

from __future__ import annotations

from functools import partial
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import Tensor

from cm2.progress import Progress
from cm2.runs.loops import PretrainingLoop, TrainingLoop, monitored


class Average(WeightAveraging):
    """Exponential moving average of parameters and buffers, one step with a weight; whole numbers are copied.

    Lightning's own averages those as well and cuts what comes out: a text encoder's positions 0, 1, 2, ... end as zeros.
    """

    def __init__(self, weight: float) -> None:
        super().__init__(use_buffers=True, avg_fn=partial(_averaged, weight))


def _averaged(weight: float, average: Tensor, current: Tensor, _: Tensor | int) -> Tensor:
    return (1 - weight) * average + weight * current if average.is_floating_point() else current


class StaysStopped(Callback):
    """A training that was killed after it had been stopped early is not trained for another epoch."""

    def on_fit_start(self, trainer: Trainer, loop: LightningModule) -> None:
        """Reads the state restored from the checkpoint."""
        if (early := trainer.early_stopping_callback) is not None and early.wait_count >= early.patience:
            trainer.should_stop = True


class Shown(Callback):
    """Reports epochs and batches to a `Progress`.

    Args:
        progress: the display.
        metric: whether the validation metric that chooses the epoch may be shown.
    """

    def __init__(self, progress: Progress, metric: bool = True) -> None:
        self.progress = progress
        self.metric = metric

    def on_train_start(self, trainer: Trainer, loop: LightningModule) -> None:
        """Sets the number of batches of this process; epochs of an earlier call count as done."""
        epochs, batches = trainer.max_epochs or 0, int(trainer.num_training_batches)
        self.progress.total = epochs * batches
        self.progress.skip(trainer.current_epoch * batches)

    def on_train_epoch_start(self, trainer: Trainer, loop: LightningModule) -> None:
        """Shows the epoch and the last one's validation AUROC, or what chooses the epoch in its place."""
        last = ""
        if self.metric and isinstance(loop, TrainingLoop) and loop.history:
            task = loop.method.task
            value = loop.history[-1].get(monitored(task))
            last = "" if value is None else f", validation {task.chooses.heading} {value:.3f}"
        what = "pre-training, epoch" if isinstance(loop, PretrainingLoop) else "epoch"
        self.progress.note = f"{what} {trainer.current_epoch + 1} of {trainer.max_epochs}{last}"

    def on_train_batch_end(self, *_: Any) -> None:
        self.progress.advance()

    def on_predict_batch_end(self, *_: Any) -> None:
        self.progress.advance()
