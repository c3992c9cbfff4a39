"""Further rows laid out like a cohort of one's own: with the columns, categories, means and deviations of its training stays."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cm2.cohorts.cohort import Cohort
from cm2.cohorts.own.build import draft_of
from cm2.cohorts.own.columns import RARE, Column
from cm2.cohorts.own.declared import Arrays, Declared, Images, Table, Texts, TimeSeries
from cm2.cohorts.own.drafts import Draft
from cm2.cohorts.own.ids import Roster, keys_of
from cm2.cohorts.own.incoming import Place, column_of, frame_of, is_missing, plain
from cm2.cohorts.own.series import TIME
from cm2.config.names import did_you_mean
from cm2.errors import InputError
from cm2.kinds.contract import MASK

_DECLARED: Mapping[str, type[Declared]] = {"vector": Table, "series": TimeSeries, "image": Images, "text": Texts}
_UNKNOWN = "(unknown)"


@dataclass(frozen=True)
class Layout:
    """How a cohort that `cm2.cohorts.from_frames` wrote lays out its data: all that further rows need to become inputs of its models.

    It holds no stay: names, categories, shapes, means and deviations, as they stand in the manifest.

    Args:
        entries: of the modalities in the manifest, by name.
        normalisation: of the modalities there.
        protected: whether neither ids nor values of the rows may be shown.
    """

    entries: Mapping[str, Mapping[str, Any]]
    normalisation: Mapping[str, Mapping[str, Any]]
    protected: bool = True

    @classmethod
    def of(cls, cohort: Cohort) -> Layout:
        """Of the modalities of a cohort.

        Raises:
            InputError: a cohort of another origin.
        """
        entries = {modality.name: cohort.manifest["modalities"][modality.name] for modality in cohort.modalities}
        if any(entry["kind"] in ("vector", "series") and "variables" not in entry for entry in entries.values()):
            raise InputError(f"{cohort.path}: its manifest does not say how columns become features; write it again with from_frames")
        return cls(entries, cohort.manifest.get("normalisation", {}), cohort.credentialed)

    def values(self, modalities: Mapping[str, Any], ids: Sequence[Any] | None = None, id: str | None = None) -> dict[str, Any]:
        """What `cm2.methods.saved.Inputs.batch` takes, with ``standardise=False``, of rows in their own units.

        Columns are found by name; others are ignored. A category that the cohort does not have counts as ``(rare)`` where its column has
        that level, and else as none of the levels. Where no training stay lacked a value, a gap is filled with the training mean. Either
        is a warning. Of a series with more steps than the cohort's longest the last steps count, on a grid the first ones.

        Args:
            modalities: by name, the same as `cm2.cohorts.from_frames` reads, declared as they were there. A modality that is left out is
                missing in all rows.
            ids: of the rows; None: they are in the same order in all modalities.
            id: name of the column with the ids.

        Returns:
            By modality an array ``(n, ...)`` float32, of NaN in rows that lack it, or n texts, None where there is none.

        Raises:
            InputError: an unknown modality, a column that is missing, one whose values are of another type than the cohort's, values that
                cannot be read, or a row without any modality.
        """
        if unknown := sorted(map(str, modalities.keys() - self.entries.keys())):
            raise InputError(
                f"unknown modality {unknown[0]!r}; the cohort has {', '.join(self.entries)}{did_you_mean(unknown[0], self.entries)}"
            )
        declared = {name: self._declared(name, value) for name, value in modalities.items()}
        place = Place("rows", self.protected)
        keys = keys_of(ids, place) if ids is not None else [str(row) for row in range(_rows(declared))]
        roster = Roster(keys, ids is not None, self.protected, indexed=False)
        drafts = {name: self._draft(name, value, roster, id) for name, value in declared.items()}
        some = np.any([draft.present for draft in drafts.values() if draft is not None] or [np.zeros(len(roster), dtype=bool)], axis=0)
        if not some.all():
            row = int(np.flatnonzero(~some)[0])
            lacking = f"none of {', '.join(self.entries)} was measured"
            Place("rows", self.protected, keys if ids is not None else None).fault(lacking, "leave such rows out", row)
        return {name: self._applied(name, draft) for name, draft in drafts.items() if draft is not None}

    def _declared(self, name: str, value: Any) -> Declared:
        """Read as what the cohort's modality is, with columns in the coding of the cohort."""
        entry = self.entries[name]
        made = _DECLARED.get(entry["kind"], Arrays)
        own = {"kind": entry["kind"]} if made is Arrays else {}
        declared = value if isinstance(value, Declared) else made(value, **own)
        if not isinstance(declared, made):
            raise InputError(f"{name}: the cohort's is a {entry['kind']}; declare it as before")
        if isinstance(declared, Images):
            return replace(declared, colour=len(entry["shape"]) == 3)
        if isinstance(declared, Table | TimeSeries):
            declared = replace(declared, columns=[column for column in entry["variables"] if column != TIME or isinstance(declared, Table)])
        if isinstance(declared, TimeSeries):
            declared = replace(declared, steps=entry["shape"][0])
        return declared

    def _draft(self, name: str, declared: Declared, roster: Roster, id: str | None) -> Draft | None:
        """None if no row has the modality."""
        if isinstance(declared.data, str | Path):
            return draft_of(name, declared, roster, id, drop=False)
        value = plain(declared.data, name)
        if isinstance(declared, Table):
            value = frame_of(value, declared.columns, name)
        if isinstance(value, pd.DataFrame) and isinstance(declared, Table | TimeSeries):
            declared = replace(declared, data=self._coded(name, value))
        elif not isinstance(value, pd.DataFrame) and _all_missing(value):
            return None
        draft = draft_of(name, declared, roster, id, drop=False)
        for column in draft.columns:
            self._check(name, column)
        return draft

    def _coded(self, name: str, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with the categories of the cohort. Raises InputError for columns that are missing."""
        variables = {column: about for column, about in self.entries[name]["variables"].items() if column != TIME or column in frame}
        frame = frame.rename(columns=str)
        if missing := [column for column in variables if column not in frame.columns and column not in frame.index.names]:
            known = ", ".join(map(str, frame.columns))
            raise InputError(f"{name}: no column {', '.join(missing)}; it has {known:.200}; give all, NaN where nothing was measured")
        codes = {
            column: _categories(column_of(frame, column, name), about["levels"], f"{name}, column {column}")
            for column, about in variables.items()
            if about["how"] == "category"
        }
        return frame.assign(**codes)

    def _check(self, name: str, column: Column) -> None:
        """Raises InputError for values of another type than the cohort's."""
        how, known = self.entries[name]["variables"][column.name]["how"], column.values[~np.isnan(column.values)]
        truth = how == "flag" and column.how == "number" and bool(np.isin(known, (0, 1)).all())
        if len(known) and column.how != how and not truth and (how, column.how) != ("number", "flag"):
            raise InputError(f"{name}, column {column.name}: values are of the type {column.how}, the cohort's are of the type {how}")

    def _applied(self, name: str, draft: Draft) -> np.ndarray | list[str | None]:
        entry = self.entries[name]
        made = draft.applied(entry, self.normalisation.get(name, {}))
        if not isinstance(made, np.ndarray):
            return made
        masked = any(feature.startswith(MASK) for feature in entry["features"])
        if gaps := [] if masked else [column.name for column in draft.columns if np.isnan(column.values[draft.present[draft.stay]]).any()]:
            said = "a value is missing, which no training stay lacked; the mean of these, or the last value before, stands in"
            warnings.warn(f"{name}, column {gaps[0]}: {said}", stacklevel=4)
        made = made.astype(np.float32)
        made[~draft.present] = np.nan
        return made


def _rows(modalities: Mapping[str, Declared]) -> int:
    """Number of rows of modalities without ids."""
    sizes = {name: len(plain(declared.data, name)) for name, declared in modalities.items() if not isinstance(declared.data, str | Path)}
    if not sizes or len(set(sizes.values())) > 1:
        raise InputError(f"expected the same number of rows of every modality, got {sizes or 'none'}; give as many, or ids=")
    return next(iter(sizes.values()))


def _all_missing(value: Any) -> bool:
    """Whether no item of an array, series or list is there."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype.kind == "f" and bool(np.isnan(value).all())
    return all(is_missing(item) for item in (value.values() if isinstance(value, Mapping) else value))


def _categories(values: pd.Series, levels: Sequence[str], called: str) -> pd.Categorical:
    """Values as levels of the cohort, and one further level for those that it does not have and does not merge as rare."""
    texts = [None if is_missing(value) else _text(value, levels) for value in values]
    other = RARE if RARE in levels else _UNKNOWN
    while other != RARE and other in levels:
        other = f"{other}?"
    if any(text is not None and text not in levels for text in texts):
        meant = f"they count as {RARE}" if other == RARE else "they count as none"
        warnings.warn(f"{called}: rows have categories that no row of the cohort has; {meant}", stacklevel=6)
    coded = [text if text is None or text in levels else other for text in texts]
    return pd.Categorical(coded, categories=[*levels, *([] if other in levels else [other])])


def _text(value: Any, levels: Sequence[str]) -> str:
    """As in the cohort; a whole number in a column that has gaps is a float here, and may not have been there."""
    text = str(value)
    return str(int(value)) if text not in levels and isinstance(value, float) and value.is_integer() else text
