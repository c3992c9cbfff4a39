"""Training histories."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from cm2.plots.style import INK, style


def alpha_over_epochs(histories: Mapping[str, pd.DataFrame], truth: float | None = None) -> Figure:
    """The copula parameter and its Kendall's τ over the epochs (the paper's Figure 3).

    Args:
        histories: runs by label, with columns ``epoch``, ``alpha`` and ``kendall_tau``.
        truth: the α the data were drawn from, where it is known (Gumbel).
    """
    with style():
        figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.9))
        for label, history in histories.items():
            axes[0].plot(history["epoch"], history["alpha"], marker="o", markersize=3, label=label)
            axes[1].plot(history["epoch"], history["kendall_tau"], marker="o", markersize=3, label=label)
        if truth is not None:
            for ax, value in zip(axes, (truth, 1 - 1 / truth), strict=True):
                ax.axhline(value, color=INK, linestyle="--", linewidth=1)
                # at the start, where curves that approach it from below are far away
                ax.annotate("truth", (0.02, value), xycoords=("axes fraction", "data"), ha="left", va="top", color=INK)
        for ax, label in zip(axes, (r"copula parameter $\alpha$", r"Kendall's $\tau = (\alpha - 1) / \alpha$"), strict=True):
            ax.set(xlabel="epoch", ylabel=label)
            ax.xaxis.get_major_locator().set_params(integer=True)
        if len(histories) > 1:
            axes[0].legend()
    return figure
