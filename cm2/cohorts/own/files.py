"""A cohort from files: tables, texts and labels as CSV or Parquet, arrays of NumPy, images in folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cm2.cohorts.cohort import Cohort
from cm2.cohorts.files import read_array, read_frame
from cm2.cohorts.own.build import from_frames
from cm2.cohorts.own.declared import Declared, Images, Table, Texts, TimeSeries
from cm2.cohorts.own.incoming import column_of
from cm2.errors import InputError, of_the_system, spelled
from cm2.escape import one_line

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".parquet", ".npy")


def from_files(
    labels: Path | str,
    out: Path | str,
    *,
    tables: Sequence[str] = (),
    series: Sequence[str] = (),
    texts: Sequence[str] = (),
    images: Sequence[str] = (),
    id: str | None = None,
    time: str = "time",
    every: float | None = None,
    steps: int | None = None,
    size: int | None = None,
    **options: Any,
) -> Cohort:
    """Writes a cohort of your own files and opens it; see `cm2.cohorts.from_frames`, which gets what they hold.

    Args:
        labels: file with one row for each stay.
        out: folder of the cohort.
        tables: files of tables, ``PATH`` or ``NAME=PATH``; a modality without a name is called after its file.
        series: files of series: long tables with ids and times, or arrays ``(n, T, F)``.
        texts: files of texts, one row for each document, in the order of the times if there is a column of them.
        images: folders of images called ``ID.png`` or the like; tables with ids and paths relative to the table; or arrays.
        id: column with the ids. Without it all files have their rows in the order of the labels.
        time: column of the times of series and texts.
        every: width of a step of a regular grid.
        steps: largest number of steps.
        size: height and width of images in pixels.
        options: further arguments of `from_frames`.

    Raises:
        InputError: a file that is missing, damaged or of another type, two modalities of one name, or what `from_frames` refuses.
    """
    makers: tuple[tuple[Sequence[str], Callable[[Any], Declared]], ...] = (
        (tables, Table),
        (series, lambda data: TimeSeries(data, time=time, every=every, steps=steps)),
        (texts, Texts),
        (images, lambda data: Images(data, size=size)),
    )
    found: dict[str, Declared] = {}
    for given, make in makers:
        for word in given:
            name, path = _named(word)
            if name in found:
                raise InputError(f"two modalities are called {name!r}; give them names: NAME=PATH")
            found[name] = _declared(make, path, id, time)
    return from_frames(found, read_file(Path(labels), id), out=out, id=id, **options)


def _named(word: str) -> tuple[str, Path]:
    name, separator, path = word.partition("=")
    if separator and path and not Path(word).exists():
        return name, Path(path)
    return Path(word).name.split(".")[0], Path(word)


def _declared(make: Callable[[Any], Declared], path: Path, id: str | None, time: str) -> Declared:
    declared = make(path)
    if isinstance(declared, Texts):
        return _texts(read_file(path, id), time)
    if not isinstance(declared, Images):
        return make(read_file(path, id))
    if path.is_dir():
        return declared
    content = read_file(path, id)
    if isinstance(content, np.ndarray):
        return replace(declared, data=content)
    if id is None:
        raise InputError(f"{path}: a table of images needs ids; name their column with {spelled('id=', '--id')}")
    paths = [column for column in content.columns if column != id]
    if len(paths) != 1:
        raise InputError(
            f"{path}: expected the column {id!r} and one with the paths of the images, got {', '.join(map(str, content.columns))}"
        )
    column = column_of(content, paths[0], str(path))
    return replace(declared, data=pd.Series([_beside(path, item) for item in column], index=content[id], dtype=object))


def _texts(content: pd.DataFrame | np.ndarray, time: str) -> Texts:
    """Documents, in the order of their times if they have any."""
    return Texts(content, time=time if isinstance(content, pd.DataFrame) and time in content.columns else None)


def _beside(table: Path, item: Any) -> Path | None:
    return table.parent / item if isinstance(item, str) else None


def read_file(path: Path, id: str | None) -> pd.DataFrame | np.ndarray:
    """A table or an array. Ids of a CSV are read as texts, so that 007 stays what it is.

    Raises:
        InputError: a file that is missing, damaged or of another type, or that lacks the column of ids.
    """
    name = path.name.lower()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise InputError(f"{path} {what}; give a file: {', '.join(SUFFIXES)}")
    if name.endswith(".npy"):
        return read_array(path)
    if name.endswith(".parquet"):
        frame = read_frame(path)
    elif name.endswith((".csv", ".csv.gz", ".tsv")):
        frame = _read_csv(path, id, "\t" if name.endswith(".tsv") else ",")
    else:
        raise InputError(f"{path}: unknown type of file; give one of {', '.join(SUFFIXES)}")
    if id is not None:
        column_of(frame, id, str(path))
    return frame


def _read_csv(path: Path, id: str | None, separator: str) -> pd.DataFrame:
    types: Mapping[Any, Any] = {} if id is None else {id: str}
    try:
        return pd.read_csv(path, sep=separator, dtype=types, float_precision="round_trip")
    except OSError as error:
        raise InputError(of_the_system(error) or f"{path}: {one_line(error)}") from None
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeError) as error:
        raise InputError(f"{path}: not a table in UTF-8 separated by {separator!r} ({one_line(error):.100}); write it again") from None
