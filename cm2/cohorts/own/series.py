"""Series of one's own: regular, ragged or irregular, with gaps, brought into one array of steps.

What is stored of n stays is ``(n, T, C)``, T the largest number of steps. A stay's steps come first, in the order of time. The channels:

* a feature for each column, or several for a category (see `cm2.cohorts.own.columns`). Where a value is missing the last one before is
  carried forward; before the first one it is 0, which is the training mean. After a stay's last step its last values stand on to the end;
* ``time``, unless all stays have the same steps: hours since the start, or the times that were given, or the number of the step; after the
  last step it stands still;
* ``mask->name`` for each column and ``mask->time``, unless nothing is missing: 1 where the value was measured, 0 where it is filled in.
  ``mask->time`` is 1 in a stay's steps and 0 after them, so its sum is their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from cm2.cohorts.own.columns import Column, encoded, hours_of, names_of, read_columns, scaled, statistics
from cm2.cohorts.own.declared import TimeSeries
from cm2.cohorts.own.drafts import Draft, Reading, chosen_columns, fewest, selected
from cm2.cohorts.own.incoming import Place, Plain, column_of, is_missing, plain
from cm2.cohorts.writing import PreparedModality
from cm2.environment.machine import memory
from cm2.errors import InputError, spelled
from cm2.kinds.contract import MASK

TIME = "time"


@dataclass(frozen=True)
class Steps:
    """All steps of all stays, one after another.

    Args:
        stay: ``(rows,)`` position of the stay.
        time: ``(rows,)`` float64; None: steps are only counted.
        columns: the values.
        unit: of the time.
        place: what an error calls the rows.
        unmatched: number of ids without a label.
    """

    stay: np.ndarray
    time: np.ndarray | None
    columns: list[Column]
    unit: str
    place: Place
    unmatched: int = 0

    def take(self, rows: np.ndarray) -> Steps:
        """Some of the rows, in this order."""
        columns = [replace(column, values=column.values[rows]) for column in self.columns]
        return replace(self, stay=self.stay[rows], time=None if self.time is None else self.time[rows], columns=columns)


def read_series(declared: TimeSeries, value: Plain, reading: Reading) -> SeriesDraft:
    """Reads a series.

    Raises:
        InputError: rows that cannot be matched, a time that is missing, or a value that cannot be read.
    """
    if isinstance(value, pd.DataFrame):
        steps = _from_frame(declared, value, reading)
    elif isinstance(value, np.ndarray) and value.dtype != object:
        steps = _from_array(declared, value, reading)
    else:
        steps = _from_items(declared, reading.by_id(value), reading)
    return _laid_out(steps, declared, len(reading.roster))


def _from_frame(declared: TimeSeries, frame: pd.DataFrame, reading: Reading) -> Steps:
    if reading.id is None and isinstance(frame.index, pd.RangeIndex):
        raise InputError(f"{reading.name}: a long table needs a column of ids; name it with {spelled('id=', '--id')}")
    matched = reading.matched(frame, once=False)
    names = chosen_columns(frame, declared.columns, {reading.id, declared.time}, reading.name)
    time, unit = _times(column_of(frame, declared.time, reading.name), matched.stay, declared, reading, matched.place)
    columns = read_columns(frame[names], names, matched.place, dict(declared.units))
    steps = Steps(matched.stay, time, columns, unit, matched.place, matched.unmatched)
    return steps.take(np.flatnonzero(matched.stay >= 0))


def _times(times: pd.Series, stay: np.ndarray, declared: TimeSeries, reading: Reading, place: Place) -> tuple[np.ndarray, str]:
    """Times as numbers: of dates, the hours since the start of each stay."""
    if types.is_object_dtype(times.dtype) or types.is_string_dtype(times.dtype):
        parsed = pd.to_datetime(times, errors="coerce", format="ISO8601", utc=True)
        if (wrong := times.notna() & parsed.isna()).any():
            number = pd.to_numeric(times, errors="coerce").notna()
            odd = wrong & ~number if (wrong & ~number).any() else number  # a number among dates, or what is neither
            row = int(np.flatnonzero(odd)[0])
            place.fault("{} is no time", "give numbers, or dates like 2021-03-25 13:05", row, declared.time, times.iloc[row])
        times = parsed
    dates = types.is_datetime64_any_dtype(times.dtype)
    times = times.reset_index(drop=True)
    if dates:
        times = times.dt.tz_localize("UTC") if times.dt.tz is None else times.dt.tz_convert("UTC")
        start = _starts(times, stay, declared, reading)
        numbers = hours_of(times - start)
    elif types.is_timedelta64_dtype(times.dtype):
        numbers = hours_of(times)
    else:
        numbers = times.to_numpy(dtype=np.float64, na_value=np.nan)
    if (bad := ~np.isfinite(numbers) & (stay >= 0)).any():
        row = int(np.flatnonzero(bad)[0])
        place.fault("the time is missing or not finite", "correct it, or drop the row", row, declared.time, times.iloc[row])
    return numbers, "h" if dates or types.is_timedelta64_dtype(times.dtype) else declared.units.get(declared.time, "1")


def _starts(times: pd.Series, stay: np.ndarray, declared: TimeSeries, reading: Reading) -> pd.Series:
    """The date from which the hours of each row count."""
    if declared.start is None:
        return times.groupby(stay).transform("min")
    given = plain(declared.start, f"{reading.name}: start")
    items = reading.by_id(given if isinstance(given, pd.Series | dict) else list(given))
    starts = pd.Series(pd.to_datetime(pd.Series([*items, None]), utc=True))
    return starts.iloc[np.where(stay >= 0, stay, len(items))].reset_index(drop=True)


def _from_array(declared: TimeSeries, array: np.ndarray, reading: Reading) -> Steps:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or 0 in array.shape[1:] or array.dtype.kind not in "biuf":
        what = f"an array of {array.dtype} and shape {array.shape}"
        raise InputError(f"{reading.name}: a series has the shape (n, T, F) and numbers, got {what}; convert it")
    matched = reading.matched(array, once=True)
    n, steps, width = array.shape
    stay = np.repeat(matched.stay, steps)
    values = array.reshape(n * steps, width).astype(np.float64)
    time = None
    if declared.times is not None:
        given = np.asarray(plain(declared.times, f"{reading.name}: times"), dtype=np.float64)
        if given.shape not in ((steps,), (n, steps)):
            raise InputError(
                f"{reading.name}: times of shape {given.shape} for series of {n} x {steps} steps; give ({steps},) or ({n}, {steps})"
            )
        time = np.broadcast_to(given, (n, steps)).reshape(-1)
    columns = _number_columns(values, stay, declared, matched.place)
    made = Steps(stay, time, columns, declared.units.get(declared.time, "1"), matched.place)
    empty = np.isnan(array).reshape(n, -1).all(axis=1) if array.dtype.kind == "f" else np.zeros(n, dtype=bool)
    return made.take(np.flatnonzero(~np.repeat(empty, steps)))


def _number_columns(values: np.ndarray, stay: np.ndarray, declared: TimeSeries, place: Place) -> list[Column]:
    """Columns of numbers; an error names the stay and the feature."""
    names = list(declared.columns) if declared.columns is not None else [f"f{i + 1}" for i in range(values.shape[1])]
    if len(names) != values.shape[1]:
        raise InputError(f"{place.name}: {len(names)} columns are named for {values.shape[1]} features; name each")
    if (bad := np.isinf(values)).any():
        row, column = (int(at[0]) for at in np.nonzero(bad))
        place.fault("{} is not finite", "correct it, or leave it out as missing (NaN)", int(stay[row]), names[column], values[row, column])
    return read_columns(pd.DataFrame(values, columns=names), names, place, {k: v for k, v in declared.units.items() if k != declared.time})


def _from_items(declared: TimeSeries, items: Sequence[Any], reading: Reading) -> Steps:
    """Arrays ``(T_i, F)`` or pairs of times and values."""
    place = Place(reading.name, reading.roster.protected, reading.roster.keys if reading.roster.given else None)
    stays: list[np.ndarray] = []
    times: list[np.ndarray | None] = []
    values: list[np.ndarray] = []
    for at, item in enumerate(items):
        if not isinstance(item, tuple) and is_missing(item):
            continue
        time, value = _pair(item, at, place)
        if values and value.shape[1] != values[0].shape[1]:
            said = f"{value.shape[1]} features, while those before have {values[0].shape[1]}"
            place.fault(said, "give every stay the same features, NaN where they are missing", at)
        if len(value) and not np.isnan(value).all():
            stays.append(np.full(len(value), at))
            times.append(time)
            values.append(value)
    if not values:
        raise InputError(f"{reading.name}: no stay has a value; leave the modality out")
    if any(time is None for time in times) and any(time is not None for time in times):
        raise InputError(f"{reading.name}: some stays have times and others have none; give pairs (times, values) for all, or for none")
    if declared.times is not None:
        raise InputError(f"{reading.name}: times= is for arrays (n, T, F); of series of any lengths give pairs (times, values)")
    stay = np.concatenate(stays)
    columns = _number_columns(np.concatenate(values), stay, declared, place)
    time = None if times[0] is None else np.concatenate([time for time in times if time is not None])
    return Steps(stay, time, columns, declared.units.get(declared.time, "1"), place)


def _pair(item: Any, stay: int, place: Place) -> tuple[np.ndarray | None, np.ndarray]:
    """Times, or None, and values ``(T, F)`` of one stay."""
    paired = isinstance(item, tuple) and len(item) == 2
    try:
        value = np.asarray(plain(item[1] if paired else item, place.name), dtype=np.float64)
        time = np.asarray(plain(item[0], place.name), dtype=np.float64) if paired else None
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        place.fault("cannot be read as numbers", "give an array (T, F), or a pair of times and values in numbers", stay)
    value = value[:, None] if value.ndim == 1 else value
    if value.ndim != 2:
        place.fault(f"a series of one stay has the shape (T, F), got {value.shape}", "give it that shape", stay)
    if time is not None and (time.shape != (len(value),) or not np.isfinite(time).all()):
        said = f"times of shape {time.shape} for {len(value)} steps" if time.shape != (len(value),) else "a time is not finite"
        place.fault(said, "give one number for each step", stay)
    return time, value


def _laid_out(steps: Steps, declared: TimeSeries, n: int) -> SeriesDraft:
    """The steps in a grid of stays and steps, in the order of time."""
    measured = ~np.all([np.isnan(column.values) for column in steps.columns], axis=0)
    time = np.zeros(len(steps.stay)) if steps.time is None else steps.time
    order = np.lexsort((np.arange(len(time)), time, steps.stay))
    counts = {"ids without a label": steps.unmatched}
    if declared.every is not None:
        if steps.time is None or not declared.every > 0:
            given = f"{spelled('every =', '--every')} {declared.every}"
            raise InputError(f"{steps.place.name}: {given} needs times, and a width above 0; give both")
        number = np.floor(steps.time / declared.every).astype(np.int64)
        outside = (number < 0) | (number >= (declared.steps or number.max() + 1))
        counts["values outside the steps"] = int(sum((~np.isnan(column.values) & outside).sum() for column in steps.columns))
        order = order[~outside[order]]
        steps, number = steps.take(order), number[order]
        length = np.full(n, declared.steps or int(number.max(initial=0)) + 1)
        return _merged(SeriesGrid(replace(steps, time=None), number, length, measured[order]), declared, counts, n)
    steps, measured = steps.take(order), measured[order]
    length = np.bincount(steps.stay, minlength=n)
    number = np.arange(len(steps.stay)) - np.repeat(np.cumsum(length) - length, length)
    if declared.steps is not None and (length > declared.steps).any():
        number = number - np.maximum(length - declared.steps, 0)[steps.stay]
        counts["steps cut"] = int((number < 0).sum())
        steps, measured, number = steps.take(np.flatnonzero(number >= 0)), measured[number >= 0], number[number >= 0]
        length = np.minimum(length, declared.steps)
    return _merged(SeriesGrid(steps, number, length, measured), declared, counts, n)


@dataclass(frozen=True)
class SeriesGrid:
    """Steps and their places: ``number`` ``(rows,)`` of the step, ``length`` ``(n,)`` steps of each stay, ``measured`` ``(rows,)``."""

    steps: Steps
    number: np.ndarray
    length: np.ndarray
    measured: np.ndarray


def _merged(grid: SeriesGrid, declared: TimeSeries, counts: dict[str, int], n: int) -> SeriesDraft:
    merged = [column.merged(grid.steps.stay, fewest(declared.rare, grid.steps.place)) for column in grid.steps.columns]
    counts["rare categories"] = sum(count for _, count in merged)
    present = np.zeros(n, dtype=bool)
    present[grid.steps.stay[grid.measured]] = True
    return SeriesDraft(replace(grid, steps=replace(grid.steps, columns=[column for column, _ in merged])), present, declared, counts)


class SeriesDraft(Draft):
    """Steps laid out by stay: a series."""

    def __init__(self, grid: SeriesGrid, present: np.ndarray, declared: TimeSeries, counts: dict[str, int]) -> None:
        super().__init__(grid.steps.place, present, counts, grid.steps.columns)
        self.grid, self.standardise = grid, declared.standardise

    @property
    def stay(self) -> np.ndarray:
        """``(rows,)`` position of the stay of each step."""
        return self.grid.steps.stay

    @property
    def timed(self) -> bool:
        """Whether the steps of the stays differ, in number or time, so that the time is a channel."""
        length = self.grid.length[self.present]
        return self.grid.steps.time is not None or len(np.unique(length)) > 1

    def prepared(self, rows: np.ndarray, training: np.ndarray) -> PreparedModality:
        """The channels that the module describes."""
        columns = self._channels(self.timed)
        found = statistics(columns, self.stay, training[self.stay], self.standardise, self.place)
        here = self.present[rows]
        length = max(int(self.grid.length[rows[here]].max(initial=0)), 1)
        self._refuse_too_large(len(rows), length, columns)
        values = self._values(columns, rows, length)
        masks = any(np.isnan(value[here]).any() for value in values)
        names, units = names_of(columns, found, masks)
        data = _features(columns, values, found, masks)
        data[~here] = 0
        variables = {column.name: column.described() for column in columns}
        return PreparedModality("series", data, here, names, units, found, {"variables": variables})

    def applied(self, entry: Mapping[str, Any], found: Mapping[str, Any]) -> np.ndarray:
        """Features ``(n, T, C)``. Where the cohort's stays all have the same steps, so do these."""
        length, timed = entry["shape"][0], TIME in entry["variables"]
        if self.grid.steps.time is not None and not timed:
            raise InputError(f"{self.place.name}: times are given, the series of the cohort have none; give the values alone")
        if f"{MASK}{TIME}" not in entry["features"] and (short := self.present & (self.grid.length < length)).any():
            row, said = int(np.flatnonzero(short)[0]), f"the series has {{}} steps, all of the cohort have {length}"
            fill = "give as many, NaN where nothing was measured"
            Place(self.place.name, self.place.protected).fault(said.format(int(self.grid.length[row])), fill, row)
        columns, every = self._channels(timed), np.arange(len(self.present))
        self._refuse_too_large(len(every), length, columns)
        data = _features(columns, self._values(columns, every, length), found, masks=True)
        return selected(data, names_of(columns, found, masks=True)[0], entry["features"])

    def _channels(self, timed: bool) -> list[Column]:
        """The columns, and the time if it is a channel."""
        steps = self.grid.steps
        if not timed:
            return steps.columns
        if any(column.name == TIME for column in steps.columns):
            raise InputError(f"{self.place.name}: a column is called {TIME!r}, as the channel of the times is; rename it")
        clock = self.grid.number.astype(np.float64) if steps.time is None else steps.time
        return [*steps.columns, Column(TIME, clock, "number", steps.unit)]

    def _values(self, columns: Sequence[Column], rows: np.ndarray, length: int) -> list[np.ndarray]:
        """Each column in a grid ``(len(rows), length)``, NaN where nothing was measured."""
        here, steps = self.present[rows], self.grid.steps
        at = np.full(len(self.present), -1)
        at[rows[here]] = np.flatnonzero(here)
        kept = at[steps.stay] >= 0
        place, number = at[steps.stay[kept]], self.grid.number[kept]
        blank = np.full((len(rows), length), np.nan)
        return [_placed(blank, place, number, column.values[kept]) for column in columns]

    def _refuse_too_large(self, stays: int, length: int, columns: Sequence[Column]) -> None:
        """All stays are as long as the longest: one with very many steps would fill the memory."""
        needed = 12 * stays * length * (sum(len(column.features) for column in columns) + len(columns))
        if (room := memory()) and needed > room:
            longest = int(self.grid.length.argmax())
            said = (
                f"with {length:,} steps the longest series would make all need {needed / 1e9:,.0f} GB, this machine has {room / 1e9:,.0f}"
            )
            remedy = spelled("give TimeSeries(..., every=...) or steps=...", "give --every or --steps")
            Place(self.place.name, self.place.protected).fault(said, remedy, longest)


def _features(columns: Sequence[Column], values: Sequence[np.ndarray], found: Mapping[str, Any], masks: bool) -> np.ndarray:
    """Features ``(n, T, C)`` float32 of columns in grids ``(n, T)``."""
    parts = [encoded(column, scaled(column, _forward(value), found)) for column, value in zip(columns, values, strict=True)]
    parts += [~np.isnan(value)[:, :, None] for value in values] if masks else []
    return np.concatenate([part.astype(np.float32) for part in parts], axis=2)


def _placed(blank: np.ndarray, stay: np.ndarray, number: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values in a grid ``(n, T)``, NaN where there is none; of several in one step the last."""
    grid, known = blank.copy(), ~np.isnan(values)
    grid[stay[known], number[known]] = values[known]
    return grid


def _forward(values: np.ndarray) -> np.ndarray:
    """The last value up to each step along axis 1 of ``(n, T)``; NaN before the first."""
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(values.shape[1])), axis=1)
    return np.take_along_axis(values, last, axis=1)
