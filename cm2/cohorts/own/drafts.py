"""A modality of one's own while the splits are not known yet: checked, in the order of the labels, not standardised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cm2.cohorts.disclosure import SMALLEST
from cm2.cohorts.own.columns import Column, encoded, names_of, read_columns, scaled, statistics
from cm2.cohorts.own.declared import Table
from cm2.cohorts.own.ids import Matched, Roster, has_ids, ids_of, match, match_rows, refuse_twice
from cm2.cohorts.own.incoming import Place, Plain, column_of, frame_of
from cm2.cohorts.writing import PreparedModality
from cm2.errors import InputError, spelled


@dataclass(frozen=True)
class Reading:
    """What reading a modality depends on besides its data.

    Args:
        name: of the modality.
        roster: the stays.
        id: name of the column with the ids; None: the index.
        drop: whether rows without a label are dropped.
        pandas: whether the data were handed in as an object of pandas, whose index means something.
    """

    name: str
    roster: Roster
    id: str | None
    drop: bool
    pandas: bool

    @property
    def place(self) -> Place:
        """What an error calls the modality."""
        return Place(self.name, self.roster.protected)

    def matched(self, value: Plain, once: bool) -> Matched:
        """The stays of the rows of a table, or the items of a list.

        Args:
            value: as ``plain`` gives it.
            once: whether an id may have only one row.

        Raises:
            InputError: an id that is missing, repeated or unknown, or rows that cannot be matched.
        """
        named = self.id is not None and isinstance(value, pd.DataFrame)
        if isinstance(value, pd.DataFrame | pd.Series) and (named or has_ids(value, self.id)):
            if self.pandas and not (named or self.roster.given or self.roster.indexed):
                # the rows may be in the order of the labels or in that of the index: nobody can tell
                remedy = f"give the labels as a series with the same index, or the rows in their order: {self.name}.to_numpy()"
                raise InputError(f"{self.name}: it has an index of ids, while the labels have none; {remedy}")
            keys = ids_of(value, self.id, self.place)
            place = Place(self.name, self.roster.protected, keys)
            if once:
                refuse_twice(keys, place)
            return match(keys, self.roster, place, self.drop)
        if self.pandas and self.roster.given:
            same = f"if its rows are in the order of the labels, give it their index ({self.name}.index = labels.index)"
            also = f"else a column of ids and {spelled('id=', '--id')}"
            raise InputError(f"{self.name}: its index is 0, 1, 2, ..., while the labels have ids; {same}, {also}")
        return match_rows(len(value), self.roster, self.place)

    def by_id(self, value: Plain) -> list[Any]:
        """One item for each stay of the roster, None where there is none; of a list, an array, a series, or a mapping by id."""
        if isinstance(value, dict):
            value = pd.Series(list(value.values()), index=list(value), dtype=object)
            found = match(ids_of(value, None, self.place), self.roster, self.place, self.drop)
        else:
            found = self.matched(value, once=True)
        items: list[Any] = [None] * len(self.roster)
        for item, stay in zip(value, found.stay, strict=True):
            if stay >= 0:
                items[stay] = item
        return items


class Draft(ABC):
    """A modality that was read.

    Args:
        place: what an error calls it.
        present: ``(n,)`` bool, by stay.
        counts: of what was dropped, cut or merged.
        columns: of a table or series.
    """

    def __init__(self, place: Place, present: np.ndarray, counts: dict[str, int], columns: Sequence[Column] = ()) -> None:
        self.place, self.present, self.columns = place, present, columns
        self.counts = {name: count for name, count in counts.items() if count}

    @abstractmethod
    def prepared(self, rows: np.ndarray, training: np.ndarray) -> PreparedModality:
        """The modality as it is written.

        Args:
            rows: positions of the stays that are kept.
            training: ``(n,)`` bool, by stay of the roster.
        """

    @property
    def stay(self) -> np.ndarray:
        """``(rows,)`` position of the stay of each row of the columns."""
        return np.arange(len(self.present))

    @abstractmethod
    def applied(self, entry: Mapping[str, Any], found: Mapping[str, Any]) -> np.ndarray | list[str | None]:
        """The modality of all stays of the roster, laid out like that of a cohort; what stands where it is missing means nothing.

        Args:
            entry: of the modality in the cohort's manifest.
            found: its ``normalisation`` there.

        Raises:
            InputError: values that the cohort's layout has no place for.
        """


def selected(data: np.ndarray, names: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Features ``(..., F)`` float32 in the order of a cohort, of features that are called ``names``."""
    place = {name: at for at, name in enumerate(names)}
    return data[..., [place[name] for name in wanted]].astype(np.float32)


def fewest(rare: int | None, place: Place) -> int:
    """Stays that a category needs in order not to be merged."""
    return rare if rare is not None else SMALLEST if place.protected else 0


class TableDraft(Draft):
    """Columns in the order of the stays: a vector."""

    def __init__(self, place: Place, columns: Sequence[Column], declared: Table, counts: dict[str, int]) -> None:
        present = ~np.all([np.isnan(column.values) for column in columns], axis=0)
        super().__init__(place, present, counts, columns)
        self.standardise = declared.standardise

    def prepared(self, rows: np.ndarray, training: np.ndarray) -> PreparedModality:
        """Features of all columns, then masks where any value of an observed row is missing."""
        stays = np.arange(len(training))
        found, present = statistics(self.columns, stays, training, self.standardise, self.place), self.present[rows]
        masks = any(np.isnan(column.values[rows][present]).any() for column in self.columns)
        names, units = names_of(self.columns, found, masks)
        variables = {column.name: column.described() for column in self.columns}
        data = self._features(rows, found, masks).astype(np.float32)
        return PreparedModality("vector", data, present, names, units, found, {"variables": variables})

    def applied(self, entry: Mapping[str, Any], found: Mapping[str, Any]) -> np.ndarray:
        """Features ``(n, F)``."""
        data = self._features(np.arange(len(self.present)), found, masks=True)
        return selected(data, names_of(self.columns, found, masks=True)[0], entry["features"])

    def _features(self, rows: np.ndarray, found: Mapping[str, Any], masks: bool) -> np.ndarray:
        values = [column.values[rows] for column in self.columns]
        features = [encoded(column, scaled(column, value, found)) for column, value in zip(self.columns, values, strict=True)]
        return np.concatenate(features + ([~np.isnan(value)[:, None] for value in values] if masks else []), axis=1)


def read_table(declared: Table, value: Plain, reading: Reading) -> TableDraft:
    """Reads a table with one row for each id.

    Raises:
        InputError: rows that cannot be matched, or a column that cannot be read.
    """
    if isinstance(value, dict):
        value = frame_of(value, declared.columns, reading.name)
    matched = reading.matched(value, once=True)
    frame = frame_of(value, declared.columns, reading.name)
    names = chosen_columns(frame, declared.columns, {reading.id}, reading.name)
    order = np.full(len(reading.roster), -1)
    order[matched.stay[matched.stay >= 0]] = np.flatnonzero(matched.stay >= 0)
    read = read_columns(
        pd.DataFrame({name: column_of(frame, name, reading.name) for name in names}), names, matched.place, dict(declared.units)
    )
    there, merged = order >= 0, 0
    columns = []
    for column in read:
        values = np.where(there, column.values[order], np.nan) if len(column.values) else np.full(len(order), np.nan)
        whole, count = Column(**{**vars(column), "values": values}).merged(np.arange(len(order)), fewest(declared.rare, reading.place))
        columns.append(whole)
        merged += count
    return TableDraft(matched.place, columns, declared, {"ids without a label": matched.unmatched, "rare categories": merged})


def chosen_columns(frame: pd.DataFrame, columns: Sequence[str] | None, apart: set[str | None], name: str) -> list[Any]:
    """The columns of a frame that are features: those that are named, or all but those that have another role."""
    if columns is None:
        return [column for column in frame.columns if column not in apart]
    for column in columns:
        column_of(frame, column, name)
    return list(columns)
