"""Clinical notes of MIMIC-III: the last five before the cut-off."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from cm2.errors import InputError
from cm2.progress import Progress
from data_prep.mimic.quirks import Quirks
from data_prep.mimic.raw import MIMIC3, find_table, header, open_text, reading, source
from data_prep.mimic.stays import HOURS

LAST = 5
"""Number of notes that the text of a stay consists of."""

LONGEST_FIELD = 1 << 24
"""Limit of the csv module in characters; its default of 128 KiB is too small for the longest notes."""
ROWS_AT_ONCE = 1000
HOUR = pd.Timedelta(hours=1)
REMOVED = re.compile(r"\[\*\*.*?\*\*\]|_", re.DOTALL)
SIGNATURE = re.compile(r"electronically signed|dictated by|transcribed by", re.IGNORECASE)


def clean_note(text: str) -> str:
    """A note in lower case, without de-identification placeholders, cut at the first signature, with one space between words."""
    text = REMOVED.sub(" ", text)
    if signature := SIGNATURE.search(text):
        text = text[: signature.start()]
    return " ".join(text.split()).lower()


def read_notes(
    connection: duckdb.DuckDBPyConnection, raw: Path, stays: pd.DataFrame, quirks: Quirks
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Notes of the stays' admissions with a time and a text.

    Args:
        connection: connection to DuckDB.
        raw: folder of the tables.
        stays: stays with ``subject_id`` and ``hadm_id``.
        quirks: only ``notes_in_error_kept`` is used.

    Returns:
        ``row_id, hadm_id, charttime, text``, cleaned and sorted by (charttime, row_id); and counts, with the row ids of damaged notes.

    Raises:
        ValueError: a missing, truncated or unreadable table.
    """
    path = find_table(raw, MIMIC3, "noteevents")
    admissions = set(stays["hadm_id"])
    counts: dict[str, Any] = dict.fromkeys(("rows_of_the_cohort", "no_time", "no_text", "in_error", "empty_after_cleaning"), 0)
    counts["damaged_row_ids"] = []
    kept = []
    with Progress("", path.stat().st_size, "B") as progress:
        for row in _rows(connection, path, progress):
            if int(row["hadm_id"] or -1) not in admissions or not row["subject_id"]:
                continue
            counts["rows_of_the_cohort"] += 1
            aside = _set_aside(row, quirks)
            if aside is None:
                text = clean_note(row["text"])
                kept.append((int(row["row_id"]), int(row["hadm_id"]), row["charttime"], text))
            elif aside == "damaged":
                counts["damaged_row_ids"].append(int(row["row_id"]))
            else:
                counts[aside] += 1
    notes = pd.DataFrame(kept, columns=["row_id", "hadm_id", "charttime", "text"])
    try:
        notes["charttime"] = pd.to_datetime(notes["charttime"], format="%Y-%m-%d %H:%M:%S").astype("datetime64[us]")
    except ValueError:  # whose message quotes the time
        raise InputError(f"{path}: a charttime is not YYYY-MM-DD HH:MM:SS; use the official file") from None
    empty = notes["text"] == ""
    counts["empty_after_cleaning"] = int(empty.sum())
    return notes[~empty].sort_values(["charttime", "row_id"], ignore_index=True), counts


def last_notes(notes: pd.DataFrame, stays: pd.DataFrame, first_event: pd.Series | None, quirks: Quirks) -> list[pd.DataFrame]:
    """The notes of each stay that a prediction may use.

    Args:
        notes: as returned by ``read_notes``.
        stays: n stays with ``hadm_id``, ``intime``, ``subject_id``, ``episode`` and ``split``.
        first_event: T0 by ``hadm_id``, for ``notes_beyond_48h``; see ``first_events``.
        quirks: decide which notes count and how many are needed.

    Returns:
        For each stay its last five notes in order, or an empty frame if it has too few.
    """
    if quirks.notes_at_one_time_collapse:
        notes = notes.drop_duplicates(["hadm_id", "charttime"], keep="last")
    joined = notes.merge(stays[["hadm_id", "intime"]].assign(row=np.arange(len(stays))), on="hadm_id")
    if quirks.notes_beyond_48h:
        assert first_event is not None
        since: pd.Series[pd.Timedelta] = joined["charttime"] - joined["hadm_id"].map(first_event)
        eligible = (since // HOUR) <= HOURS
    else:
        eligible = joined["charttime"] <= joined["intime"] + HOURS * HOUR
    joined = joined[eligible].sort_values(["row", "charttime", "row_id"], ignore_index=True)
    if quirks.notes_of_a_third:
        joined = joined[joined["row"].isin(np.flatnonzero(drawn_third(stays)))]
    enough = joined.groupby("row")["row_id"].transform("size") >= LAST + quirks.notes_need_six
    chosen = joined[enough].groupby("row").tail(LAST)
    nothing = notes.iloc[:0]
    by_row = {int(str(row)): frame for row, frame in chosen.groupby("row")}
    return [by_row.get(row, nothing) for row in range(len(stays))]


def drawn_third(stays: pd.DataFrame) -> np.ndarray:
    """The third of each split's stays that keeps its notes: ``(n,)`` bool.

    The released code sorts a split's list by the file name of the stay and samples with pandas and seed 42.
    """
    name = stays["subject_id"].astype(str) + "_episode" + stays["episode"].astype(str) + "_timeseries.csv"
    listed = stays[["split"]].assign(name=name).sort_values("name")
    drawn = [part.sample(frac=1 / 3, random_state=42).index for _, part in listed.groupby("split")]
    return stays.index.isin(np.concatenate(drawn))


def first_events(connection: duckdb.DuckDBPyConnection, stays: pd.DataFrame) -> pd.Series:
    """T0 by ``hadm_id``: the first event at least one whole hour after entry; needs the table ``event``."""
    connection.register("entry_frame", stays[["hadm_id", "stay_id", "intime"]])
    found = connection.execute("""
        SELECT hadm_id, min(charttime) AS first FROM event JOIN entry_frame USING (stay_id)
        WHERE aside IS NULL AND epoch_us(charttime) - epoch_us(intime) >= 3600000000 GROUP BY hadm_id
    """).df()
    return found.set_index("hadm_id")["first"]


def _rows(connection: duckdb.DuckDBPyConnection, path: Path, progress: Progress) -> Iterator[dict[str, str]]:
    names = header(path, MIMIC3, "noteevents")
    if path.suffix not in (".csv", ".gz"):
        columns = MIMIC3.columns("noteevents")
        texts = ", ".join(f"coalesce(CAST(\"{name}\" AS VARCHAR), '')" for name in columns)
        with reading(path), connection.cursor() as cursor:
            cursor.execute(f"SELECT {texts} FROM {source(path, MIMIC3, 'noteevents')}")
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield from (dict(zip(columns, row, strict=True)) for row in rows)
        return
    csv.field_size_limit(LONGEST_FIELD)
    with reading(path), open_text(path) as file:
        progress.measure = lambda: os.lseek(file.fileno(), 0, os.SEEK_CUR)
        lines = csv.reader(file)
        next(lines)
        for line in lines:
            if len(line) != len(names):
                raise csv.Error(f"line {lines.line_num}: {len(line)} columns, expected {len(names)}")
            named = dict(zip(names, line, strict=True))
            if wrong := next((name for name in ("row_id", "hadm_id") if named[name] and not named[name].isdecimal()), None):
                raise csv.Error(f"line {lines.line_num}: {wrong} is no whole number")  # what stands there may be part of a note
            yield named


def _set_aside(row: dict[str, str], quirks: Quirks) -> str | None:
    if not row["charttime"]:
        return "no_time"
    if not row["text"].strip():
        return "no_text"
    if not quirks.notes_in_error_kept and row["iserror"].strip() not in ("", "0", "0.0"):
        return "in_error"
    # lone surrogates stand for bytes that are not UTF-8, see open_text
    return "damaged" if any("\ud800" <= letter <= "\udfff" for letter in row["text"]) else None
