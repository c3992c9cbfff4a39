"""Metrics against an option."""

from __future__ import annotations

import json

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from cm2.plots.style import COLOURS, style

TITLES = {"auroc": "AUROC", "aupr": "AUPR"}


def over_components(frame: pd.DataFrame) -> Figure:
    """AUROC and AUPR over the number of mixture components (the paper's Figure 5).

    Args:
        frame: ``components``, ``metric`` (``auroc``, ``aupr``), ``task``, ``section``, ``value``, ``low``, ``high`` and ``seeds``, a JSON
            list. Of two seeds, whose t interval would span everything, the two values are drawn in its place.
    """
    with style():
        figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.4))
        colours = dict(zip(frame["task"].unique(), COLOURS, strict=False))
        lines = dict(zip(frame["section"].unique(), (("-", "o"), ("--", "s"), (":", "^")), strict=False))
        width = 0.08
        for ax, metric in zip(axes, TITLES, strict=True):
            groups = list(frame[frame["metric"] == metric].groupby(["task", "section"], sort=False))
            for place, ((task, section), rows) in enumerate(groups):
                line, marker = lines[section]
                x = rows["components"] + width * (place - (len(groups) - 1) / 2)
                ax.plot(x, rows["value"], line, marker=marker, markersize=4, color=colours[task], label=f"{task}, {section}")
                seeds = rows["seeds"].map(json.loads)
                low, high = (seeds.map(min), seeds.map(max)) if (seeds.map(len) == 2).all() else (rows["low"], rows["high"])
                ax.vlines(x, low, high, color=colours[task], linewidth=1, alpha=0.6)
            bottom, top = ax.get_ylim()
            ax.set_ylim(max(bottom, 0), min(top, 1))
            ax.set(xlabel="components $K$ of each mixture", ylabel=TITLES[metric], xticks=sorted(frame["components"].unique()))
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure
