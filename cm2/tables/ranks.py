"""Mean ranks of the methods of a table, and how far apart they must lie: the critical difference of Nemenyi's test."""

from __future__ import annotations

import math

import pandas as pd
from scipy.stats import studentized_range

from cm2.errors import InputError
from cm2.tables.result import TableResult
from cm2.tasks import metric_named


def mean_ranks(result: TableResult, metric: str | None = None) -> tuple[pd.Series, int]:
    """The mean rank of each row over the blocks of a table, a block being a section and a task; rank 1 is the best, ties share theirs.

    Args:
        result: a table of results.
        metric: its name, None for the first in which rows are compared; the best value is the largest, or the smallest where less is
            better, as of ``brier`` and ``rmse``.

    Returns:
        Ranks by row, the best first, and the number of blocks.

    Raises:
        ValueError: fewer than two rows that have a value in every block.
    """
    metric = metric or result.first_metric
    frame = result.frame()
    frame = frame[frame["metric"] == metric]
    wide = frame.pivot_table("value", ["section", "task"], "row", sort=False, dropna=False).dropna(axis="columns")
    if wide.shape[1] < 2:
        raise InputError(f"table {result.name}: {wide.shape[1]} rows have a value of {metric} in every block; ranks need two or more")
    known = metric_named(metric)
    return wide.rank(axis=1, ascending=known is not None and not known.higher).mean().sort_values(), len(wide)


def critical_difference(methods: int, blocks: int, level: float = 0.05) -> float:
    """Difference of two mean ranks beyond which they are distinct at this level, all pairs counted (Demšar 2006, JMLR 7).

    Args:
        methods: k, 2 or more.
        blocks: N, independent data sets on which all methods were compared.
        level: of the test of all pairs.

    Raises:
        ValueError: fewer than two methods, or no block.
    """
    if methods < 2 or blocks < 1:
        raise InputError(f"critical difference: expected two methods or more and a block, got {methods} and {blocks}")
    quantile = studentized_range.isf(level, methods, math.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(methods * (methods + 1) / (6 * blocks)))
