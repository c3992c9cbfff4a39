"""Files of a prepared cohort as they are read: whatever is wrong with one is one clear error that names it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.types import is_bool_dtype, is_integer_dtype

from cm2.cohorts.disclosure import Disclosure
from cm2.cohorts.format import AGAIN, PRESENT, SPLITS, tasks_of
from cm2.errors import InputError, of_the_system
from cm2.escape import one_line


def read_frame(path: Path, columns: Collection[str] = ()) -> pd.DataFrame:
    """A Parquet file.

    Args:
        path: of the file.
        columns: those that it must have.

    Raises:
        InputError: a file that is missing, damaged or no Parquet, or a column that it lacks.
    """
    try:
        frame = pd.read_parquet(path)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        said = of_the_system(error) if isinstance(error, OSError) else None
        raise InputError(said or f"{path}: not a whole Parquet file ({one_line(error):.100}); {AGAIN}") from None
    if missing := [name for name in columns if name not in frame]:
        raise InputError(f"{path}: the column {missing[0]} is missing; {AGAIN}")
    return frame


def read_stays(path: Path, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """The table of stays. Errors are those of `read_frame`, and columns of other types or values than the format has."""
    masks = [f"{PRESENT}{name}" for name in manifest["modalities"]]
    tasks = tasks_of(manifest)
    stays = read_frame(path, ("stay_id", "split", *(column for task in tasks.values() for column in task.columns), *masks))
    whole = ("stay_id", *(column for task in tasks.values() for column in task.columns if task.stored.startswith("int")))
    numbers = [name for name in whole if not is_integer_dtype(stays[name].dtype)]
    if wrong := [*numbers, *(name for name in masks if not is_bool_dtype(stays[name].dtype))]:
        what = "whole numbers" if wrong[0] in numbers else "true or false"
        raise InputError(f"{path}: column {wrong[0]}: expected {what}; {AGAIN}")
    if strange := set(stays["split"].astype(str)) - set(SPLITS):
        raise InputError(f"{path}: column split: unknown split {min(strange)!r:.40}; {AGAIN}")
    if not stays["stay_id"].is_unique:
        raise InputError(f"{path}: column stay_id: a stay occurs twice; {AGAIN}")
    record = Disclosure.of(manifest).record
    for task in tasks.values():
        try:
            task.check(stays, lambda row: f"stay {record(stays['stay_id'].iloc[row], row)}")
        except ValueError as error:
            raise InputError(f"{path}: column {str(error).rpartition(';')[0]}; {AGAIN}") from None
    return stays


def read_array(path: Path) -> np.ndarray:
    """Memory map of a NumPy file, which is never unpickled.

    Raises:
        InputError: a file that is missing, damaged, of Python objects, or no array of numbers.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError, SyntaxError, TokenError, TypeError, OverflowError, KeyError, RecursionError) as error:
        said = of_the_system(error) if isinstance(error, OSError) else None
        raise InputError(said or f"{path}: not a whole array of numbers ({one_line(error):.100}); {AGAIN}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise InputError(f"{path}: not an array of numbers; {AGAIN}")
    return array
