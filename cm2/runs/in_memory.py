"""Training and prediction in memory, without run store and test stays: for a program that keeps its models and test data itself."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cm2.batch import Batch
from cm2.cohorts import Cohort, Layout
from cm2.config import Config
from cm2.methods import Method
from cm2.methods.saved import Inputs
from cm2.progress import quiet_libraries
from cm2.runs.batches import Batches
from cm2.runs.start import ONE_AT_A_TIME, start


@dataclass(frozen=True)
class TrainedMethod:
    """A trained method with all that it needs to read further rows; it holds no stay.

    Args:
        config: that it was trained by.
        method: trained, in evaluation mode.
        inputs: makes its batches.
        layout: makes features of rows in their own units.
        history: one row for each epoch.
    """

    config: Config
    method: Method
    inputs: Inputs
    layout: Layout
    history: pd.DataFrame

    def predict(self, modalities: Mapping[str, Any]) -> pd.DataFrame:
        """Predictions of rows, the columns of `cm2.tasks.Task.frame`, of which the labels are unknown.

        What is missing is drawn with the seed of the configuration, by the place of a row among all: the same rows give the same numbers.
        The state of torch's generator stays what it was.

        Args:
            modalities: see `cm2.cohorts.Layout.values`, whose errors are raised.
        """
        from cm2.runs.trainer import predicted

        rows = RowBatches(self.layout.values(modalities), self.inputs)
        with ONE_AT_A_TIME, torch.random.fork_rng(), warnings.catch_warnings():
            quiet_libraries()
            return predicted(self.method, self.config, rows)


class RowBatches(Batches):
    """Batches of rows that are in no cohort.

    Args:
        values: by modality, see `cm2.cohorts.Layout.values`.
        inputs: of the method.
    """

    def __init__(self, values: Mapping[str, Any], inputs: Inputs) -> None:
        self.values, self.inputs = values, inputs

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def __getitem__(self, indices: list[int]) -> Batch:
        some = {name: value[indices] if hasattr(value, "shape") else [value[i] for i in indices] for name, value in self.values.items()}
        return self.inputs.batch(some, standardise=False)


def train_in_memory(config: Config, cohort: Cohort, folder: Path) -> TrainedMethod:
    """Trains a method as every run does, on the training and validation stays of a cohort alone.

    Args:
        config: of the training.
        cohort: with or without test stays, which are not read.
        folder: an empty one, for checkpoints; it may be removed afterwards, like the cohort.

    Raises:
        ValueError: see `cm2.runs.start.start`; or a training that diverges.
    """
    from cm2.runs.trainer import train

    with ONE_AT_A_TIME, torch.random.fork_rng(), warnings.catch_warnings():
        quiet_libraries()  # hints of Lightning, which a search would repeat for each of its trainings
        cohort, method, stays = start(config, cohort, test=False)
        history = train(method, config, stays["train"], stays["valid"], folder, progress=False)
    return TrainedMethod(config, method.eval(), _inputs(cohort, method), Layout.of(cohort), history)


def _inputs(cohort: Cohort, method: Method) -> Inputs:
    features = {modality.name: cohort.manifest["modalities"][modality.name]["features"] for modality in cohort.modalities}
    tokenizer = cohort.text_tokenizer if any(modality.vocabulary for modality in cohort.modalities) else None
    normalisation = cohort.manifest.get("normalisation", {})
    return Inputs(cohort.modalities, features, normalisation, tokenizer, cohort.max_length, method.task.label_shape)
