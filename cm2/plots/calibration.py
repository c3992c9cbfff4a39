"""Reliability diagrams: what was predicted against what was observed, with how many stays there are of each prediction below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from cm2.calibration import Bin
from cm2.errors import InputError
from cm2.plots.style import COLOURS, INK, style

_MARKERS = "os^Dv"
_STEPS = 30
"""Bars of a histogram."""


def reliability(
    curves: Mapping[str, Mapping[str, Sequence[Bin]]],
    predictions: Mapping[str, Mapping[str, ArrayLike]],
    of: str = "probability",
) -> Figure:
    """One panel for each method, one curve in it for each group of stays; below it the distribution of the group's predictions.

    A curve above the diagonal: predictions are too low. Bars are 95 % intervals over the stays.

    Args:
        curves: groups of neighbouring predictions by panel and group, see `cm2.calibration.reliability`.
        predictions: all predictions ``(n,)`` by panel and group.
        of: what is predicted, for the labels of the axes.

    Raises:
        InputError: no curve, more groups than colours, or curves without their predictions.
    """
    groups = list(dict.fromkeys(name for panel in curves.values() for name in panel))
    if not groups or len(groups) > len(_MARKERS):
        raise InputError(f"reliability: {len(groups)} groups of stays; give 1 to {len(_MARKERS)}")
    if missing := [(panel, name) for panel, found in curves.items() for name in found if name not in predictions.get(panel, {})]:
        raise InputError(f"reliability: no predictions of {missing[0][1]} in {missing[0][0]}; give those of every curve")
    with style():
        size = (2.7 * len(curves) + 0.6, 3.9)
        figure, axes = plt.subplots(2, len(curves), figsize=size, sharex=True, sharey="row", squeeze=False, height_ratios=[4, 1])
        for (panel, found), above, below in zip(curves.items(), axes[0], axes[1], strict=True):
            for name, bins in found.items():
                at = groups.index(name)
                _curve(above, bins, COLOURS[at], _MARKERS[at], name)
            _histogram(below, {name: np.asarray(predictions[panel][name]) for name in found}, groups)
            above.set_title(panel)
            below.set_xlabel(f"predicted {of}")
        ends = [end for panel in curves.values() for bins in panel.values() for end in _ends(bins)]
        room = 0.03 * (max(ends) - min(ends)) or 0.5
        limits = (min(ends) - room, max(ends) + room)
        for above in axes[0]:
            above.plot(limits, limits, color=INK, linewidth=0.8, zorder=0)
            above.set(xlim=limits, ylim=limits)
        axes[0, 0].set_ylabel(f"observed {of}")
        axes[1, 0].set(ylabel="stays", yticks=[])
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(groups))
    return figure


def _ends(bins: Sequence[Bin]) -> list[float]:
    found = [end for part in bins for end in (part.predicted, part.observed.estimate, part.observed.low, part.observed.high)]
    return [end for end in found if np.isfinite(end)]


def _curve(ax: Axes, bins: Sequence[Bin], colour: str, marker: str, name: str) -> None:
    x = [part.predicted for part in bins]
    ax.vlines(x, [part.observed.low for part in bins], [part.observed.high for part in bins], color=colour, linewidth=1, alpha=0.6)
    ax.plot(x, [part.observed.estimate for part in bins], marker=marker, markersize=4, color=colour, label=name)


def _histogram(ax: Axes, predictions: Mapping[str, np.ndarray], groups: list[str]) -> None:
    edges = np.histogram_bin_edges(np.concatenate(list(predictions.values())), _STEPS)
    for name, values in predictions.items():
        ax.hist(values, edges.tolist(), histtype="step", color=COLOURS[groups.index(name)])
    ax.spines["left"].set_visible(False)
