"""The kind of a modality of which nothing but the data is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from cm2.cohorts.own.declared import Declared, Images, Table, Texts, TimeSeries
from cm2.cohorts.own.incoming import is_missing, plain
from cm2.errors import InputError

SAY = "say what it is with Table(...), TimeSeries(...), Images(...), Texts(...), or Arrays(..., kind=) for a kind of your own"


def declared_as(name: str, value: Any, id: str | None) -> Declared:
    """How a modality is read: as it was declared, or as its type suggests.

    Raises:
        InputError: an object that may be several kinds, or none.
    """
    if isinstance(value, Declared):
        return value
    if isinstance(value, Path):
        return Images(value)
    found = plain(value, name)
    if isinstance(found, pd.DataFrame):
        return _frame(name, found if isinstance(value, pd.DataFrame) else value, found, id)
    if isinstance(found, pd.Series) and not types.is_object_dtype(found.dtype) and not types.is_string_dtype(found.dtype):
        return Table(value)
    if isinstance(found, np.ndarray) and found.dtype != object:
        return _array(name, found, value)
    items = list(found.values()) if isinstance(found, dict) else list(found)
    return _items(name, items, value)


def _frame(name: str, value: Any, frame: pd.DataFrame, id: str | None) -> Declared:
    ids = frame[id] if id is not None and id in frame.columns else frame.index
    if ids.is_unique:
        return Table(value)
    time = TimeSeries(frame).time
    if time in frame.columns:
        return TimeSeries(value)
    left = [column for column in frame.columns if column != id]
    if len(left) == 1 and not types.is_numeric_dtype(frame[left[0]].dtype):
        return Texts(value)
    raise InputError(f"{name}: ids have several rows and there is no column {time!r}; give one row for each id, or {SAY}")


def _array(name: str, array: np.ndarray, value: Any) -> Declared:
    if array.dtype.kind in "US":
        return Texts(value)
    if array.ndim in (1, 2):
        return Table(value)
    if array.ndim == 3:
        return Images(value) if array.dtype == np.uint8 else TimeSeries(value)
    if array.ndim == 4:
        return Images(value)
    raise InputError(f"{name}: no kind reads an array of shape {array.shape}; {SAY}")


def _items(name: str, items: Sequence[Any], value: Any) -> Declared:
    """By the first item that is there."""
    first = next((item for item in items if not is_missing(item)), None)
    if first is None:
        raise InputError(f"{name}: all values are missing; leave the modality out")
    if isinstance(first, str) or (isinstance(first, list | np.ndarray) and len(first) and isinstance(first[0], str)):
        return Texts(value)
    if isinstance(first, Path) or hasattr(first, "getbands"):
        return Images(value)
    if isinstance(first, tuple) and len(first) == 2:
        return TimeSeries(value)
    if np.ndim(first) == 0:
        return Table(value)
    array = np.asarray(plain(first, name))
    if array.ndim == 3 or (array.ndim == 2 and array.dtype == np.uint8):
        return Images(value)
    if array.ndim in (1, 2) and array.dtype.kind in "biuf":
        return TimeSeries(value)
    raise InputError(f"{name}: no kind reads items of type {type(first).__name__} and shape {array.shape}; {SAY}")
