"""Lines, clouds of points and grids of panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cm2.plots.style import COLOURS, style


def panels(titles: Sequence[str], columns: int, labels: tuple[str, str], side: float = 2.35) -> tuple[Figure, np.ndarray]:
    """A grid of square panels that share their axes, labelled on the outside only.

    Args:
        titles: one per panel.
        columns: number of columns; the last row may have fewer.
        labels: of the horizontal and the vertical axis.
        side: of a panel, in inches.

    Returns:
        The figure and its panels, (len(titles),).
    """
    rows = -(-len(titles) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(side * columns + 0.4, side * rows + 0.4), sharex=True, sharey=True, squeeze=False)
    axes = axes.ravel()
    for place, ax in enumerate(axes):
        ax.set_visible(place < len(titles))
    for place, (ax, title) in enumerate(zip(axes, titles, strict=False)):
        ax.set(title=title, aspect="equal")
        if place + columns >= len(titles):
            ax.set_xlabel(labels[0])
            ax.tick_params(labelbottom=True)
        if place % columns == 0:
            ax.set_ylabel(labels[1])
    return figure, axes[: len(titles)]


def curves(frame: pd.DataFrame, x: str, ys: Mapping[str, str], xlabel: str, ylabel: str) -> Figure:
    """Columns of a table as labelled lines.

    Args:
        frame: the table.
        x: column of the horizontal axis.
        ys: column to legend label.
        xlabel: with its unit.
        ylabel: with its unit.
    """
    with style():
        figure, ax = plt.subplots(figsize=(4.8, 2.9))
        for (column, label), line in zip(ys.items(), ("-", "--", "-.", ":") * 3, strict=False):
            ax.plot(frame[x], frame[column], line, label=label)
        ax.set(xlabel=xlabel, ylabel=ylabel)
        ax.legend()
    return figure


def scatter(ax: Axes, points: np.ndarray, xlabel: str, ylabel: str, title: str = "", colour: str = COLOURS[0]) -> None:
    """A cloud of points ``(n, 2)`` with labelled axes, rasterised so that the vector file stays small."""
    ax.scatter(points[:, 0], points[:, 1], s=3, alpha=0.4, linewidths=0, color=colour, rasterized=True)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
