"""Interface of a task to cohorts, methods, runs and tables; registry of the types of task by name.

A type of task is a frozen dataclass that derives from `Task` and sets ``type``, in a separate file. Labels are numbers, NaN where unknown;
a label has one number, or one for each of ``parts``. A network gives ``outputs`` numbers for each stay, of which `Task.loss` and
`Task.prediction` make what is minimised and what is predicted. Whatever else depends on the task is decided here, so that no method asks
which task it has.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cm2.calibration import Forecast, Recalibration
from cm2.config.names import choose
from cm2.config.schema import check, plain_name
from cm2.errors import InputError
from cm2.parts import Registry
from cm2.tasks.records import Count, Metric, Single
from cm2.uncertainty import FEWEST, interval_of

TASKS: Registry[type[Task]] = Registry("task", "cm2.tasks", by="type")
"""Types of task by name; a subclass of `Task` that sets ``type`` registers itself, as does an entry point of the group ``cm2.tasks``."""


@dataclass(frozen=True)
class Task(ABC):
    """What is predicted of a stay.

    Args:
        name: of the outcome; columns of ``stays.parquet`` begin with it.
        description: the definition, one sentence.
    """

    name: str = "outcome"
    description: str = ""

    type: ClassVar[str]
    """Name in a manifest."""
    quantity: ClassVar[str] = "probability"
    """What a prediction is: the beginning of its columns."""
    criterion: ClassVar[str]
    """Name of the metric by which validation stays choose."""
    offers: ClassVar[tuple[Metric, ...]] = ()
    """Its metrics, the most important ones first."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        TASKS.enter(cls)

    def __post_init__(self) -> None:
        plain_name(self.name, f"{self.type} task")

    # --- shapes and columns

    @property
    def outputs(self) -> int:
        """Numbers that a network gives for each stay."""
        return 1

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the numbers of a label; empty where it is a single one."""
        return ()

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of one stay's label."""
        return (len(self.parts),) if self.parts else ()

    @property
    def predicted(self) -> tuple[str, ...]:
        """Names of the numbers of a prediction; empty where it is a single one."""
        return ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of ``stays.parquet``: ``NAME``, or ``NAME.PART`` for each part."""
        return tuple(f"{self.name}.{part}" for part in self.parts) or (self.name,)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Columns of labels in a run's predictions: ``label``, or ``label.PART`` for each part."""
        return tuple(f"label.{part}" for part in self.parts) or ("label",)

    @property
    def prediction_columns(self) -> tuple[str, ...]:
        """Columns of predictions there: the quantity, or ``QUANTITY.NAME`` for each number."""
        return tuple(f"{self.quantity}.{name}" for name in self.predicted) or (self.quantity,)

    @property
    def variance_columns(self) -> tuple[str, ...]:
        """Columns of their variances between draws."""
        return tuple(f"variance.{name}" for name in self.predicted) or ("variance",)

    # --- labels

    unknown: ClassVar[float] = -1
    """What stands in ``stays.parquet`` where an outcome is unknown."""
    stored: ClassVar[str] = "int8"
    """Type of the columns there."""
    expected: ClassVar[str]
    """What labels are, for errors."""

    @abstractmethod
    def _fits(self, column: str, values: NDArray) -> NDArray:
        """Which values of a column a label can have, bool ``(n,)``; unknown ones are not asked."""

    def check(self, stays: pd.DataFrame, called: Callable[[int], str]) -> None:
        """Checks the columns of labels.

        Args:
            stays: one row for each stay.
            called: what an error calls a row, by its position.

        Raises:
            ValueError: a missing column, or the first value that is no label: with its row and column, and what to do.
        """
        for column in self.columns:
            if column not in stays:
                raise InputError(f"{self.name}: the column {column} with the labels is missing; a {self.type} task has {self.expected}")
            values = pd.to_numeric(stays[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
            words = np.isnan(values) & stays[column].notna().to_numpy()
            if words.any():
                row = int(np.flatnonzero(words)[0])
                given = stays[column].iloc[row]
                raise InputError(f"{column}: labels are {self.expected}, got {given!r:.60} for {called(row)}; give numbers")
            known = ~np.isnan(values) if np.isnan(self.unknown) else values != self.unknown
            wrong = known & ~self._fits(column, np.where(known, values, 0))
            if wrong.any():
                row = int(np.flatnonzero(wrong)[0])
                raise InputError(
                    f"{column}: labels are {self.expected}, got {values[row]:g} for {called(row)}; correct it or drop the stay"
                )

    def written(self, stays: pd.DataFrame) -> dict[str, pd.Series]:
        """Columns of labels as they are stored."""
        return {column: stays[column].astype(np.dtype(self.stored)) for column in self.columns}

    def read(self, stays: pd.DataFrame) -> NDArray:
        """Labels ``(n, *label_shape)`` float64 of stored columns, NaN where unknown."""
        values = stays[list(self.columns)].to_numpy(dtype=np.float64)
        values = values if np.isnan(self.unknown) else np.where(values == self.unknown, np.nan, values)
        return values.reshape(len(stays), *self.label_shape)

    def strata(self, label: NDArray) -> NDArray:
        """Groups of stays ``(n,)`` of which the same share is kept where labels are thinned out: the outcomes where there are few."""
        return np.zeros(len(label))

    def stratum(self, group: float) -> str:
        """What stays of a group of `strata` are called, after "stays"."""
        return "with an outcome"

    def positives(self, label: NDArray) -> int | None:
        """Stays with a positive outcome; None where outcomes are not positive or negative."""
        return None

    @abstractmethod
    def counts(self, label: NDArray) -> dict[str, Count]:
        """Stays by what a metric tells apart: the classes, the labels, the event, or only all of them."""

    def smallest(self, label: NDArray) -> int:
        """Size of the smallest group of stays on which a metric depends."""
        sides = [count.smaller for count in self.counts(label).values()]
        return min((size for size in sides if size), default=0)

    def enough(self, label: NDArray) -> bool:
        """Whether there are stays enough for an interval or a test: ten on either side of one distinction at least."""
        return max((count.smaller for count in self.counts(label).values()), default=0) >= FEWEST

    def lacks(self, label: NDArray, training: bool = False) -> str:
        """Why a method can neither be trained nor tested on labels, as the end of a sentence that begins with them; empty if it can.

        Args:
            label: ``(n, *label_shape)``.
            training: whether they are those of training stays.
        """
        sides = self.counts(label).values()
        return "" if any(count.smaller for count in sides) else self._lacking(label)

    @abstractmethod
    def _lacking(self, label: NDArray) -> str:
        """`lacks` where no metric can be computed."""

    # --- manifest

    def entry(self, label: NDArray, split: NDArray, splits: Iterable[str]) -> dict[str, Any]:
        """The task's entry of a manifest, with exact counts.

        Args:
            label: of all stays ``(n, *label_shape)``.
            split: of each stay ``(n,)``.
            splits: names of all splits.
        """
        counts = {name: {"known": count.n, "positives": count.positives} for name, count in self.counts(label).items()}
        unknown = int((~known_stays(label)).sum())
        return {**self.described(), "unknown": unknown, "counts": counts}

    def settings(self) -> dict[str, Any]:
        """Entries of a manifest that this object is made of again, in addition to its description."""
        return {}

    @property
    def identity(self) -> str:
        """What distinguishes the task from others with the same labels: a part of a run's key."""
        return json.dumps({"type": self.type, **self.settings()}, sort_keys=True)

    def described(self) -> dict[str, Any]:
        """An entry from which `task_of` makes the task again, without counts."""
        return {"description": self.description, "type": self.type, **self.settings()}

    @classmethod
    def schema(cls) -> Mapping[str, Any]:
        """What `settings` holds; see `cm2.config.schema`."""
        return {}

    @classmethod
    def of(cls, name: str, entry: Mapping[str, Any]) -> Task:
        """The task of a manifest's entry, which was checked against `schema`."""
        given = {key.rstrip("?"): entry[key.rstrip("?")] for key in cls.schema() if key.rstrip("?") in entry}
        return cls(name, entry["description"], **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})

    def fitted(self, label: NDArray) -> Task:
        """The task with what it takes from the training stays' labels ``(n, *label_shape)``; the same by default."""
        return self

    # --- link and loss

    @abstractmethod
    def losses(self, output: Tensor, label: Tensor) -> Tensor:
        """-log-likelihoods ``(B,)``, or ``(B, L)`` of every label, of ``(B, outputs)`` and labels ``(B, *label_shape)`` without NaN."""

    def known(self, label: Tensor) -> Tensor:
        """Which of `losses` count, in their shape."""
        return ~label.isnan()

    def loss(self, output: Tensor, label: Tensor, used: Tensor | None = None) -> Tensor:
        """Mean loss of the labels that are known; 0 if there are none.

        Args:
            output: ``(B, outputs)``.
            label: ``(B, *label_shape)``, NaN where unknown.
            used: ``(B,)`` bool, stays to be counted; None: all.
        """
        known = self.known(label)
        counted = known if used is None else known & used.view(-1, *[1] * (known.ndim - 1))
        each = self.losses(output, torch.where(label.isnan(), 0, label))
        return torch.where(counted, each, 0).sum() / counted.sum().clamp(min=1)

    def errors(self, output: Tensor, label: Tensor) -> Tensor:
        """Loss of each stay ``(B,)``, of several labels the mean over those that are known; 0 where none is."""
        known = self.known(label)
        each = torch.where(known, self.losses(output, torch.where(label.isnan(), 0, label)), 0)
        return each if each.ndim == 1 else each.sum(dim=1) / known.sum(dim=1).clamp(min=1)

    @abstractmethod
    def start(self, label: Tensor) -> Tensor:
        """Outputs ``(outputs,)`` that predict what is known of ``label`` ``(B, *label_shape)`` as a whole, before anything is read."""

    @abstractmethod
    def prediction(self, output: Tensor) -> Tensor:
        """Outputs ``(..., outputs)`` to predictions ``(...)``, or ``(..., P)`` where a prediction has several numbers."""

    @abstractmethod
    def pooled(self, output: Tensor, present: Tensor) -> Tensor:
        """Outputs ``(B, outputs)`` that predict the mean prediction of the M models of ``output`` ``(B, M, outputs)`` observed."""

    def singles(self, label: NDArray) -> list[Single]:
        """Labels ``(n, *label_shape)`` as single outcomes, in the order of the outputs; empty for a task that is none of these."""
        return []

    # --- metrics

    range: ClassVar[str] = "numbers from 0 to 1"
    """Of predictions, for errors."""

    @property
    def reported(self) -> tuple[str, ...]:
        """What `summary` has, without the counts: entries that every ``metrics.json`` has."""
        return tuple(f"{name}{end}" for name in self.metrics for end in ("", "_low", "_high"))

    @property
    def recorded(self) -> tuple[str, ...]:
        """The metrics of `summary` that have an interval, the first two of which a sentence may quote."""
        return tuple(name for name in self.metrics if f"{name}_low" in self.reported)

    def strange(self, label: NDArray) -> str:
        """The first column of stored labels ``(n, *label_shape)`` that holds what no label is, and what was expected; else empty."""
        for column, values in zip(self.columns, label.reshape(len(label), -1).T, strict=True):
            known = ~np.isnan(values)
            if not self._fits(column, values[known]).all():
                return f"label: expected {self.expected}"
        return "" if known_stays(label).all() else "label: a stay has no outcome"

    @property
    def metrics(self) -> dict[str, Metric]:
        """Metrics by name, the most important ones first; those of ``offers``."""
        return {metric.name: metric.bound(self) for metric in self.offers}

    @property
    def shown(self) -> tuple[str, ...]:
        """Metrics that a table shows where it asks for none of the task's."""
        return tuple(self.metrics)[:2]

    @property
    def chooses(self) -> Metric:
        """The metric by which validation stays choose an epoch, a penalty, or a configuration."""
        return self.metrics[self.criterion]

    def values(self, label: NDArray, prediction: NDArray) -> dict[str, float]:
        """Metrics of predictions, for the history; those that are computed quickly.

        Args:
            label: ``(n, *label_shape)``, NaN where unknown.
            prediction: ``(n,)`` or ``(n, P)``.

        Raises:
            ValueError: labels on which no metric can be computed.
        """
        return {name: metric.measure(label, prediction).value for name, metric in self.metrics.items()}

    def summary(self, label: NDArray, prediction: NDArray) -> dict[str, float]:
        """What ``metrics.json`` holds of one split: every metric with ``_low`` and ``_high`` of its 95 % interval, and ``n``.

        Raises:
            ValueError: as `values`.
        """
        out: dict[str, float] = {}
        for name, metric in self.metrics.items():
            interval = interval_of(metric.measure(label, prediction), share=metric.share)
            out |= {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
        return out | {"n": int(known_stays(label).sum())}

    def frame(self, stay_id: NDArray, label: NDArray, prediction: NDArray, variance: NDArray) -> pd.DataFrame:
        """Predictions of stays as a run stores them: ``stay_id``, and the columns of labels, predictions and variances."""
        columns: dict[str, NDArray] = {"stay_id": stay_id}
        for names, values in ((self.label_columns, label), (self.prediction_columns, prediction), (self.variance_columns, variance)):
            columns |= dict(zip(names, values.reshape(len(values), -1).T, strict=True))
        return pd.DataFrame(columns)

    def of_frame(self, frame: pd.DataFrame) -> tuple[NDArray, NDArray]:
        """Labels ``(n, *label_shape)`` and predictions ``(n,)`` or ``(n, P)`` float64 of what `frame` made."""
        both = ((self.label_columns, self.parts), (self.prediction_columns, self.predicted))
        label, prediction = (
            frame[list(columns)].to_numpy(dtype=np.float64).reshape(len(frame), *((-1,) if names else ())) for columns, names in both
        )
        return label, prediction

    def plausible(self, prediction: NDArray) -> NDArray:
        """Which predictions ``(n,)`` or ``(n, P)`` are of the kind that they are to be; those outside are no result of a training."""
        return (prediction >= 0) & (prediction <= 1)

    # --- calibration

    uncalibrated: ClassVar[str] = "its type says of no prediction what should come true; define `forecasts` and `recalibration`"
    """Why predictions cannot be compared with outcomes, as the end of a sentence; empty if they can."""
    unjudged: ClassVar[str] = ""
    """What of a prediction calibration cannot judge, one sentence; empty if nothing."""

    def forecasts(self, label: NDArray, prediction: NDArray) -> dict[str, Forecast]:
        """What predictions claim, beside the outcomes: of each class, label or horizon, all of the same stays.

        Args:
            label: ``(n, *label_shape)``, NaN where unknown.
            prediction: ``(n,)`` or ``(n, P)``.
        """
        return {}

    def recalibration(self, label: NDArray, prediction: NDArray) -> Recalibration:
        """A change that calibrates predictions like these, of stays that are neither trained nor tested on. Arguments as `forecasts`."""
        return Recalibration.none(self.uncalibrated)

    # --- kept predictions

    @abstractmethod
    def compact(self, prediction: NDArray) -> NDArray:
        """Predictions on the scale on which float16 loses least, float16 of the same shape."""

    @abstractmethod
    def expanded(self, compact: NDArray) -> NDArray:
        """Predictions float64 of what `compact` returned."""


def metric_named(name: str) -> Metric | None:
    """A metric of any type of task that is defined by now, for its heading and scale, which are the same in all of them; or None."""
    return next((metric for one in TASKS.own().values() for metric in one.offers if metric.name == name), None)


def known_stays(label: Any) -> Any:
    """Stays with a known outcome, or with one of several, bool ``(n,)``; of a tensor or an array ``(n, *label_shape)``."""
    known = label == label  # NaN is no number, not even its own
    return known if known.ndim == 1 else known.any(1)


def task_of(name: str, entry: Mapping[str, Any], where: str = "") -> Task:
    """The task of an entry of a manifest; one without a type is binary.

    Args:
        name: of the task.
        entry: of the manifest.
        where: the beginning of an error.

    Raises:
        ValueError: an unknown type, or an entry that the type lacks.
    """
    before = f"{where}: " if where else ""
    given = entry.get("type", "binary")
    if given not in TASKS:
        raise InputError(f"{before}task {name}: unknown type {given!r:.40}; {choose(str(given), sorted(TASKS))}")
    check(entry, TASKS[given].schema(), f"{before}task {name}")
    return TASKS[given].of(name, entry)


def distinct_names(names: Iterable[str], task: str, what: str) -> None:
    """Checks the names of classes or labels.

    Raises:
        ValueError: fewer than two, one that occurs twice, or one that cannot be shown.
    """
    names = [plain_name(name, f"{task}: {what}") for name in names]
    if len(names) < 2:
        raise InputError(f"{task}: {len(names)} {what}; name two or more")
    if twice := next((name for at, name in enumerate(names) if name in names[:at]), None):
        raise InputError(f"{task}: {what} has {twice!r} twice; give each another name")
