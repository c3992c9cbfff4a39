"""MIMIC-IV-Note: radiology reports of the stay's admission, and discharge summaries of earlier ones.

A discharge summary is written when the admission is over, and its time is a date: that of the stay's own admission would give the outcome
away, whatever time it bears. Only those of other admissions, dated before entry, count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from data_prep.mimic.notes import LAST, clean_note
from data_prep.mimic.raw import Release, find_table, reading, source
from data_prep.mimic.stays import HOURS

_COLUMNS = "note_id subject_id hadm_id charttime text"
NOTES = Release(
    "mimic-iv-note",
    "MIMIC-IV-Note",
    {"radiology": _COLUMNS, "discharge": _COLUMNS},
    ("note", ""),
    (),
    frozenset({"iserror", "row_id"}),
    ("mimic3", "MIMIC-III"),
)
ELIGIBLE = {
    "radiology": f"note.hadm_id = candidate.hadm_id AND charttime <= intime + INTERVAL {HOURS} HOUR",
    "discharge": "note.hadm_id <> candidate.hadm_id AND charttime < intime",
}
"""Which notes of a stay's subject a prediction may use, by table."""


def note_tables(folder: Path) -> dict[str, Path]:
    """The files of the two tables.

    Raises:
        ValueError: no such folder, or a table that is missing.
    """
    return {table: find_table(folder, NOTES, table) for table in NOTES.tables}


def last_notes_of_stays(connection: duckdb.DuckDBPyConnection, folder: Path, stays: pd.DataFrame) -> tuple[list[list[str]], dict[str, Any]]:
    """The last five notes of each stay, by time and ``note_id``.

    Args:
        connection: connection to DuckDB.
        folder: folder of MIMIC-IV-Note.
        stays: n stays with ``subject_id``, ``hadm_id`` and ``intime``.

    Returns:
        For each stay its cleaned texts, none to five; and counts, by table: the notes of the cohort's subjects, those without a time or
        a text, the eligible ones.

    Raises:
        ValueError: a missing, damaged or foreign table.
    """
    connection.register("candidate", stays[["subject_id", "hadm_id", "intime"]].assign(row=np.arange(len(stays))))
    counts: dict[str, Any] = {}
    parts = []
    for table, path in note_tables(folder).items():
        with reading(path):
            connection.execute(f"""
                CREATE OR REPLACE TEMP TABLE note AS
                SELECT note_id, subject_id, hadm_id, try_cast(charttime AS TIMESTAMP) AS charttime, text
                FROM {source(path, NOTES, table)} WHERE subject_id IN (SELECT subject_id FROM candidate)
            """)
        usable = "charttime IS NOT NULL AND trim(coalesce(text, '')) <> ''"
        total, good = connection.execute(f"SELECT count(*), count(*) FILTER (WHERE {usable}) FROM note").fetchall()[0]
        found = connection.execute(f"""
            SELECT row, charttime, note_id, text FROM note JOIN candidate ON note.subject_id = candidate.subject_id
                AND {ELIGIBLE[table]} WHERE {usable}
        """).df()
        counts[table] = {"of_the_cohorts_subjects": total, "no_time_or_text": total - good, "eligible": len(found)}
        parts.append(found)
    chosen = pd.concat(parts).sort_values(["row", "charttime", "note_id"])
    chosen["text"] = [clean_note(text) for text in chosen["text"]]
    counts["empty_after_cleaning"] = int((chosen["text"] == "").sum())
    last = chosen[chosen["text"] != ""].groupby("row").tail(LAST).groupby("row")["text"].agg(list)
    texts = [last.get(row, []) for row in range(len(stays))]
    counts["stays_with_notes"] = sum(map(bool, texts))
    return texts, counts
