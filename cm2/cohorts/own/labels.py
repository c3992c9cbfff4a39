"""Outcomes of one's own: columns of labels as tasks, told by name, by type, or by their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from cm2.cohorts.own.columns import Column, read_column
from cm2.cohorts.own.incoming import Place, column_of
from cm2.config.names import choose
from cm2.errors import InputError, spelled
from cm2.tasks import TASKS, Binary, Multiclass, Multilabel, Regression, Survival, Task

CLASSES = 20
"""Most whole numbers that are classes if nothing says what they are: more are a quantity."""
Asked = Mapping[str, Any]
Labels = tuple[Task, dict[str, np.ndarray]]
"""A task and its columns as they are stored, but for NaN where a label is unknown."""


def read_outcomes(frame: pd.DataFrame, tasks: Asked | None, place: Place) -> list[Labels]:
    """The tasks that columns of labels are.

    Args:
        frame: columns of labels, one row for each stay.
        tasks: by name a type (``"binary"``, ``"multiclass"``, ``"multilabel"``, ``"regression"``, ``"survival"``, or one of your own in
            `cm2.tasks.TASKS`), a `Task`, the columns of a multilabel task as a list, or those of a survival task as
            ``{"time": COLUMN, "event": COLUMN}``; None: every column is a task, of the type that its values suggest, and a pair
            ``NAME.time``, ``NAME.event`` is one.
        place: what an error calls the rows.

    Raises:
        InputError: no label at all, a column that there is not, an unknown type, or labels that the type does not have.
    """
    frame = frame.rename(columns=str)
    if tasks is None and len(frame.columns) and all(str(column).startswith("label.") for column in frame.columns):
        tasks = {"label": "multilabel"}  # an array (n, L)
    if tasks is None:
        tasks = dict.fromkeys(frame.columns)
        for name in [str(column).removesuffix(".time") for column in frame.columns if str(column).endswith(".time")]:
            if f"{name}.event" in tasks:
                tasks = {key: value for key, value in tasks.items() if key not in (f"{name}.time", f"{name}.event")} | {name: "survival"}
    if not tasks:
        raise InputError("labels: there is no column of labels; give one besides id, split and groups")
    found = [_read(str(name), asked, frame, place) for name, asked in tasks.items()]
    for task, columns in found:
        task.check(pd.DataFrame({name: _stored(task, name, values) for name, values in columns.items()}), place.row)
    return found


def stored_columns(found: Sequence[Labels]) -> dict[str, np.ndarray]:
    """Columns of ``stays.parquet`` by name."""
    return {name: _stored(task, name, values) for task, columns in found for name, values in columns.items()}


def _stored(task: Task, name: str, values: np.ndarray) -> np.ndarray:
    unknown = -1.0 if isinstance(task, Survival) and name.endswith(".event") else task.unknown
    return np.where(np.isnan(values), unknown, values)


def _read(name: str, asked: Any, frame: pd.DataFrame, place: Place) -> Labels:
    if isinstance(asked, Task):
        return _as_task(replace(asked, name=name), frame, place)
    if asked is None or asked in ("binary", "multiclass", "regression"):
        column = read_column(column_of(frame, name, "labels"), name, place)
        return _of_column(column, asked, place)
    if isinstance(asked, Mapping) and asked.keys() == {"time", "event"}:
        return _survival(Survival(name, f"time to {name}"), asked["time"], asked["event"], frame, place)
    if isinstance(asked, list | tuple):
        return _multilabel(Multilabel(name, f"labels {name}", labels=tuple(map(str, asked))), list(map(str, asked)), frame, place)
    if asked == "multilabel":
        columns = [column for column in frame.columns if column.startswith(f"{name}.")]
        labels = tuple(column.removeprefix(f"{name}.") for column in columns)
        return _multilabel(Multilabel(name, f"labels {name}", labels=labels), columns, frame, place)
    if asked == "survival":
        return _survival(Survival(name, f"time to {name}"), f"{name}.time", f"{name}.event", frame, place)
    if isinstance(asked, str) and asked in TASKS:  # a type from outside the package
        return _as_task(TASKS[asked](name, name), frame, place)
    if isinstance(asked, str):
        raise InputError(f"{spelled('tasks', '--task')}: unknown type {asked!r} of {name}; {choose(asked, sorted(TASKS))}")
    expected = 'a type, a Task, a list of columns, or {"time": ..., "event": ...}'
    raise InputError(f"tasks: {name} is given as {asked!r:.60}; give {expected}")


def _as_task(task: Task, frame: pd.DataFrame, place: Place) -> Labels:
    """Columns of a task that is given as an object."""
    if isinstance(task, Survival):
        return _survival(task, task.columns[0], task.columns[1], frame, place)
    if isinstance(task, Multilabel):
        named = all(column in frame.columns for column in task.columns)
        return _multilabel(task, list(task.columns if named else task.labels), frame, place)
    column = read_column(column_of(frame, task.name, "labels"), task.name, place)
    if isinstance(task, Multiclass) and column.how == "category":
        if strange := [level for level in column.levels if level not in task.classes]:
            row = int(np.flatnonzero(column.values == column.levels.index(strange[0]))[0])
            place.fault("{} is none of the classes", choose(strange[0], task.classes), row, task.name, strange[0])
        order = np.array([task.classes.index(level) for level in column.levels], dtype=np.float64)
        return task, {task.name: _renumbered(column, order)}
    return task, {task.name: _numbers(column, task.type, place)}


def _of_column(column: Column, asked: str | None, place: Place) -> Labels:
    """The task of a column of the type asked for, or of the one that its values suggest."""
    name = column.name
    if column.how == "category":
        if asked not in (None, "multiclass"):
            row = int(np.flatnonzero(~np.isnan(column.values))[0])
            remedy = "give 0 and 1 (or false and true), or the type multiclass" if asked == "binary" else "give numbers"
            place.fault(f"{{}} is no label of a {asked} task", remedy, row, name, column.levels[int(column.values[row])])
        return Multiclass(name, f"class of {name}", classes=_two(column.levels, name)), {name: column.values}
    values = _numbers(column, asked or "label", place)
    known = np.unique(values[~np.isnan(values)])
    if asked is None:
        asked = _suggested(column, known, place)
    if asked == "binary":
        return Binary(name, f"{name} is 1"), {name: np.where(values == -1, np.nan, values)}
    if asked == "regression":
        return Regression(name, name, unit="" if column.unit == "1" else column.unit), {name: values}
    classes = known[known != -1]
    if (classes != np.floor(classes)).any():
        row = int(np.flatnonzero(values != np.floor(values))[0])
        place.fault("{} is no class", "give whole numbers or texts, or the type regression", row, name, float(values[row]))
    order = {value: float(code) for code, value in enumerate(classes)}
    codes = np.array([order.get(value, np.nan) for value in values])
    return Multiclass(name, f"class of {name}", classes=_two([f"{value:.0f}" for value in classes], name)), {name: codes}


def _suggested(column: Column, known: np.ndarray, place: Place) -> str:
    """The type of numbers: 0 and 1, few whole numbers, others."""
    if set(known) == {-1.0, 1.0}:
        raise InputError(f"{place.name}, column {column.name}: labels -1 and 1, but -1 means unknown here; give 0 and 1")
    if set(known) <= {-1.0, 0.0, 1.0}:
        return "binary"
    whole = bool((known == np.floor(known)).all())
    return "multiclass" if whole and len(known) <= CLASSES else "regression"


def _two(levels: Sequence[str], name: str) -> tuple[str, ...]:
    if len(levels) < 2:
        raise InputError(f"labels, column {name}: {len(levels)} class in all rows; a task needs two or more")
    return tuple(levels)


def _numbers(column: Column, what: str, place: Place) -> np.ndarray:
    """Values of a column that may be no date and no category."""
    if column.how in ("date", "category"):
        row = int(np.flatnonzero(~np.isnan(column.values))[0])
        remedy = "give numbers, such as days since a date" if column.how == "date" else "give numbers"
        place.fault(f"a {column.how} is no {what}", remedy, row, column.name)
    return column.values


def _renumbered(column: Column, order: np.ndarray) -> np.ndarray:
    known = ~np.isnan(column.values)
    return np.where(known, order[np.where(known, column.values, 0).astype(np.int64)], np.nan)


def _multilabel(task: Multilabel, columns: Sequence[str], frame: pd.DataFrame, place: Place) -> Labels:
    read = [read_column(column_of(frame, column, "labels"), column, place) for column in columns]
    values = [_numbers(column, "label", place) for column in read]
    return task, {name: np.where(value == -1, np.nan, value) for name, value in zip(task.columns, values, strict=True)}


def _survival(task: Survival, time: str, event: str, frame: pd.DataFrame, place: Place) -> Labels:
    read = [read_column(column_of(frame, column, "labels"), column, place) for column in (time, event)]
    times, events = (_numbers(column, "label", place) for column in read)
    if not task.unit and read[0].unit != "1":
        task = replace(task, unit=read[0].unit)
    return task, dict(zip(task.columns, (times, np.where(events == -1, np.nan, events)), strict=True))


def refuse_one_sided(found: Sequence[Labels], stays: pd.DataFrame, splits: Sequence[str]) -> None:
    """Raises InputError if a task cannot be trained or tested in one of the splits, for example because all its labels there are equal."""
    for task, _ in found:
        label = task.read(stays)
        for split in splits:
            if lacking := task.lacks(label[(stays["split"] == split).to_numpy()], training=split == "train"):
                shares, tasks = spelled("split=", "--split"), spelled("tasks=", "--task")
                others = f"other shares ({shares}), another seed, or leave the task out ({tasks})"
                remedy = f"give more rows, {spelled(others, others, 'another validation_fraction, or another random_state')}"
                name = spelled(task.name, task.name, "y")
                told = lacking.partition(";")[0]
                if task.type == "binary" and "all" in told:
                    told = spelled(told, told, "are all of one class")
                raise InputError(f"{name}: the labels of the {split} split {told}; {remedy}")
