"""Columns of one's own tables and series: numbers, truth values, categories and dates, told apart, checked, and made into features.

=========  ================================================  =====================================================================
a column   read from                                         features
=========  ================================================  =====================================================================
number     numbers, or texts that are all numbers            ``name``, standardised
flag       true and false                                    ``name``, 0 or 1
category   other texts, dtype ``category``                   ``name->level`` for each level, 0 or 1
date       dates, or texts like 2021-03-25                   ``name``, days since 1970-01-01 (UTC), standardised
=========  ================================================  =====================================================================

Where any value of a modality is missing, every column has another feature ``mask->name``: 1 where it was measured, 0 where its features
are filled in. A level that no training stay has is a feature all the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from cm2.cohorts.disclosure import SMALLEST, few
from cm2.cohorts.format import MEASURED
from cm2.cohorts.own.incoming import Place, is_missing, other_split
from cm2.config.schema import plain_name
from cm2.errors import InputError, spelled
from cm2.kinds.contract import MASK

LEVELS = 64
"""Most levels of a category that is not declared as one: beyond, a column is rather a text or an id."""
RARE = "(rare)"
LEVEL = "->"
"""Between a category's name and its level in the name of a feature."""
_CATEGORY = "write it to Parquet as a category"
EPOCH = pd.Timestamp("1970-01-01", tz="UTC")
_NUMBER_AND_UNIT = re.compile(r"\s*[-+]?\d+(?:[.,]\d+)?(?:\s+|(?=[%°]))([^\s\d][^\d]{0,15})\s*")
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")
_UNCLEAR_DATE = re.compile(r"\s*\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d{2})\b.*")


@dataclass(frozen=True)
class Column:
    """A column as numbers.

    Args:
        name: of the column.
        values: ``(rows,)`` float64, NaN where missing: of a category the number of the level, of a date days.
        how: ``number``, ``flag``, ``category`` or ``date``.
        unit: of a number.
        levels: of a category.
        declared: whether the levels were declared, by dtype ``category``.
    """

    name: str
    values: np.ndarray
    how: str
    unit: str = "1"
    levels: tuple[str, ...] = ()
    declared: bool = False

    @property
    def features(self) -> list[str]:
        """Names of the features, without the mask."""
        return [f"{self.name}{LEVEL}{level}" for level in self.levels] if self.how == "category" else [self.name]

    @property
    def standardised(self) -> bool:
        """Whether its feature is a number with a mean and a deviation."""
        return self.how in ("number", "date")

    def merged(self, stay: np.ndarray, fewest: int) -> tuple[Column, int]:
        """The column with levels of fewer stays than ``fewest`` as one level, and how many they were; ``stay`` ``(rows,)``."""
        if self.how != "category" or self.declared or fewest < 2:
            return self, 0
        known = ~np.isnan(self.values)
        pairs = np.unique(np.stack([stay[known], self.values[known].astype(np.int64)]), axis=1)
        few = [code for code in range(len(self.levels)) if (pairs[1] == code).sum() < fewest]
        if not few:
            return self, 0
        kept = [code for code in range(len(self.levels)) if code not in few]
        new = np.full(len(self.levels), len(kept), dtype=np.float64)
        new[kept] = np.arange(len(kept))
        values = self.values.copy()
        values[known] = new[values[known].astype(np.int64)]
        return replace(self, values=values, levels=(*(self.levels[code] for code in kept), RARE)), len(few)

    def described(self) -> dict[str, Any]:
        """Its entry in the manifest, from which `cm2.cohorts.to_frames` finds back."""
        return {"how": self.how, "unit": self.unit} | ({"levels": list(self.levels)} if self.how == "category" else {})


def read_columns(frame: pd.DataFrame, names: Sequence[str], place: Place, units: dict[str, str]) -> list[Column]:
    """The columns of a frame that are to be features.

    Raises:
        InputError: no column, a name that cannot be a feature's, a value that is no number among numbers, numbers with several units, a
            date that can be read in two ways, an infinite value, or a column of texts that is no category.
    """
    if not names:
        remedy = spelled("give columns=, or leave the modality out", "give a file with more of them, or leave it out")
        raise InputError(f"{place.name}: no column is left to be read; {remedy}")
    called = {name: str(name) for name in names}
    if strange := [unit for unit in units if unit not in called.values()]:
        raise InputError(f"{place.name}: units are given for {strange[0]!r}, which is not among its columns")
    found = []
    for name, text in called.items():
        if LEVEL in plain_name(text, place.name):
            raise InputError(f"{place.name}: the column {text!r} has {LEVEL!r} in its name, which means masks and levels; rename it")
        column = read_column(frame[name], text, place)
        found.append(replace(column, unit=units[text]) if text in units else column)
    return found


def read_column(values: pd.Series, name: str, place: Place) -> Column:
    """One column; see `read_columns`."""
    if types.is_bool_dtype(values.dtype):
        return Column(name, values.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan), "flag")
    if isinstance(values.dtype, pd.CategoricalDtype):
        return _declared(values, name, place)
    if types.is_datetime64_any_dtype(values.dtype):
        return Column(name, _days(values), "date", "d")
    if types.is_timedelta64_dtype(values.dtype):
        return Column(name, hours_of(values), "number", "h")
    if types.is_complex_dtype(values.dtype):
        raise InputError(f"{place.name}, column {name}: complex numbers; give real and imaginary parts as two columns")
    if types.is_numeric_dtype(values.dtype):
        return Column(name, _finite(values.to_numpy(dtype=np.float64, na_value=np.nan), name, place), "number")
    return _objects(values.reset_index(drop=True), name, place)


def _objects(values: pd.Series, name: str, place: Place) -> Column:
    """A column of texts or of objects of Python."""
    known = values[values.notna()]
    odd = [row for row, value in enumerate(values) if not is_missing(value) and not _is_read(value)]
    if odd:
        value = values.iloc[odd[0]]
        remedy = "give numbers, texts, dates or truth values, and lists as a modality of their own"
        place.fault(f"{{}} is a {type(value).__name__}", remedy, odd[0], name, value)
    if all(isinstance(value, bool | np.bool_) for value in known):
        return Column(name, values.astype("boolean").astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan), "flag")
    if any(map(_is_date, known)):
        return _dates(values, name, place)
    numbers = pd.to_numeric(values, errors="coerce")
    no_number = known.index[numbers[known.index].isna()]
    if not len(no_number):
        return Column(name, _finite(numbers.to_numpy(dtype=np.float64), name, place), "number")
    texts = known.astype(str)
    _refuse_units(texts, len(no_number) < len(known), name, place)
    if len(no_number) < len(known):
        row = int(no_number[0])
        remedy = spelled("correct it, or make the column a category: astype('category')", f"correct it, or {_CATEGORY}")
        place.fault("{} is no number, while other values are", remedy, row, name, known[row])
    return _of_texts(values, texts, name, place)


def _of_texts(values: pd.Series, texts: pd.Series, name: str, place: Place) -> Column:
    """A category, or dates."""
    if texts.map(lambda text: bool(_DECIMAL_COMMA.fullmatch(text))).all():
        remedy = spelled("read the file with decimal=','", "write the file with points")
        place.fault("{} has a decimal comma", remedy, int(texts.index[0]), name, texts.iloc[0])
    if texts.map(lambda text: bool(_UNCLEAR_DATE.fullmatch(text))).all():
        remedy = spelled("convert the column: pd.to_datetime(..., dayfirst=True or False)", "write dates like 2021-03-25")
        place.fault("{} is a date that can be read in two ways", remedy, int(texts.index[0]), name, texts.iloc[0])
    if texts.str.match(r"\d{4}-\d{2}").all():
        return _dates(values, name, place)
    levels = sorted(set(texts))
    if len(levels) > LEVELS:
        called, typed = "give it as Texts(...), drop it, or declare it with astype('category')", "give it as --text, drop it, or "
        remedy = spelled(called, typed + _CATEGORY)
        raise InputError(f"{place.name}, column {name}: {len(levels)} different texts, more than the {LEVELS} of a category; {remedy}")
    return _coded(values, texts, tuple(levels), name, place)


def _declared(values: pd.Series, name: str, place: Place) -> Column:
    texts = values.reset_index(drop=True).astype(object)
    known = texts[texts.notna()].astype(str)
    return replace(_coded(texts, known, tuple(map(str, values.cat.categories)), name, place), declared=True)


def _coded(values: pd.Series, texts: pd.Series, levels: tuple[str, ...], name: str, place: Place) -> Column:
    if len(set(levels)) < len(levels):
        raise InputError(f"{place.name}, column {name}: two categories have the same text; rename one")
    try:
        for level in levels:
            plain_name(level)
    except InputError:
        row = int(texts.index[(texts == level).to_numpy()][0]) if (texts == level).any() else None
        said = "{} cannot be the name of a category"
        place.fault(said, "rename it: without < ` { } $, and without = + - @ at the beginning", row, name, level)
    codes = pd.Series(np.nan, index=values.index)
    codes[texts.index] = texts.map({level: float(code) for code, level in enumerate(levels)}).astype(np.float64)
    return Column(name, codes.to_numpy(dtype=np.float64), "category", "1", levels)


def _refuse_units(texts: pd.Series, some_numbers: bool, name: str, place: Place) -> None:
    """Numbers that carry units, of which several, or some beside bare numbers, are mixed."""
    matches = {row: match[1].strip() for row, text in texts.items() if (match := _NUMBER_AND_UNIT.fullmatch(text))}
    bare = pd.to_numeric(texts, errors="coerce").notna().sum()
    if not matches or len(matches) + bare < len(texts):
        return
    row = next(iter(matches))
    units = sorted(set(matches.values()))
    mixed = some_numbers or len(units) > 1
    said = f"has a unit{'' if not mixed else ', other values have ' + ('none' if len(units) == 1 else 'another')}"
    what = "convert all to one unit and" if mixed else "remove it,"
    unit = spelled(f", and the unit by units={{{name!r}: ...}}", "")
    place.fault(f"{{}} {said}", f"{what} give numbers{unit}", int(str(row)), name, texts[row])


def _dates(values: pd.Series, name: str, place: Place) -> Column:
    dates = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601")
    wrong = values.notna() & dates.isna()
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        place.fault(
            "{} is no date, while other values are", "correct it, or write dates like 2021-03-25 13:05", row, name, values.iloc[row]
        )
    return Column(name, _days(dates), "date", "d")


def _days(dates: pd.Series) -> np.ndarray:
    """Days since 1970-01-01, of dates without a time zone as if they were UTC."""
    aware = dates.dt.tz_localize("UTC") if dates.dt.tz is None else dates.dt.tz_convert("UTC")
    return hours_of(aware - EPOCH) / 24


def hours_of(spans: pd.Series) -> np.ndarray:
    """Spans of time as hours, NaN where missing."""
    return spans.dt.total_seconds().to_numpy(dtype=np.float64, na_value=np.nan) / 3600


def _is_read(value: Any) -> bool:
    return isinstance(value, str | Number | bool | np.bool_) or _is_date(value)


def _is_date(value: Any) -> bool:
    return isinstance(value, pd.Timestamp | np.datetime64) or type(value).__module__ == "datetime"


def _finite(values: np.ndarray, name: str, place: Place) -> np.ndarray:
    if np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values))[0])
        place.fault("{} is not finite", "correct it, or leave it out as missing (NaN)", row, name, float(values[row]))
    return values


def statistics(columns: Sequence[Column], stay: np.ndarray, training: np.ndarray, standardise: bool, place: Place) -> dict[str, Any]:
    """Mean and standard deviation of numbers and dates over the measured rows of the training stays, the manifest's ``normalisation``.

    Args:
        columns: the columns of a modality.
        stay: ``(rows,)`` position of each row's stay.
        training: ``(rows,)`` bool.
        standardise: whether there are any.
        place: what an error calls the modality.

    Raises:
        InputError: a column without a value in the training stays; of protected data, with values of fewer than ten of them, as mean and
            deviation would tell of these.
    """
    for column in columns:
        seen = len(np.unique(stay[training & ~np.isnan(column.values)]))
        if not seen or (place.protected and standardise and column.standardised and few(seen)):
            count = f"fewer than {SMALLEST} training stays have" if seen else "no training stay has"
            remedy = f"leave it out{spelled(' (columns=...)', '', '')}, or give {other_split()} in which more training stays have it"
            raise InputError(f"{place.name}, column {column.name}: {count} a value; {remedy}")
    chosen = [column for column in columns if column.standardised] if standardise else []
    if not chosen:
        return {}
    mean = [float(np.nanmean(column.values[training])) for column in chosen]
    spread = [float(np.nanstd(column.values[training])) for column in chosen]
    # a column that is constant but for the rounding of its mean does not vary
    std = [s if s > 1e-12 * max(1.0, abs(m)) else 1.0 for m, s in zip(mean, spread, strict=True)]
    names = [column.name for column in chosen]
    return {"split": "train", "of": MEASURED, "features": names, "mean": mean, "std": std}


def scaled(column: Column, values: np.ndarray, found: Mapping[str, Any]) -> np.ndarray:
    """Values of a column with the mean subtracted and divided by the deviation, where `statistics` has them."""
    if column.name not in found.get("features", ()):
        return values
    at = found["features"].index(column.name)
    return (values - found["mean"][at]) / found["std"][at]


def encoded(column: Column, values: np.ndarray) -> np.ndarray:
    """``(...)`` values, or level numbers, to features ``(..., features)``; zeros where missing."""
    if column.how != "category":
        return np.nan_to_num(values, nan=0.0)[..., None]
    return (values[..., None] == np.arange(len(column.levels))).astype(np.float64)


def unit_of(column: Column, found: Mapping[str, Any]) -> str:
    """The unit of a feature as it is stored."""
    return f"standard deviations of {column.unit}" if column.name in found.get("features", ()) else column.unit


def names_of(columns: Sequence[Column], found: Mapping[str, Any], masks: bool) -> tuple[list[str], list[str]]:
    """Names and units of all features: those of the columns, then the masks."""
    features = [feature for column in columns for feature in column.features]
    units = [unit_of(column, found) for column in columns for _ in column.features]
    if masks:
        features += [f"{MASK}{column.name}" for column in columns]
        units += ["1"] * len(columns)
    return features, units
