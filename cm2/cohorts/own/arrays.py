"""Arrays of one shape for a kind of one's own, stored as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cm2.cohorts.own.declared import Arrays
from cm2.cohorts.own.drafts import Draft, Reading
from cm2.cohorts.own.incoming import Place, Plain, is_missing
from cm2.cohorts.writing import PreparedModality
from cm2.errors import InputError
from cm2.kinds import KINDS
from cm2.kinds.contract import ArrayKind


class ArrayDraft(Draft):
    """Arrays of one shape by stay."""

    def __init__(self, place: Place, kind: str, data: np.ndarray, present: np.ndarray) -> None:
        super().__init__(place, present, {})
        self.kind, self.data = kind, data

    def prepared(self, rows: np.ndarray, training: np.ndarray) -> PreparedModality:
        """The arrays of these stays; what the kind does not store, the writer refuses."""
        return PreparedModality(self.kind, self.data[rows], self.present[rows])

    def applied(self, entry: Mapping[str, Any], found: Mapping[str, Any]) -> np.ndarray:
        """The arrays, of the shape of the cohort's."""
        if (shape := self.data.shape[1:]) != tuple(entry["shape"]):
            raise InputError(f"{self.place.name}: arrays of shape {shape}, those of the cohort have {tuple(entry['shape'])}; give the same")
        return self.data


def read_arrays(declared: Arrays, value: Plain, reading: Reading) -> ArrayDraft:
    """Reads arrays.

    Raises:
        InputError: a kind that is unknown or stores no arrays, rows that cannot be matched, or arrays of several shapes.
    """
    kind = KINDS.find(declared.kind, reading.name)
    if not issubclass(kind, ArrayKind):
        raise InputError(f"{reading.name}: a {declared.kind} is not stored as an array; write the cohort with data_prep.writer")
    items = [None if is_missing(item) else np.asarray(item) for item in reading.by_id(value)]
    place = Place(reading.name, reading.roster.protected, reading.roster.keys if reading.roster.given else None)
    first = next((item for item in items if item is not None), None)
    if first is None:
        raise InputError(f"{reading.name}: there is no array; leave the modality out")
    for stay, item in enumerate(items):
        if item is None:
            continue
        if item.dtype.kind not in "biuf":
            place.fault(f"expected an array of numbers, got one of {item.dtype}", "convert it", stay)
        if item.shape != first.shape:
            place.fault(f"the array has the shape {item.shape}, those before {first.shape}", "bring all to one shape", stay)
    present = np.array([item is not None and not _blank(item) for item in items])
    blank = np.zeros_like(first)
    data = np.stack([item if item is not None and there else blank for item, there in zip(items, present, strict=True)])
    return ArrayDraft(place, declared.kind, data, present)


def _blank(item: np.ndarray) -> bool:
    return item.dtype.kind == "f" and bool(np.isnan(item).all())
