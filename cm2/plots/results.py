"""Metrics against an option, and differences to a reference."""

from __future__ import annotations

from itertools import cycle
from textwrap import fill
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cm2.errors import InputError
from cm2.plots.style import COLOURS, INK, style
from cm2.tasks import metric_named

_LINE = 36
"""Characters in a line below or above a panel."""
_LABEL = 30
"""Characters in a line beside a panel."""
WIDTH = 5.0
"""Inches that a figure has at most: on a phone it is drawn at 0.7 of its size, and its words stay readable."""


def heading(metric: str) -> str:
    """What a figure calls a metric of any type of task."""
    known = metric_named(metric)
    return metric if known is None else known.heading


def minus(metric: str, reference: str) -> str:
    """What a figure calls a difference: on one line, or broken before the name of the reference row."""
    words = f"{heading(metric)} minus that of"
    return f"{words} {reference}" if len(words) + len(reference) < _LINE else f"{words}\n{fill(reference, _LINE)}"


def is_share(metric: str) -> bool:
    """Whether a metric lies between 0 and 1."""
    known = metric_named(metric)
    return known is not None and known.share


def over_components(frame: pd.DataFrame) -> Figure:
    """Metrics over the number of mixture components (the paper's Figure 5), a panel for each.

    Args:
        frame: ``components``, ``metric``, ``task``, ``section``, ``value``, ``low`` and ``high``; a value that may not be shown is missing.

    Raises:
        ValueError: there is no value.
    """
    frame = frame[frame["value"].notna()]
    metrics = list(dict.fromkeys(frame["metric"]))
    if not metrics:
        raise InputError("no value of the table may be shown; there is nothing to draw")
    with style():
        figure, axes = plt.subplots(len(metrics), figsize=(WIDTH, 2.6 * len(metrics) + 0.6), squeeze=False)
        drawn: dict[str, Any] = {}
        for ax, metric in zip(axes.flat, metrics, strict=True):
            drawn |= _lines(ax, frame, metric)
        figure.legend(list(drawn.values()), list(drawn), loc="outside lower center", ncols=2 if max(map(len, drawn)) < 26 else 1)
    return figure


def _lines(ax: Axes, frame: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Draws one metric and returns the lines by label; colours are tasks and line styles sections, the same in all panels."""
    colours = dict(zip(frame["task"].unique(), cycle(COLOURS), strict=False))
    lines = dict(zip(frame["section"].unique(), cycle((("-", "o"), ("--", "s"), (":", "^"))), strict=False))
    groups = list(frame[frame["metric"] == metric].groupby(["task", "section"], sort=False))
    drawn = {}
    for place, ((task, section), rows) in enumerate(groups):
        line, marker = lines[section]
        x = rows["components"] + 0.08 * (place - (len(groups) - 1) / 2)
        (drawn[f"{task}, {section}"],) = ax.plot(
            x, rows["value"], line, marker=marker, markersize=4, color=colours[task], label=f"{task}, {section}"
        )
        ax.vlines(x, rows["low"], rows["high"], color=colours[task], linewidth=1, alpha=0.6)
    if is_share(metric):
        bottom, top = ax.get_ylim()
        ax.set_ylim(max(bottom, 0), min(top, 1))
    ax.set(xlabel="components $K$ of each mixture", ylabel=heading(metric), xticks=sorted(frame["components"].unique()))
    return drawn


def differences(frame: pd.DataFrame, metric: str | None = None, reference: str = "CM2", level: float = 0.05) -> Figure:
    """Differences to the reference row with their 95 % intervals: one panel below the other for each section and task, one line per row.

    Thin bars count stays and seeds, thick ones the stays' part alone.
    A filled circle where the corrected p-value is below ``level`` and counts several seeds, else a hollow square. An open diamond is the
    paper's difference, where it prints both rows.

    Args:
        frame: ``TableResult.frame()``: ``section``, ``row``, ``task``, ``metric``, ``difference_estimate``, ``difference_low``,
            ``difference_high``, ``difference_stays_low``, ``difference_stays_high``, ``difference_p_holm``, and ``printed_value`` where
            there is one.
        metric: one that the frame has; None: the first.
        reference: label of the row that the others are compared with.
        level: level of the test.

    Raises:
        ValueError: nothing was compared.
    """
    metric = metric or first_metric(frame)
    frame = compared(frame, metric)
    blocks = list(frame.groupby(["section", "task"], sort=False))
    rows = [row for row in dict.fromkeys(frame["row"]) if row != reference]
    labels = [fill(row, _LABEL) for row in rows]
    line = 0.21 if max(label.count("\n") for label in labels) == 0 else 0.34
    with style():
        width = max(1.6, 0.5 + 0.07 * min(_LABEL, max(map(len, rows)))) + 2.9  # room for the longest
        size = (min(width, WIDTH), 0.9 + (0.55 + line * len(rows)) * len(blocks))
        figure, axes = plt.subplots(len(blocks), figsize=size, sharex=True, sharey=True, squeeze=False)
        for ax, ((section, task), part) in zip(axes.flat, blocks, strict=True):
            _forest(ax, part.set_index("row"), rows, reference, level)
            ax.set_title(fill(f"{task}, {section}" if frame["section"].nunique() > 1 else str(task), _LINE))
            ax.set_yticks(range(len(rows)), labels)
            ax.xaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 5, 10)))
            ax.tick_params(labelbottom=True)
        axes[-1, 0].set_xlabel(minus(metric, reference))
    return figure


def first_metric(frame: pd.DataFrame) -> str:
    """The first metric in which rows are compared, or of all if none are."""
    both = frame[frame["difference_estimate"].notna()] if "difference_estimate" in frame else frame[:0]
    return str(next(iter((both if len(both) else frame)["metric"]), "any metric"))


def compared(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The lines of a metric.

    Raises:
        ValueError: nothing was compared in it.
    """
    frame = frame[frame["metric"] == metric]
    if "difference_estimate" not in frame or frame["difference_estimate"].isna().all():
        raise InputError(f"no row of the table was compared in {metric}; compute it with more than the reference row")
    return frame


def decided(row: Any, level: float) -> bool:
    """Whether a difference is decided: one seed decides nothing about another."""
    return bool(row["difference_p_holm"] < level and pd.notna(row.get("difference_se_seeds")))


def _forest(ax: Axes, part: pd.DataFrame, rows: list[str], reference: str, level: float) -> None:
    ax.axvline(0, color=INK, linewidth=0.8)
    printed = part["printed_value"] if "printed_value" in part else pd.Series(dtype=float)
    for place, row in enumerate(rows):
        if row not in part.index or pd.isna(part["difference_estimate"][row]):
            continue
        one = part.loc[row]
        mark, inside = ("o", COLOURS[0]) if decided(one, level) else ("s", "white")  # hollow: no bar shows through
        ax.hlines(place, one["difference_low"], one["difference_high"], color=COLOURS[0], linewidth=1)
        ax.hlines(place, one["difference_stays_low"], one["difference_stays_high"], color=COLOURS[0], linewidth=3, alpha=0.6)
        ax.plot(one["difference_estimate"], place, mark, color=COLOURS[0], markerfacecolor=inside, markersize=6)
        paper = printed.get(row, float("nan")) - printed.get(reference, float("nan"))
        if pd.notna(paper):
            ax.plot(paper, place, "D", color=COLOURS[1], markerfacecolor="none", markersize=5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
