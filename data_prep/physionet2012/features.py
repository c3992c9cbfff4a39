"""Rows to arrays: 24 two-hour bins of every variable, with masks, and the admission text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cm2.errors import InputError
from data_prep.filling import forward_fill
from data_prep.physionet2012.raw import HOURS, RawSet
from data_prep.physionet2012.variables import DESCRIPTORS, PLAUSIBLE_DESCRIPTORS, UNITS, VARIABLES, Variable

STEP_MINUTES = 120
STEPS = HOURS * 60 // STEP_MINUTES


@dataclass(frozen=True)
class Charted:
    """One set with its rows classified.

    Args:
        values: ``(n, 24, 37)`` float32, NaN where nothing plausible was charted in the bin; log-transformed where the variable asks for it.
        charted: ``(n,)`` bool, whether the record has any row apart from descriptors at 00:00.
        descriptors: ``(n, 6)``, NaN where unknown.
        counts: number of rows of every kind, used or excluded.
    """

    values: np.ndarray
    charted: np.ndarray
    descriptors: pd.DataFrame
    counts: dict[str, Any]


def chart(raw: RawSet) -> Charted:
    """Classifies the rows of a set (unnamed, unknown, implausible, after 48 h, descriptors, values) and counts each kind.

    Raises:
        ValueError: a parameter that the challenge does not have, or a record whose RecordID row disagrees with its file.
    """
    rows, n = raw.rows, len(raw.record_id)
    names, code = _codes(raw)
    record, minute, value = (rows[column].to_numpy() for column in ("record", "minute", "value"))
    counts: dict[str, Any] = {"records": n, "rows": len(rows)}
    unnamed = code < 0
    empty, unknown = np.isnan(value) & ~unnamed, (value == -1) & ~unnamed
    late = (minute > HOURS * 60) & ~unnamed
    first = _descriptor_rows(names, code, record, minute)
    counts |= {
        "parameters": len(set(code[~unnamed].tolist())),
        "rows_with_empty_parameter_name": int(unnamed.sum()),
        "rows_with_empty_value": int(empty.sum()),
        "rows_after_48_hours": int(late.sum()),
        "descriptor_rows": int(first.sum()),
        "unknown_by_parameter": _by_name(names, code[unknown]),
        "negative_by_parameter": _by_name(names, code[(value < 0) & ~unnamed]),
    }
    charted = np.bincount(record[~unnamed & ~first], minlength=n) > 0
    usable = ~unnamed & ~empty & ~unknown & ~late
    descriptors = _descriptors(raw, pd.DataFrame({"record": record, "name": code, "value": value})[first & usable], names, counts)
    values = _bins(names, code[usable], record[usable], minute[usable], value[usable], n, counts)
    values[~charted] = np.nan
    counts |= {"records_without_series": int((~charted).sum()), "records_without_series_ids": raw.record_id[~charted].tolist()}
    return Charted(values, charted, descriptors, counts)


def standardise(values: np.ndarray, train: np.ndarray, variables: list[Variable]) -> tuple[np.ndarray, dict[str, Any]]:
    """Forward fill, standardise, append masks.

    Mean and standard deviation are over the charted bins of the training split. A bin before the first charting is 0, the
    training mean, unless the variable has a ``fill``.

    Args:
        values: ``(n, T, F)``, NaN where not charted.
        train: ``(n,)`` bool.
        variables: the F variables.

    Returns:
        ``(n, T, 2F)`` float32, values then masks, and the statistics for the manifest.

    Raises:
        ValueError: a variable that is never charted in the training split.
    """
    mask = ~np.isnan(values)
    seen = mask[train].sum(axis=(0, 1))
    if not seen.all():
        raise InputError(f"{variables[int(seen.argmin())].name}: never charted in the training split; train on more records")
    mean = np.asarray(np.nanmean(values[train], axis=(0, 1), dtype=np.float64))
    std = np.asarray(np.nanstd(values[train], axis=(0, 1), dtype=np.float64))
    std[std == 0] = 1.0
    for i, variable in enumerate(variables):
        if variable.fill is not None:
            mean[i], std[i] = 0.0, 1.0
    filled = (forward_fill(values) - mean) / std
    start = np.array([0.0 if variable.fill is None else variable.fill for variable in variables])
    filled = np.where(np.isnan(filled), start, filled)
    statistics = {"split": "train", "features": [v.name for v in variables], "mean": mean.tolist(), "std": std.tolist()}
    return np.concatenate([filled, mask], axis=2).astype(np.float32), statistics


def descriptor_vector(descriptors: pd.DataFrame, train: np.ndarray) -> tuple[np.ndarray, list[str], list[str], dict[str, Any]]:
    """The descriptors as numbers: age, height, weight, sex (1 male) and one number for each unit, then a mask for each descriptor.

    Args:
        descriptors: ``(n, 6)``, NaN where unknown, which becomes the training stays' mean and a mask of 0.
        train: ``(n,)`` bool.

    Returns:
        ``(n, 13)`` float32, standardised with the training stays but for the masks; names and units of the columns; the statistics.

    Raises:
        ValueError: a descriptor that no training stay has, or a unit that none was admitted to.
    """
    names = ("Age", "Height", "Weight", "Gender")
    unit = descriptors["ICUType"].to_numpy(dtype=np.float64)
    columns = [*(descriptors[name] for name in names), *(np.where(np.isnan(unit), np.nan, unit == k) for k in UNITS)]
    values = np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])
    seen = np.isfinite(values[train]).any(axis=0) & np.append(np.ones(len(names), bool), [(unit[train] == k).any() for k in UNITS])
    features = [*names, *(f"ICUType={k}" for k in UNITS)]
    if not seen.all():
        raise InputError(f"descriptors: no training stay has {features[int(seen.argmin())]}; train on more records, or leave them out")
    mean, std = np.nanmean(values[train], axis=0), np.nanstd(values[train], axis=0)
    std[std == 0] = 1.0
    known = ~np.isnan(values[:, : len(names) + 1])  # one mask for all units
    data = np.concatenate([np.nan_to_num((values - mean) / std), known], axis=1).astype(np.float32)
    units = [f"standard deviations of {unit}" for unit in ("years", "cm", "kg")] + ["standard deviations"] * (1 + len(UNITS))
    statistics = {"split": "train", "features": features, "mean": mean.tolist(), "std": std.tolist()}
    return data, [*features, *(f"mask->{name}" for name in (*names, "ICUType"))], [*units, *["1"] * (len(names) + 1)], statistics


def admission_text(stay: dict[str, float]) -> str:
    """One paragraph from the descriptors; unknown ones are stated as unknown.

    Args:
        stay: ``Age`` (years), ``Gender`` (0 female, 1 male), ``Height`` (cm), ``Weight`` (kg), ``ICUType`` (1 to 4); NaN: unknown.
    """
    number = lambda key, text: f"{text} unknown" if np.isnan(stay[key]) else f"{text} {stay[key]:.0f}"
    sex = "of unknown sex" if np.isnan(stay["Gender"]) else ("female", "male")[int(stay["Gender"])]
    years = "of unknown age" if np.isnan(stay["Age"]) else f"aged {stay['Age']:.0f}" + (" or older" if stay["Age"] >= 90 else "")
    unit = "an unknown unit" if np.isnan(stay["ICUType"]) else f"the {UNITS[int(stay['ICUType'])]}"
    height = number("Height", "Height") + ("" if np.isnan(stay["Height"]) else " cm")
    weight = number("Weight", "weight") + ("" if np.isnan(stay["Weight"]) else " kg")
    return f"Patient {sex}, {years}, admitted to {unit}. {height}, {weight}."


def _codes(raw: RawSet) -> tuple[list[str], np.ndarray]:
    """The challenge's parameter names, and the position of each row's among them; -1 for an empty name."""
    names = [*DESCRIPTORS, *(variable.name for variable in VARIABLES if variable.name not in DESCRIPTORS)]
    parameter = raw.rows["parameter"].cat
    here = [str(name).strip() for name in parameter.categories]
    if strange := sorted(set(here) - set(names) - {""}):
        where = raw.record_id[raw.rows["record"][(parameter.codes == here.index(strange[0])).to_numpy()].iloc[0]]
        raise InputError(f"set {raw.name}, record {where}: unknown parameter {strange[0]!r}; use the official files")
    lookup = np.array([names.index(name) if name else -1 for name in here] + [-1])
    return names, lookup[parameter.codes.to_numpy()]


def _descriptor_rows(names: list[str], code: np.ndarray, record: np.ndarray, minute: np.ndarray) -> np.ndarray:
    # a weight may be charted at 00:00 as well: only the first row of each name is the descriptor
    candidates = np.flatnonzero((minute == 0) & (code >= 0) & (code < len(DESCRIPTORS)))
    _, first = np.unique(record[candidates] * len(names) + code[candidates], return_index=True)
    chosen = np.zeros(len(code), dtype=bool)
    chosen[candidates[first]] = True
    return chosen


def _by_name(names: list[str], codes: np.ndarray) -> dict[str, int]:
    counted = np.bincount(codes, minlength=len(names))
    return {name: int(counted[names.index(name)]) for name in sorted(names) if counted[names.index(name)]}


def _descriptors(raw: RawSet, rows: pd.DataFrame, names: list[str], counts: dict[str, Any]) -> pd.DataFrame:
    table = rows.pivot(index="record", columns="name", values="value").rename(columns=dict(enumerate(names)))
    table = table.reindex(index=range(len(raw.record_id)), columns=DESCRIPTORS)
    wrong = table["RecordID"].notna() & (table["RecordID"] != raw.record_id)
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"set {raw.name}: file {raw.record_id[i]}.txt holds record {table['RecordID'].iloc[i]:.0f}; use the official files"
        )
    odd = {}
    for name, (low, high) in PLAUSIBLE_DESCRIPTORS.items():
        implausible = table[name].notna() & ~table[name].between(low, high)
        odd[name] = int(implausible.sum())
        table.loc[implausible, name] = np.nan
    counts["implausible_descriptors"] = {name: count for name, count in odd.items() if count}
    counts["unknown_descriptors"] = {name: int(table[name].isna().sum()) for name in PLAUSIBLE_DESCRIPTORS}
    return table


def _bins(
    names: list[str], code: np.ndarray, record: np.ndarray, minute: np.ndarray, value: np.ndarray, n: int, counts: dict[str, Any]
) -> np.ndarray:
    position = {variable.name: i for i, variable in enumerate(VARIABLES)}
    column = np.array([position.get(name, -1) for name in names])[code]
    low, high = (np.array([getattr(variable, side) for variable in VARIABLES]) for side in ("low", "high"))
    plausible = (column >= 0) & (value >= low[column]) & (value <= high[column])
    counts["implausible_by_parameter"] = _by_name(names, code[(column >= 0) & ~plausible])
    counts["values_by_parameter"] = _by_name(names, code[plausible])
    counts["values"] = int(plausible.sum())
    record, minute, column, value = (x[plausible] for x in (record, minute, column, value))
    order = np.lexsort((minute, record))
    record, minute, column, value = record[order], minute[order], column[order], value[order]
    step = np.maximum(-(-minute // STEP_MINUTES) - 1, 0)  # the bin of t is (2 k, 2 k + 2] hours; 00:00 belongs to the first
    values = np.full((n, STEPS, len(VARIABLES)), np.nan)
    values[record, step, column] = value  # of a repeated index the last assignment stays, which the sorting made the latest
    for i, variable in enumerate(VARIABLES):
        if variable.bin == "sum":
            mine = column == i
            total = np.zeros((n, STEPS))
            np.add.at(total, (record[mine], step[mine]), value[mine])
            values[:, :, i] = np.where(np.isnan(values[:, :, i]), np.nan, total)
        if variable.log:
            values[:, :, i] = np.log1p(values[:, :, i])
    return values.astype(np.float32)
