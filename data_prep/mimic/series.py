"""From cleaned events to 24 two-hour steps of 76 columns: the benchmark's discretiser and normaliser."""

from __future__ import annotations

from functools import partial
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from cm2.progress import Progress
from data_prep.channels import CHANNELS, continuous_columns, feature_names
from data_prep.filling import forward_fill
from data_prep.mimic.events import category_ranks
from data_prep.mimic.raw import query_share
from data_prep.mimic.stays import HOURS, TOLERANCE

STEP_HOURS = 2
STEPS = HOURS // STEP_HOURS
SMALLEST_STD = 1e-7


def bin_events(connection: duckdb.DuckDBPyConnection, stays: pd.DataFrame) -> tuple[np.ndarray, dict[str, int]]:
    """The last value of every channel in every step.

    An event counts for a stay of its subject if it is that stay's or lies between entry and exit. Of several values of a channel at
    one time the largest counts (of categories the last in code-point order), of several times in a step the last. Step k covers
    (2 k, 2 k + 2] hours after entry; entry itself belongs to step 0.

    Args:
        connection: connection to DuckDB, with the table ``cleaned``.
        stays: n candidates.

    Returns:
        ``(n, 24, 17)`` float64, NaN where nothing was charted, categories by their position; and the number of events used.
    """
    connection.register("stay_frame", stays[["subject_id", "stay_id", "intime", "outtime"]].assign(row=np.arange(len(stays))))
    connection.execute("CREATE OR REPLACE TABLE stay AS SELECT row::INTEGER AS row, subject_id, stay_id, intime, outtime FROM stay_frame")
    # less the tolerance, a time on the boundary of two steps is truncated to the earlier one, and entry itself to step 0
    with Progress("events of each stay", measure=partial(query_share, connection)):
        connection.execute(f"""
            CREATE OR REPLACE TEMP TABLE charted AS
            SELECT row, variable, (hours / {STEP_HOURS} - {TOLERANCE})::DOUBLE AS step, charttime, number FROM (
                SELECT stay.row, variable, charttime, number, (epoch_us(charttime) - epoch_us(intime)) / 3.6e9 AS hours
                FROM cleaned JOIN stay ON cleaned.subject_id = stay.subject_id
                    AND (cleaned.stay_id = stay.stay_id OR cleaned.charttime BETWEEN stay.intime AND stay.outtime)
            ) WHERE hours > -{TOLERANCE} AND hours < {HOURS} + {TOLERANCE}
        """)
    with Progress("last values of each step", measure=partial(query_share, connection)):
        found = connection.execute("""
            SELECT row, variable, trunc(step)::INTEGER AS bin, arg_max(number, charttime) AS number FROM (
                SELECT row, variable, step, charttime, max(number) AS number FROM charted GROUP BY ALL
            ) GROUP BY ALL
        """).fetchnumpy()
    used = int(connection.execute("SELECT count(*) FROM charted").fetchall()[0][0])
    connection.execute("DROP TABLE charted")
    values = np.full((len(stays), STEPS, len(CHANNELS)), np.nan)
    values[found["row"], found["bin"], found["variable"]] = found["number"]
    for code, channel in enumerate(CHANNELS):
        if channel.categories:
            there = ~np.isnan(values[:, :, code])
            values[:, :, code][there] = np.array(category_ranks(code))[values[:, :, code][there].astype(int)]
    return values, {"events_used": used, "steps_with_a_value": len(found["row"])}


def discretise(values: np.ndarray, fitted: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Fills, encodes and standardises.

    A step without a value repeats the last one; before the first it has the channel's normal value. Categories become one-hot columns;
    17 masks follow, 1 where a value was charted. The 12 continuous columns are standardised with all steps of the fitted stays.

    Args:
        values: ``(n, 24, 17)``, as returned by ``bin_events``.
        fitted: ``(n,)`` bool, the stays that give mean and standard deviation (n - 1 in the denominator, at least 1e-7).

    Returns:
        ``(n, 24, 76)`` float32, and the statistics for the manifest.
    """
    charted = ~np.isnan(values)
    filled = forward_fill(values)
    filled = np.where(np.isnan(filled), [channel.normal for channel in CHANNELS], filled)
    names = feature_names()
    series = np.empty((*values.shape[:2], len(names)), dtype=np.float32)
    mean, std, column = [], [], 0
    for code, channel in enumerate(CHANNELS):
        here = filled[:, :, code]
        if channel.categories:
            width = len(channel.categories)
            series[:, :, column : column + width] = here[:, :, None] == np.arange(width)
        else:
            width = 1
            mean.append(float(here[fitted].mean()))
            std.append(max(float(here[fitted].std(ddof=1)), SMALLEST_STD))
            series[:, :, column] = (here - mean[-1]) / std[-1]
        column += width
    series[:, :, column:] = charted
    return series, {"features": [names[c] for c in continuous_columns()], "mean": mean, "std": std}
