"""Metrics against an option, and differences to a reference."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cm2.errors import InputError
from cm2.plots.style import COLOURS, INK, style

_TITLE = 32
"""Characters in a line of a panel's title."""
TITLES = {"auroc": "AUROC", "aupr": "AUPR", "brier": "Brier score"}


def over_components(frame: pd.DataFrame) -> Figure:
    """AUROC and AUPR over the number of mixture components (the paper's Figure 5).

    Args:
        frame: ``components``, ``metric`` (``auroc``, ``aupr``), ``task``, ``section``, ``value``, ``low`` and ``high``.
    """
    with style():
        figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.4))
        colours = dict(zip(frame["task"].unique(), COLOURS, strict=False))
        lines = dict(zip(frame["section"].unique(), (("-", "o"), ("--", "s"), (":", "^")), strict=False))
        width = 0.08
        for ax, metric in zip(axes, ("auroc", "aupr"), strict=True):
            groups = list(frame[frame["metric"] == metric].groupby(["task", "section"], sort=False))
            for place, ((task, section), rows) in enumerate(groups):
                line, marker = lines[section]
                x = rows["components"] + width * (place - (len(groups) - 1) / 2)
                ax.plot(x, rows["value"], line, marker=marker, markersize=4, color=colours[task], label=f"{task}, {section}")
                ax.vlines(x, rows["low"], rows["high"], color=colours[task], linewidth=1, alpha=0.6)
            bottom, top = ax.get_ylim()
            ax.set_ylim(max(bottom, 0), min(top, 1))
            ax.set(xlabel="components $K$ of each mixture", ylabel=TITLES[metric], xticks=sorted(frame["components"].unique()))
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def differences(frame: pd.DataFrame, metric: str = "auroc", reference: str = "CM2", level: float = 0.05) -> Figure:
    """Differences to the reference row with their 95 % intervals: one panel per section and task, one line per row.

    Thin bars count stays and seeds, thick ones the stays alone.
    Filled where the corrected p-value is below ``level`` and counts several seeds. An open diamond is the paper's difference, where it
    prints both rows.

    Args:
        frame: ``TableResult.frame()``: ``section``, ``row``, ``task``, ``metric``, ``difference_estimate``, ``difference_low``,
            ``difference_high``, ``difference_stays_low``, ``difference_stays_high``, ``difference_p_holm``, and ``printed_value`` where
            there is one.
        metric: ``auroc`` or ``aupr``.
        reference: label of the row that the others are compared with.
        level: level of the test.

    Raises:
        ValueError: nothing was compared.
    """
    frame = compared(frame, metric)
    sections, tasks = (list(dict.fromkeys(frame[name])) for name in ("section", "task"))
    rows = [row for row in dict.fromkeys(frame["row"]) if row != reference]
    with style():
        labels = max(1.6, 0.5 + 0.07 * max(map(len, rows)))  # room for the longest
        size = (labels + 2.9 * len(tasks), 0.9 + (0.5 + 0.24 * len(rows)) * len(sections))
        figure, axes = plt.subplots(len(sections), len(tasks), figsize=size, sharex=True, sharey=True, squeeze=False)
        for line, section in zip(axes, sections, strict=True):
            for ax, task in zip(line, tasks, strict=True):
                part = frame[(frame["section"] == section) & (frame["task"] == task)].set_index("row")
                _forest(ax, part, rows, reference, level)
                ax.set_title(fill(f"{task}, {section}" if len(sections) > 1 else task, _TITLE))
        for ax in axes[-1]:
            ax.set_xlabel(fill(f"{TITLES[metric]} minus that of {reference}", _TITLE))
    return figure


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
        inside = COLOURS[0] if decided(one, level) else "none"
        ax.hlines(place, one["difference_low"], one["difference_high"], color=COLOURS[0], linewidth=1)
        ax.hlines(place, one["difference_stays_low"], one["difference_stays_high"], color=COLOURS[0], linewidth=3, alpha=0.6)
        ax.plot(one["difference_estimate"], place, "o", color=COLOURS[0], markerfacecolor=inside, markersize=5)
        paper = printed.get(row, float("nan")) - printed.get(reference, float("nan"))
        if pd.notna(paper):
            ax.plot(paper, place, "D", color=COLOURS[1], markerfacecolor="none", markersize=5)
    ax.set(yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.5, -0.5))
