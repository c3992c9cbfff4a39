"""From cleaned events to 24 two-hour steps of 76 columns: the benchmark's discretiser and normaliser."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from cm2.progress import Progress
from data_prep.channels import CHANNELS, continuous_columns, feature_names
from data_prep.filling import forward_fill
from data_prep.mimic.events import READ, UNREAD, category_ranks
from data_prep.mimic.quirks import Quirks
from data_prep.mimic.raw import query_share
from data_prep.mimic.stays import HOURS, TOLERANCE

STEP_HOURS = 2
STEPS = HOURS // STEP_HOURS
SIZES = ("Height", "Weight")
BEFORE_ENTRY = 24
"""Hours before entry from which a height or a weight is taken along."""

LEAST_SHARE = 0.01
"""Least standard deviation of a channel, as a fraction of the width of its plausible range."""
RELEASED_LEAST = 1e-7


def bin_events(
    connection: duckdb.DuckDBPyConnection, stays: pd.DataFrame, quirks: Quirks
) -> tuple[np.ndarray, dict[str, int], dict[str, dict[str, int]]]:
    """The last value of every channel in every step.

    An event counts for a stay of its subject if it is that stay's or lies between entry and exit. Of several values of a channel at
    one time the largest counts (of categories the last in code-point order), of several times in a step the last. Step k covers
    (2 k, 2 k + 2] hours after entry; entry itself belongs to step 0. A height or a weight charted up to 24 hours before entry, in the
    same admission, counts as charted at entry, unless a later one does.

    Args:
        connection: connection to DuckDB, with the table ``cleaned``.
        stays: n candidates.
        quirks: ``size_before_entry_lost`` and ``largest_as_text`` are used.

    Returns:
        ``(n, 24, 17)`` float64, NaN where nothing was charted, categories by their position; the number of events used; and for each
        channel the number of charted events by what became of them: a reason in ``events.UNREAD``, ``before_entry``,
        ``after_48_hours`` or ``used``.
    """
    connection.register("stay_frame", stays[["subject_id", "stay_id", "intime", "outtime"]].assign(row=np.arange(len(stays))))
    connection.execute("CREATE OR REPLACE TABLE stay AS SELECT row::INTEGER AS row, subject_id, stay_id, intime, outtime FROM stay_frame")
    sizes = ", ".join(str(code) for code, channel in enumerate(CHANNELS) if channel.name in SIZES)
    brought = f"variable IN ({sizes}) AND own AND hours >= -({BEFORE_ENTRY} + {TOLERANCE})"
    counts = f"hours > -{TOLERANCE} OR ({'FALSE' if quirks.size_before_entry_lost else brought})"
    connection.execute(f"""
        CREATE OR REPLACE TEMP VIEW timed AS
        SELECT *, CASE WHEN NOT ({counts}) THEN 'before_entry' WHEN hours >= {HOURS} + {TOLERANCE} THEN 'after_48_hours'
            WHEN fate <> '{READ}' THEN fate::VARCHAR ELSE 'used' END AS became
        FROM (
            SELECT stay.row, variable, charttime, number, text, fate, coalesce(cleaned.stay_id = stay.stay_id, FALSE) AS own,
                (epoch_us(charttime) - epoch_us(intime)) / 3.6e9 AS hours
            FROM cleaned JOIN stay ON cleaned.subject_id = stay.subject_id
                AND (cleaned.stay_id = stay.stay_id OR cleaned.charttime BETWEEN stay.intime AND stay.outtime)
        )
    """)
    with Progress("events of each stay", measure=partial(query_share, connection)):
        # less the tolerance, a time on the boundary of two steps is truncated to the earlier one, and entry itself to step 0
        connection.execute(f"""
            CREATE OR REPLACE TEMP TABLE charted AS
            SELECT row, variable, trunc(greatest(hours / {STEP_HOURS} - {TOLERANCE}, 0))::INTEGER AS bin, charttime, number, text
            FROM timed WHERE became = 'used'
        """)
    with Progress("last values of each step", measure=partial(query_share, connection)):
        # of texts the last in code-point order, which is DuckDB's; null but for the quirk
        found = connection.execute("""
            SELECT row, variable, bin, arg_max(number, charttime) AS number FROM (
                SELECT row, variable, bin, charttime, coalesce(arg_max(number, text), max(number)) AS number FROM charted GROUP BY ALL
            ) GROUP BY ALL
        """).fetchnumpy()
    used = int(connection.execute("SELECT count(*) FROM charted").fetchall()[0][0])
    connection.execute("DROP TABLE charted")
    with Progress("what became of the events", measure=partial(query_share, connection)):
        became: dict[str, dict[str, int]] = {channel.name: {} for channel in CHANNELS}
        for code, fate, count in connection.execute("SELECT variable, became, count(*) FROM timed GROUP BY ALL ORDER BY ALL").fetchall():
            became[CHANNELS[code].name][fate] = count
    values = np.full((len(stays), STEPS, len(CHANNELS)), np.nan)
    values[found["row"], found["bin"], found["variable"]] = found["number"]
    for code, channel in enumerate(CHANNELS):
        if channel.categories:
            there = ~np.isnan(values[:, :, code])
            values[:, :, code][there] = np.array(category_ranks(code))[values[:, :, code][there].astype(int)]
    return values, {"events_used": used, "steps_with_a_value": len(found["row"])}, became


def discretise(values: np.ndarray, fitted: np.ndarray, quirks: Quirks) -> tuple[np.ndarray, dict[str, Any]]:
    """Fills, encodes and standardises.

    A step without a value repeats the last one; before the first it has the channel's normal value. Categories become one-hot columns;
    17 masks follow, 1 where a value was charted. The 12 continuous columns are standardised with all steps of the fitted stays.

    Args:
        values: ``(n, 24, 17)``, as returned by ``bin_events``.
        fitted: ``(n,)`` bool, the stays that give mean and standard deviation (n - 1 in the denominator).
        quirks: a standard deviation is at least 1e-7 with ``deviation_near_zero``, else a hundredth of the width of the channel's
            plausible range: what hardly varies in training says nothing about how far from it another stay is.

    Returns:
        ``(n, 24, 76)`` float32, and the statistics for the manifest, with the features whose deviation is that least one.
    """
    charted = ~np.isnan(values)
    filled = forward_fill(values)
    filled = np.where(np.isnan(filled), [channel.normal for channel in CHANNELS], filled)
    names = feature_names()
    series = np.empty((*values.shape[:2], len(names)), dtype=np.float32)
    mean, std, raised, column = [], [], [], 0
    for code, channel in enumerate(CHANNELS):
        here = filled[:, :, code]
        if channel.categories:
            width = len(channel.categories)
            series[:, :, column : column + width] = here[:, :, None] == np.arange(width)
        else:
            width = 1
            low, high = channel.plausible or (0.0, 1.0)
            least = RELEASED_LEAST if quirks.deviation_near_zero else LEAST_SHARE * (high - low)
            deviation = float(here[fitted].std(ddof=1))
            raised += [channel.name] * (deviation < least)
            mean.append(float(here[fitted].mean()))
            std.append(max(deviation, least))
            series[:, :, column] = (here - mean[-1]) / std[-1]
        column += width
    series[:, :, column:] = charted
    statistics = {"features": [names[c] for c in continuous_columns()], "mean": mean, "std": std}
    return series, statistics | ({"least_deviation": raised} if raised else {})


def channel_health(values: np.ndarray, fitted: np.ndarray, became: dict[str, dict[str, int]], known: Collection[str]) -> dict[str, Any]:
    """What became of each channel's events, for the manifest.

    Args:
        values: ``(n, 24, 17)`` of the cohort's stays, as returned by ``bin_events``.
        fitted: ``(n,)`` bool, the training stays.
        became: as returned by ``bin_events``.
        known: channels that the source has an item for.

    Returns:
        By channel: ``charted``, its parts by what became of them, ``stays`` and ``steps`` with a value, and ``state``: ``no item`` (the
        release has none), ``empty`` (nothing charted), ``unread`` (nothing that was charted is used), ``constant`` (one value in all
        training stays) or ``fine``.
    """
    found = {}
    for code, channel in enumerate(CHANNELS):
        here, parts = values[:, :, code], became[channel.name]
        seen = ~np.isnan(here)
        training = here[fitted][seen[fitted]]
        state = "constant" if len(training) and (training == training[0]).all() else "fine"
        if not seen.any():
            state = "no item" if channel.name not in known else "unread" if parts else "empty"
        counted = {name: parts.get(name, 0) for name in (*UNREAD, "before_entry", "after_48_hours", "used")}
        found[channel.name] = (
            {"state": state, "charted": sum(counted.values())} | counted | {"stays": int(seen.any(axis=1).sum()), "steps": int(seen.sum())}
        )
    return found
