"""How much a row changes between two tables, or two sections of one, on the same stays: with one more modality, another encoder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from cm2.errors import InputError
from cm2.metrics import holm
from cm2.tables.predictions import Predicted, read_predictions
from cm2.tables.result import Cell
from cm2.uncertainty import difference

COLUMNS = ("row", "task", "metric", "before", "after", "change", "low", "high", "p", "p_equivalent", "p_holm", "p_equivalent_holm")


def changes(
    pairs: Iterable[tuple[Cell, Cell]], predictions: Path | None = None, paired: bool = False, margin: float | None = None
) -> pd.DataFrame:
    """Differences of pairs of cells with intervals from both stays and seeds, and Holm's correction over all of them.

    A table compares its rows within a section. This compares one row across sections or tables. With one seed on either side the intervals
    are over the stays alone: of the chance of a seed nothing is known then.

    Args:
        pairs: the cell before and the cell after, for one task and metric and the same stays. A pair without both values, because there
            are too few stays, has no change.
        predictions: file with the predictions of their runs, such as `kept_predictions`; None: changes without intervals.
        paired: whether the i-th seeds of both share a part of their chance, such as which modalities are masked; see
            `cm2.uncertainty.difference`.
        margin: of a test of equivalence, two one-sided tests; None: there is none.

    Returns:
        A row for each pair, in their order, with `COLUMNS`; NaN where there is no number.

    Raises:
        ValueError: cells of different tasks, metrics or stays; predictions that are missing.
    """
    pairs = list(pairs)
    for pair in pairs:
        _check_alike(*pair)
    keys = dict.fromkeys(key for pair in pairs for cell in pair for key in cell.runs)
    known = {} if predictions is None else read_predictions(predictions, keys)
    found = pd.DataFrame([_change(*pair, known, paired, margin) for pair in pairs], columns=list(COLUMNS[:-2]))
    return found.assign(**{f"{name}_holm": _adjusted(found[name]) for name in ("p", "p_equivalent")})


def _adjusted(p: pd.Series) -> list[float]:
    """Holm's correction over those that are there."""
    adjusted = iter(holm([value for value in p if not math.isnan(value)]))
    return [math.nan if math.isnan(value) else next(adjusted) for value in p]


def _check_alike(before: Cell, after: Cell) -> None:
    for what in ("task", "metric", "n"):
        one, other = getattr(before, what), getattr(after, what)
        if one != other:
            raise InputError(f"changes: {before.row} has {what} {one!r} before and {other!r} after; compare cells that agree in it")


def _change(
    before: Cell, after: Cell, known: Mapping[str, Predicted], paired: bool, margin: float | None
) -> tuple[str | float | None, ...]:
    named = (after.row, after.task, after.metric, before.value, after.value)
    if before.value is None or after.value is None:
        return (*named, *[math.nan] * 5)
    if not known:
        return (*named, after.value - before.value, *[math.nan] * 4)
    runs = [[known[key] for key in cell.runs] for cell in (after, before)]
    if not all(np.array_equal(one.stay_id, runs[0][0].stay_id) for of in runs for one in of):
        raise InputError(f"changes: {after.row} was tested on other stays before than after; a change is measured on the same ones")
    measured = [[one.measured(after.metric) for one in of] for of in runs]
    both = difference(measured[0], measured[1], paired)
    return (*named, both.estimate, *both.interval(), both.p_value, math.nan if margin is None else both.equivalence(margin))
