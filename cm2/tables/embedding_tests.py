"""Tests of the numbers of tables of embeddings: of each against one that is known, and of two methods on the same stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cm2.errors import InputError
from cm2.metrics import holm
from cm2.tables.contract import kind_of
from cm2.tables.embeddings import EmbeddingKind
from cm2.tables.result import Cell, TableResult
from cm2.tables.scores import name_of
from cm2.tables.verdicts import LEVEL
from cm2.uncertainty import FEWEST, Measured, Uncertain, combined, difference


def against(cell: Cell, known: float = 0.0) -> Uncertain:
    """A number of a table minus one that is known, such as that of chance.

    Args:
        cell: with an interval.
        known: number without uncertainty, in the cell's unit.

    Raises:
        ValueError: a cell without an interval, because there are too few stays or because it belongs to chance.
    """
    if cell.value is None or cell.se_stays is None:
        raise InputError(f"{cell.row}, {cell.section}: the {cell.metric} has no interval; only a number of enough stays can be tested")
    seeds = cell.seeds * 2 if cell.deterministic else cell.seeds  # equal seeds stand in the table once
    return combined(cell.value - known, cell.se_stays, (cell.n or FEWEST) - 1, seeds)


def score_difference(result: TableResult, scores: Mapping[str, NDArray], one: Cell, other: Cell, power: int = 1) -> Uncertain:
    """The number of one method minus that of another, on the same stays.

    Args:
        result: the table that has both.
        scores: of its stays, of `kept_scores`.
        one: a cell of the table.
        other: a cell of the same section and metric.
        power: 2 compares the squares, of an error for example, to first order.

    Raises:
        ValueError: scores that are missing, cells that are about other stays or metrics, a table of another kind.
    """
    kind = kind_of(result.kind)
    if not isinstance(kind, EmbeddingKind):
        raise InputError(f"table {result.name} is of the kind {result.kind!r}, which has no scores; use `cm2.tables.compared_with`")
    for what in ("section", "task", "metric"):
        first, second = (getattr(cell, what) for cell in (one, other))
        if first != second:
            raise InputError(f"{one.row} and {other.row}: {what} {first!r} and {second!r}; compare cells that agree in it")
    return difference(_measured(kind, scores, one, power), _measured(kind, scores, other, power))


def _measured(kind: EmbeddingKind, scores: Mapping[str, NDArray], cell: Cell, power: int) -> list[Measured]:
    found = []
    for run in cell.runs:
        start = name_of(run, cell.section, cell.score, "")
        parts = {name.removeprefix(start): values for name, values in scores.items() if name.startswith(start)}
        if not parts:
            raise InputError(f"the scores of {cell.row}, {cell.section}, are missing; compute the table again with `cm2 table`")
        one = kind.measured(cell.section, cell.metric, parts)
        slope = power * one.value ** (power - 1)
        found.append(replace(one, value=one.value**power, deviations=slope * one.deviations))
    return found


def sides(found: Sequence[Uncertain], level: float = LEVEL) -> list[int]:
    """On which side of 0 each difference is shown to be: 1 above, -1 below, 0 undecided. A single seed decides nothing.

    Args:
        found: differences; their p-values are corrected by Holm's method over all of them.
        level: of the tests.
    """
    corrected = holm([one.p_value for one in found])
    return [int(np.sign(one.estimate)) if p < level and one.both else 0 for one, p in zip(found, corrected, strict=True)]
