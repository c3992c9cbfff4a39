"""Compare two preparations of the same source: stays, labels, values, texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cm2.cohorts.cohort import Cohort
from cm2.errors import InputError
from cm2.kinds import kind
from cm2.kinds.contract import blocks

TOLERANCE = 1e-5
"""Float32 rounding tolerance, in standard deviations."""


@dataclass(frozen=True)
class Changes:
    """Differences of a second preparation from a first one.

    Args:
        entered: stays only in the second.
        left: stays only in the first.
        both: stays in both; the following fields refer to them.
        labels: stays with a different label, by task.
        cells: one row per feature of the series, ``modality, feature, unit``; in that unit the ``cells`` that differ, the ``stays`` with
            any, and the ``mean`` absolute difference of those cells; in standard deviations, the scale that a network reads,
            ``read_cells`` and ``read_mean``.
        gained: stays in which a modality other than the series is observed in the second only, by modality.
        lost: the same in the first only.
        other: the same in both, with different values.
        label_stays: stays with any different label.
        series_stays: stays with any cell that differs in its unit.
        read_stays: stays with any cell that differs in standard deviations.
        modality_stays: stays counted in ``gained``, ``lost`` or ``other`` of any modality.
    """

    entered: int
    left: int
    both: int
    labels: dict[str, int]
    cells: pd.DataFrame
    gained: dict[str, int]
    lost: dict[str, int]
    other: dict[str, int]
    label_stays: int
    series_stays: int
    read_stays: int
    modality_stays: int


def changes(first: Cohort, second: Cohort) -> Changes:
    """Compares two preparations stay by stay, in their common modalities and tasks.

    Args:
        first: a prepared cohort.
        second: another one of the same source, for example prepared by another rule.

    Raises:
        ValueError: a series whose features differ between the two.
    """
    _, a, b = np.intersect1d(first.stays["stay_id"], second.stays["stay_id"], return_indices=True)
    common = [task for task in first.tasks if task in second.tasks]
    labels = {task: _differ(first.label(task)[a], second.label(task)[b]) for task in common}
    frames, in_unit, in_read, moved = [], np.zeros(len(a), dtype=bool), np.zeros(len(a), dtype=bool), np.zeros(len(a), dtype=bool)
    gained, lost, other = {}, {}, {}
    for name in (name for name in first.manifest["modalities"] if name in second.manifest["modalities"]):
        own = kind(first.manifest["modalities"][name]["kind"])
        if own.named_steps:
            frame, unit_stays, read_stays = _series(first, second, name, a, b)
            frames.append(frame)
            in_unit, in_read = in_unit | unit_stays, in_read | read_stays
            continue
        here, there = _present(first, name)[a], _present(second, name)[b]
        alike = own.alike(first, second, name, a, b)
        gained[name], lost[name] = int((there & ~here).sum()), int((here & ~there).sum())
        other[name] = int((here & there & ~alike).sum())
        moved |= (here != there) | (here & there & ~alike)
    return Changes(
        len(second.stays) - len(a),
        len(first.stays) - len(a),
        len(a),
        {task: int(differs.sum()) for task, differs in labels.items()},
        pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(),
        gained,
        lost,
        other,
        int(np.any(list(labels.values()), axis=0).sum()) if labels else 0,
        int(in_unit.sum()),
        int(in_read.sum()),
        int(moved.sum()),
    )


def natural_units(cohort: Cohort, name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Shift and scale from standardised values of a series back to its units, ``value * scale + shift``.

    Args:
        cohort: a prepared cohort.
        name: name of a series modality.

    Returns:
        ``shift`` and ``scale`` ``(F,)``, 0 and 1 for features that were not standardised; and the units.
    """
    entry = cohort.manifest["modalities"][name]
    shift, scale = np.zeros(len(entry["features"])), np.ones(len(entry["features"]))
    statistics = cohort.manifest["normalisation"].get(name)
    if statistics:
        columns = [entry["features"].index(feature) for feature in statistics["features"]]
        shift[columns], scale[columns] = statistics["mean"], statistics["std"]
    return shift, scale, [unit.removeprefix("standard deviations of ") for unit in entry["units"]]


def _series(first: Cohort, second: Cohort, name: str, a: np.ndarray, b: np.ndarray) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    features = first.manifest["modalities"][name]["features"]
    if features != second.manifest["modalities"][name]["features"]:
        raise InputError(f"changes: the two preparations have other features of {name!r}; prepare both with one version")
    (shift_a, scale_a, units), (shift_b, scale_b, _) = natural_units(first, name), natural_units(second, name)
    tolerance = TOLERANCE * np.maximum(scale_a, scale_b)  # standardised values were rounded to float32 when they were stored
    sums: dict[str, Any] = {key: np.zeros(len(features)) for key in ("cells", "stays", "sum", "read_cells", "read_sum")}
    in_unit, in_read = np.zeros(len(a), dtype=bool), np.zeros(len(a), dtype=bool)
    for rows in blocks(len(a)):
        x, y = (cohort.array(name)[at[rows]].astype(np.float64) for cohort, at in ((first, a), (second, b)))
        read, unit = np.abs(y - x), np.abs(y * scale_b + shift_b - x * scale_a - shift_a)
        differs, reads = unit > tolerance, read > TOLERANCE
        in_unit[rows], in_read[rows] = differs.any(axis=(1, 2)), reads.any(axis=(1, 2))
        sums["cells"] += differs.sum(axis=(0, 1))
        sums["stays"] += differs.any(axis=1).sum(axis=0)
        sums["sum"] += (unit * differs).sum(axis=(0, 1))
        sums["read_cells"] += reads.sum(axis=(0, 1))
        sums["read_sum"] += (read * reads).sum(axis=(0, 1))
    frame = pd.DataFrame({"modality": name, "feature": features, "unit": units})
    for key in ("cells", "stays", "read_cells"):
        frame[key] = sums[key].astype(int)
    frame["mean"] = sums["sum"] / np.maximum(sums["cells"], 1)
    frame["read_mean"] = sums["read_sum"] / np.maximum(sums["read_cells"], 1)
    return frame, in_unit, in_read


def _differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Stays ``(n,)`` whose labels differ; unknown ones are alike."""
    if a.shape != b.shape:
        return np.ones(len(a), dtype=bool)
    return ~((a == b) | (np.isnan(a) & np.isnan(b))).reshape(len(a), -1).all(axis=1)


def _present(cohort: Cohort, name: str) -> np.ndarray:
    return cohort.present[:, list(cohort.manifest["modalities"]).index(name)]
