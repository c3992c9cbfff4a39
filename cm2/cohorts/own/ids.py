"""Ids of one's own stays: any texts or whole numbers, by which labels and modalities find each other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd

from cm2.cohorts.own.incoming import Place, Plain, column_of
from cm2.errors import InputError, spelled

_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,17})")


def keys_of(values: Iterable[Any], place: Place) -> list[str]:
    """Ids as texts: 12, 12.0 (a whole number in a column that has gaps) and ``"12"`` are the same id, ``"012"`` is another.

    Raises:
        InputError: an id that is missing, or neither a text nor a whole number.
    """
    keys = []
    for row, value in enumerate(values):
        if isinstance(value, str) and value:
            keys.append(value)
        elif _is_whole(value):
            keys.append(str(int(value)))
        elif isinstance(value, UUID):
            keys.append(str(value))
        else:
            said = "the id is missing" if value is None or value == "" or value is pd.NaT or value != value else "{} is no id"
            Place(place.name, place.protected).fault(said, "give every row a text or a whole number", row, value=value)
    return keys


def _is_whole(value: Any) -> bool:
    if isinstance(value, bool | np.bool_):
        return False
    return isinstance(value, int | np.integer) or (isinstance(value, float | np.floating) and float(value).is_integer())


@dataclass(frozen=True)
class Roster:
    """The stays of a cohort, in the order of the labels.

    Args:
        keys: their ids as texts, each once.
        given: whether they were given, or are the numbers of the rows.
        protected: whether neither ids nor values may be shown.
        indexed: whether the labels have an index at all, be it 0, 1, 2: an array has none.
    """

    keys: list[str]
    given: bool
    protected: bool
    indexed: bool = True
    position: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        place = Place("labels", self.protected, self.keys)
        refuse_twice(self.keys, place)
        object.__setattr__(self, "position", {key: row for row, key in enumerate(self.keys)})

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def stay_id(self) -> np.ndarray:
        """``(n,)`` int64: ids that are whole numbers as they are, others as a hash, which no other row's id changes.

        Raises:
            InputError: two ids with one hash, which does not happen below millions of ids.
        """
        if all(_WHOLE.fullmatch(key) for key in self.keys):
            return np.array([int(key) for key in self.keys], dtype=np.int64)
        digests = [hashlib.blake2b(key.encode(), digest_size=8).digest() for key in self.keys]
        numbers = np.array([int.from_bytes(digest, "little") >> 2 for digest in digests], dtype=np.int64)
        if len(np.unique(numbers)) < len(numbers):
            raise InputError("labels: two ids have one hash; give whole numbers as ids")
        return numbers

    def only(self, rows: np.ndarray) -> Roster:
        """Some of the stays."""
        return Roster([self.keys[row] for row in rows], self.given, self.protected, self.indexed)


def refuse_twice(keys: Sequence[str], place: Place) -> None:
    """Raises InputError if an id has two rows."""
    first: dict[str, int] = {}
    for row, key in enumerate(keys):
        if key in first:
            place.fault(f"the id of {place.row(first[key])} occurs again", "give one row for each id, or a long table", row)
        first[key] = row


def has_ids(value: Plain, id: str | None) -> bool:
    """Whether rows have ids: a column of this name, or an index that is not merely 0, 1, 2."""
    if not isinstance(value, pd.DataFrame | pd.Series):
        return False
    if id is not None and (id in value.index.names or (isinstance(value, pd.DataFrame) and id in value.columns)):
        return True
    index = value.index
    return not (isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1)


def ids_of(value: pd.DataFrame | pd.Series, id: str | None, place: Place) -> list[str]:
    """Ids of the rows of a frame: the column or level of the index of this name, else the index.

    Raises:
        InputError: a name that there is not, an index of several levels, or an id that is none.
    """
    if id is not None and isinstance(value, pd.DataFrame):
        return keys_of(column_of(value, id, place.name), place)
    if id is not None and id in value.index.names:
        return keys_of(value.index.get_level_values(id), place)
    if value.index.nlevels > 1:
        remedy = spelled("name the one with the ids: id='NAME'", "name the one with the ids: --id NAME")
        raise InputError(f"{place.name}: the index has {value.index.nlevels} levels; {remedy}")
    return keys_of(value.index, place)


@dataclass(frozen=True)
class Matched:
    """Rows of a modality and the stays that they belong to.

    Args:
        stay: ``(rows,)`` position of each row's stay among the labels; -1: there is none.
        place: what an error calls a row.
        unmatched: number of ids without a label.
    """

    stay: np.ndarray
    place: Place
    unmatched: int


def drop_unmatched() -> str:
    """The argument or option that drops what has no counterpart."""
    return spelled("unmatched='drop'", "--drop-unmatched")


def match(keys: Sequence[str], roster: Roster, place: Place, drop: bool) -> Matched:
    """Finds the stays of rows by their ids.

    Raises:
        InputError: an id that no label has, unless such rows are dropped.
    """
    stay = np.array([roster.position.get(key, -1) for key in keys], dtype=np.int64)
    if (stay < 0).any() and not drop:
        row = int(np.flatnonzero(stay < 0)[0])
        count = len({key for key, at in zip(keys, stay, strict=True) if at < 0})
        more = "" if place.protected or count == 1 else f" ({count} ids have none)"
        where = "its id is not among the labels" if roster.given else "its id is not among the labels', which are the numbers of their rows"
        place.fault(f"{where}{more}", f"correct it, or have such rows dropped and counted: {drop_unmatched()}", row)
    return Matched(stay, place, len({key for key, at in zip(keys, stay, strict=True) if at < 0}))


def match_rows(n: int, roster: Roster, place: Place) -> Matched:
    """Rows without ids, which are in the order of the labels. Raises InputError if there are not as many."""
    if n != len(roster):
        named = spelled("id='COLUMN', or an index", "--id COLUMN")
        ids = f"give both ids ({named}), or as many rows in the same order"
        raise InputError(f"{place.name}: {n} rows for {len(roster)} labels, and no ids to match them by; {ids}")
    return Matched(np.arange(n), Place(place.name, place.protected, roster.keys if roster.given else None), 0)
