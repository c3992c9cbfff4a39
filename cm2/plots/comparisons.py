"""Overviews of a table of methods: a heat map of differences, and mean ranks with their critical difference."""

from __future__ import annotations

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cm2.plots.results import WIDTH, compared, decided, first_metric, is_share, minus
from cm2.plots.style import COLOURS, INK, style


def heat_map(frame: pd.DataFrame, metric: str | None = None, reference: str = "CM2", level: float = 0.05) -> Figure:
    """Differences of every row to the reference in every block, as colours and numbers; a frame marks those whose corrected test decides.

    Args:
        frame: see ``cm2.plots.differences``.
        metric: one that the frame has; None: the first.
        reference: label of the row that the others are compared with.
        level: level of the test.

    Raises:
        ValueError: nothing was compared.
    """
    metric = metric or first_metric(frame)
    own, digits = compared(frame, metric), "+.3f" if is_share(metric) else "+.3g"
    own = own[own["row"] != reference]
    blocks = list(dict.fromkeys(zip(own["section"], own["task"], strict=True)))
    rows = list(dict.fromkeys(own["row"]))
    lines = {(line["row"], line["section"], line["task"]): line for _, line in own.iterrows()}
    values = np.array(
        [[lines[row, *block]["difference_estimate"] if (row, *block) in lines else np.nan for block in blocks] for row in rows]
    )
    limit = np.nanmax(np.abs(values)) or 1.0
    with style():
        figure, ax = plt.subplots(figsize=(max(2.0 + 0.75 * len(blocks), 4.8), 1.4 + 0.3 * len(rows)))
        image = ax.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
        for i, row in enumerate(rows):
            for j, block in enumerate(blocks):
                if np.isnan(values[i, j]):
                    continue
                strong = abs(values[i, j]) > 0.6 * limit
                ax.text(j, i, f"{values[i, j]:{digits}}", ha="center", va="center", color="white" if strong else "black", fontsize=9)
                if decided(lines[row, *block], level):
                    ax.add_patch(Rectangle((j - 0.46, i - 0.42), 0.92, 0.84, fill=False, edgecolor=COLOURS[2], linewidth=2.5))
        heads = [f"{fill(task, 12)}\n{fill(section, 12)}" for section, task in blocks]
        ax.set_xticks(range(len(blocks)), heads, fontsize=9)
        ax.set(yticks=range(len(rows)), yticklabels=rows)
        ax.tick_params(length=0)
        ax.xaxis.tick_top()
        bar = figure.colorbar(image, ax=ax, location="bottom", shrink=0.7, pad=0.03)
        bar.set_ticks([-limit, 0, limit], labels=[f"{-limit:{digits}}", "0", f"{limit:{digits}}"])
        bar.set_label(minus(metric, reference))
    return figure


def ranks(mean: pd.Series, apart: float) -> Figure:
    """Mean ranks on a line, the best on the left; a bar joins methods that are not distinct.

    Args:
        mean: mean rank by method.
        apart: difference of mean ranks beyond which two methods are distinct, see ``cm2.tables.ranks.critical_difference``.
    """
    mean = mean.sort_values()
    half = (len(mean) + 1) // 2
    groups = _groups(mean.to_numpy(), apart)
    with style():
        figure, ax = plt.subplots(figsize=(WIDTH, 1.1 + 0.2 * len(groups) + 0.3 * half))
        top = 0.35 * len(groups) + 0.6
        ax.set(xlim=(0.7 - 0.3 * len(mean), 0.3 + 1.3 * len(mean)), ylim=(-0.9 * half, top + 1.0))
        ax.hlines(0, 1, len(mean), color=INK, linewidth=1)
        for rank in range(1, len(mean) + 1):
            ax.vlines(rank, 0, 0.12, color=INK, linewidth=1)
            if len(mean) <= 10 or rank % 2:
                ax.text(rank, 0.2, str(rank), ha="center", va="bottom", fontsize=9)
        for place, (name, value) in enumerate(mean.items()):
            left = place < half
            depth = -0.8 * ((place if left else len(mean) - 1 - place) + 1)
            edge = 0.7 if left else len(mean) + 0.3
            ax.plot([value, value, edge], [0, depth, depth], color=INK, linewidth=0.7)
            beside, side = ((-3, 0), "right") if left else ((3, 0), "left")
            ax.annotate(fill(str(name), 18), (edge, depth), beside, textcoords="offset points", ha=side, va="center", fontsize=9)
        for level, (first, last) in enumerate(groups):
            ax.hlines(0.75 + 0.35 * level, mean.iloc[first] - 0.05, mean.iloc[last] + 0.05, color=COLOURS[0], linewidth=4)
        _scale(ax, apart, top + 0.75, len(mean))
        ax.axis("off")
    return figure


def _groups(mean: np.ndarray, apart: float) -> list[tuple[int, int]]:
    """First and last of every largest group of methods, in order, that lie within the critical difference."""
    found: list[tuple[int, int]] = []
    for first in range(len(mean)):
        last = int(np.flatnonzero(mean - mean[first] <= apart).max())
        if last > first and not (found and found[-1][1] >= last):
            found.append((first, last))
    return found


def _scale(ax: Axes, apart: float, height: float, count: int) -> None:
    end = min(1 + apart, count + 0.5)
    ax.hlines(height, 1, end, color=COLOURS[1], linewidth=2)
    ax.text((1 + end) / 2, height + 0.1, f"critical difference {apart:.1f}", ha="center", va="bottom", fontsize=9)
