"""Writing tables as in the official archives: CSV, mostly compressed, with the peculiarities of a few files."""

from __future__ import annotations

import gzip
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import csv

from cm2.progress import Progress

# stands, in a text held in memory, for bytes that are not UTF-8
UNREADABLE = "\ue000"
_BROKEN = b"\xff\xfe\xff"


@dataclass(frozen=True)
class Habit:
    """How one table is written.

    Args:
        plain: ``.csv`` instead of ``.csv.gz``.
        mark: starts with a UTF-8 byte-order mark.
        windows: lines end in CR LF; only for tables without line breaks in their fields.
        quoted: every text is quoted (MIMIC-III), not only those that need it.
    """

    plain: bool = False
    mark: bool = False
    windows: bool = False
    quoted: bool = True


def write_tables(
    folder: Path, tables: Mapping[str, pd.DataFrame], layouts: Mapping[str, tuple[str, ...]], habits: Mapping[str, Habit]
) -> list[str]:
    """Writes tables below ``folder``; columns that a frame lacks are empty.

    Args:
        folder: an existing folder.
        tables: by name, with ``/`` for subfolders.
        layouts: columns of each table, in order.
        habits: by name; by default ``Habit()``.

    Returns:
        The files' paths relative to ``folder``.
    """
    with Progress("", len(tables), "table", even=False) as progress:
        return [
            _write(folder, name, frame.reindex(columns=list(layouts[name])), habits.get(name, Habit()))
            for name, frame in progress.each(tables.items())
        ]


def count_habits(habits: Mapping[str, Habit]) -> Counter[str]:
    """Number of tables with each habit."""
    marks = {"table_not_compressed": "plain", "table_with_byte_order_mark": "mark", "table_with_windows_line_ends": "windows"}
    return Counter({kind: sum(getattr(habit, name) for habit in habits.values()) for kind, name in marks.items()})


def _write(folder: Path, name: str, frame: pd.DataFrame, habit: Habit) -> str:
    data = _quoted(frame) if habit.quoted else _minimal(frame)
    data = data.replace(UNREADABLE.encode(), _BROKEN)
    if habit.windows:
        data = data.replace(b"\n", b"\r\n")
    if habit.mark:
        data = b"\xef\xbb\xbf" + data
    path = f"{name}.csv" if habit.plain else f"{name}.csv.gz"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(data if habit.plain else gzip.compress(data, compresslevel=2, mtime=0))
    return path


def _quoted(frame: pd.DataFrame) -> bytes:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    # a column without any value would be of type null instead of text
    empty = [i for i, field in enumerate(table.schema) if pa.types.is_null(field.type)]
    for i in empty:
        table = table.set_column(i, table.schema.names[i], pa.nulls(len(table), pa.string()))
    buffer = io.BytesIO()
    csv.write_csv(table, buffer, csv.WriteOptions(quoting_style="needed"))
    return buffer.getvalue()


def _minimal(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, date_format="%Y-%m-%d %H:%M:%S", lineterminator="\n").encode()
