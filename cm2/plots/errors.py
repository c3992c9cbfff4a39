"""Errors of formulas against the truth."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from cm2.plots.style import COLOURS, INK, style


def error_strips(frame: pd.DataFrame, floor: float = 1e-17, ceiling: float = 1e2) -> Figure:
    """Errors of two or more formulas side by side, one dot per point; non-finite ones are drawn on a separate line at the top.

    Args:
        frame: columns ``panel``, ``family``, ``formula`` and ``error``; NaN or infinite where the formula gave no number.
        floor: smaller errors, and exact values, are drawn here.
        ceiling: larger errors are drawn here.
    """
    rng = np.random.default_rng(0)
    top = ceiling * 30
    names, formulas = list(dict.fromkeys(frame["panel"])), list(dict.fromkeys(frame["formula"]))
    families = list(dict.fromkeys(frame["family"]))
    with style():
        figure, axes = plt.subplots(1, len(names), figsize=(3.7 * len(names), 3.2), sharey=True, squeeze=False)
        for ax, name in zip(axes[0], names, strict=True):
            for k, (formula, marker) in enumerate(zip(formulas, "o^sD", strict=False)):
                part = frame[(frame["panel"] == name) & (frame["formula"] == formula)]
                error = part["error"].to_numpy()
                y = np.where(np.isfinite(error), np.clip(error, floor, ceiling), top)
                place = part["family"].map(families.index).to_numpy() + (k + 0.5) * 0.7 / len(formulas) - 0.35
                ax.scatter(place + rng.uniform(-0.1, 0.1, len(y)), y, 7, COLOURS[k], marker, alpha=0.5, linewidths=0, label=formula)
            ax.axhline(math.sqrt(ceiling * top), color=INK, linewidth=0.8)
            ax.set(yscale="log", title=name, xticks=range(len(families)), xticklabels=families, ylim=(floor / 3, top * 4))
        axes[0, 0].set(ylabel="error", yticks=[10.0**k for k in range(-16, 1, 4)] + [top])
        axes[0, 0].set_yticklabels([f"$10^{{{k}}}$" for k in range(-16, 1, 4)] + ["no number"])
        axes[0, 0].minorticks_off()
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(formulas), markerscale=2)
    return figure
