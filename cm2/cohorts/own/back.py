"""From a cohort back to data in memory: units, categories, dates and gaps as they were handed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cm2.cohorts.cohort import Cohort
from cm2.cohorts.files import read_frame
from cm2.cohorts.format import SEPARATOR
from cm2.cohorts.own.build import IDS
from cm2.cohorts.own.columns import EPOCH, LEVEL
from cm2.cohorts.own.series import TIME
from cm2.errors import InputError
from cm2.kinds.contract import MASK


def to_frames(cohort: Cohort) -> dict[str, Any]:
    """What `cm2.cohorts.from_frames` was given, by id: numbers as float32 keeps them, dates to the minute.

    Args:
        cohort: one that `from_frames`, or a command that uses it, has written.

    Returns:
        ``labels``, a frame with ``split`` and the columns of the tasks, NaN where unknown. Of a table a frame, NaN where a value or the
        whole row is missing. Of a series a long frame with ``id``, ``time`` (or ``step``) and the columns, a row for each step in which
        anything was measured. Of texts a series of strings, documents separated by form feeds. Of images and other arrays a mapping by
        id.

    Raises:
        InputError: a cohort of another origin.
    """
    if IDS not in cohort.manifest["sizes"]:
        raise InputError(f"{cohort.path}: the cohort was not written by from_frames; read its arrays with Cohort.array and Cohort.texts")
    ids = read_frame(cohort.path / IDS, ("stay_id", "id")).set_index("stay_id")["id"].reindex(cohort.stays["stay_id"])
    index = pd.Index(ids.to_numpy(), name="id")
    found: dict[str, Any] = {"labels": _labels(cohort, index)}
    for (name, entry), present in zip(cohort.manifest["modalities"].items(), cohort.present.T, strict=True):
        if entry["kind"] == "vector":
            found[name] = _table(cohort, name, entry, index, present)
        elif entry["kind"] == "series":
            found[name] = _series(cohort, name, entry, index, present)
        elif entry["kind"] != "text":  # images, and arrays of a kind from outside
            array = cohort.array(name)
            found[name] = {index[row]: np.asarray(array[row]) for row in np.flatnonzero(present)}
        else:
            found[name] = pd.Series(cohort.texts(name), index=index, name=name, dtype=object)
    return found


def documents(text: str | None) -> list[str]:
    """The documents of a text of `to_frames`."""
    return [] if text is None else text.split(SEPARATOR)


def _labels(cohort: Cohort, index: pd.Index) -> pd.DataFrame:
    columns: dict[str, Any] = {"split": cohort.stays["split"].to_numpy()}
    for name in cohort.tasks:
        task = cohort.task(name)
        columns |= dict(zip(task.columns, cohort.label(name).reshape(len(index), -1).T, strict=True))
    return pd.DataFrame(columns, index=index)


def _table(cohort: Cohort, name: str, entry: Mapping[str, Any], index: pd.Index, present: np.ndarray) -> pd.DataFrame:
    values = np.where(present[:, None], cohort.array(name).astype(np.float64), np.nan)
    return pd.DataFrame(_columns(cohort, name, entry, values), index=index)


def _series(cohort: Cohort, name: str, entry: Mapping[str, Any], index: pd.Index, present: np.ndarray) -> pd.DataFrame:
    rows = np.flatnonzero(present)
    values = cohort.array(name)[rows].astype(np.float64)
    flat = values.reshape(-1, values.shape[2])
    stay, step = np.repeat(rows, values.shape[1]), np.tile(np.arange(values.shape[1]), len(rows))
    columns = _columns(cohort, name, entry, flat)
    time = columns.pop(TIME) if TIME in entry["variables"] else None
    measured = ~np.all([pd.isna(column) for column in columns.values()], axis=0) if time is None else ~np.isnan(time)
    clock: dict[str, Any] = {"step": step} if time is None else {"time": time}
    return pd.DataFrame({"id": index[stay]} | clock | columns)[measured].reset_index(drop=True)


def _columns(cohort: Cohort, name: str, entry: Mapping[str, Any], values: np.ndarray) -> dict[str, Any]:
    """Columns in their units from features ``(rows, F)``."""
    place = {feature: number for number, feature in enumerate(entry["features"])}
    found = cohort.manifest["normalisation"].get(name, {"features": [], "mean": [], "std": []})
    scale = {feature: (mean, std) for feature, mean, std in zip(found["features"], found["mean"], found["std"], strict=True)}
    columns: dict[str, Any] = {}
    for column, about in entry["variables"].items():
        mask = place.get(f"{MASK}{column}")
        seen = ~np.isnan(values[:, 0]) if mask is None else values[:, mask] == 1
        if about["how"] == "category":
            first = place[f"{column}{LEVEL}{about['levels'][0]}"]
            codes = values[:, first : first + len(about["levels"])].argmax(axis=1)
            columns[column] = pd.Categorical.from_codes([int(code) for code in np.where(seen, codes, -1)], categories=about["levels"])
            continue
        mean, std = scale.get(column, (0.0, 1.0))
        numbers = np.where(seen, values[:, place[column]] * std + mean, np.nan)
        columns[column] = pd.Series(EPOCH + pd.to_timedelta(numbers, unit="D")).dt.round("min") if about["how"] == "date" else numbers
        if about["how"] == "flag":
            columns[column] = pd.array([None if np.isnan(number) else number == 1 for number in numbers], dtype="boolean")
    return {column: np.asarray(value) if isinstance(value, pd.Series) else value for column, value in columns.items()}
