"""Texts of one's own: one or several documents for each stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cm2.cohorts.format import SEPARATOR
from cm2.cohorts.own.declared import Texts
from cm2.cohorts.own.drafts import Draft, Reading
from cm2.cohorts.own.incoming import Place, Plain, column_of, is_missing
from cm2.cohorts.writing import PreparedModality
from cm2.errors import InputError, spelled


class TextDraft(Draft):
    """Texts by stay."""

    def __init__(self, place: Place, texts: list[str | None], counts: dict[str, int]) -> None:
        super().__init__(place, np.array([text is not None for text in texts]), counts)
        self.texts = texts

    def prepared(self, rows: np.ndarray, training: np.ndarray) -> PreparedModality:
        """The texts of these stays, their documents separated by form feeds."""
        return PreparedModality("text", [self.texts[row] for row in rows], self.present[rows], notes={"separator": "form feed"})

    def applied(self, entry: Mapping[str, Any], found: Mapping[str, Any]) -> list[str | None]:
        """The texts, None where there is none."""
        return self.texts


def read_texts(declared: Texts, value: Plain, reading: Reading) -> TextDraft:
    """Reads texts. What has no letter at all counts as missing, and is counted.

    Raises:
        InputError: rows that cannot be matched, something that is no text, or a document with a form feed in it.
    """
    counts = {"empty documents": 0, "documents cut": 0}
    if isinstance(value, pd.DataFrame):
        place, documents = _from_frame(declared, value, reading, counts)
    else:
        keys = reading.roster.keys if reading.roster.given else None
        place = Place(reading.name, reading.roster.protected, keys)
        documents = [_documents(item, stay, place) for stay, item in enumerate(reading.by_id(value))]
    texts: list[str | None] = []
    for parts in documents:
        full = [part for part in parts if part.strip()]
        counts["empty documents"] += len(parts) - len(full)
        kept = full if declared.documents is None else full[max(len(full) - declared.documents, 0) :]
        counts["documents cut"] += len(full) - len(kept)
        texts.append(SEPARATOR.join(kept) if kept else None)
    return TextDraft(place, texts, counts)


def _from_frame(declared: Texts, frame: pd.DataFrame, reading: Reading, counts: dict[str, int]) -> tuple[Place, list[list[str]]]:
    """The documents of each stay, of a table with one row for each document."""
    column = declared.column or _only_column(frame, {reading.id, declared.time}, reading.name)
    content = column_of(frame, column, reading.name)
    matched = reading.matched(frame, once=False)
    counts["ids without a label"] = matched.unmatched
    order = np.arange(len(frame))
    if declared.time is not None:
        order = np.asarray(column_of(frame, declared.time, reading.name).reset_index(drop=True).argsort(kind="stable"))
    documents: list[list[str]] = [[] for _ in range(len(reading.roster))]
    for row in order:
        if matched.stay[row] >= 0:
            documents[matched.stay[row]] += _documents(content.iloc[row], int(row), matched.place, str(column))
    return matched.place, documents


def _only_column(frame: pd.DataFrame, apart: set[str | None], name: str) -> str:
    left = [column for column in frame.columns if column not in apart]
    if len(left) != 1:
        remedy = spelled("Give Texts(..., column=...)", "Keep one of them")
        raise InputError(f"{name}: which of the columns {', '.join(map(str, left))} is the text? {remedy}")
    return left[0]


def _documents(item: Any, row: int, place: Place, column: str | None = None) -> list[str]:
    """The documents of an item: a text, which may have form feeds between documents, or a list of texts."""
    if is_missing(item):
        return []
    if isinstance(item, str):
        return item.split(SEPARATOR)
    parts = list(item) if isinstance(item, list | tuple | np.ndarray) else [item]
    for part in parts:
        if not isinstance(part, str):
            place.fault(f"a {type(part).__name__} is no text", "give a string, a list of strings, or None", row, column)
        if SEPARATOR in part:
            place.fault("a document has a form feed, which separates documents", "replace it by a line break", row, column)
    return parts
