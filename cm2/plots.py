"""How figures look: colour-blind safe, transparent, the grey of the axes readable on white and on black."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.distributions import Distribution

INK = "#767676"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette without yellow and black, which vanish on white and on black."""

STYLE = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "savefig.transparent": True,
    "figure.constrained_layout.use": True,
    "figure.dpi": 120,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": mpl.cycler(color=COLOURS),
    "axes.titlesize": "medium",
    "font.size": 10,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "cm2",
    "pdf.fonttype": 42,
}


@contextmanager
def style() -> Iterator[None]:
    """The house style for the figures drawn inside."""
    with mpl.rc_context(STYLE):
        yield


def use_style() -> None:
    """The house style and vector output for the rest of a notebook."""
    mpl.rcParams.update(STYLE)
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:
        return
    set_matplotlib_formats("svg", bbox_inches=None, metadata={"Date": None})


@torch.no_grad()
def density_grid(law: Distribution, points: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """A bivariate copula's density on cell midpoints.

    Args:
        law: a copula distribution of dimension 2.
        points: cells along each axis.

    Returns:
        The midpoints ``(points,)`` and the density ``(points, points)``, first index u₂.
    """
    u = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    grid = torch.stack(torch.meshgrid(u, u, indexing="xy"), dim=-1)
    return u.numpy(), law.log_prob(grid).exp().numpy()


def copula_densities(laws: Mapping[str, Distribution], levels: Sequence[float] = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16)) -> Figure:
    """Contours of bivariate copula densities side by side, on one logarithmic colour scale.

    Args:
        laws: copula distributions of dimension 2 by panel title.
        levels: contour levels of the density, increasing.
    """
    with style():
        figure, axes = plt.subplots(1, len(laws), figsize=(2.6 * len(laws) + 0.6, 2.9), sharex=True, sharey=True, squeeze=False)
        norm = mpl.colors.LogNorm(levels[0], levels[-1])
        for ax, (title, law) in zip(axes[0], laws.items(), strict=True):
            u, density = density_grid(law)
            filled = ax.contourf(u, u, density, levels=levels, norm=norm, cmap="cividis", extend="both")
            ax.set(title=title, xlabel="$u_1$", aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], xlim=(0, 1), ylim=(0, 1))
        axes[0, 0].set_ylabel("$u_2$")
        bar = figure.colorbar(filled, ax=axes[0].tolist(), label="copula density $c(u_1, u_2)$", shrink=0.85, format="%g")
        bar.outline.set_visible(False)
    return figure


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
                ax.annotate("truth", (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=INK)
        for ax, label in zip(axes, (r"copula parameter $\alpha$", r"Kendall's $\tau = (\alpha - 1) / \alpha$"), strict=True):
            ax.set(xlabel="epoch", ylabel=label)
            ax.xaxis.get_major_locator().set_params(integer=True)
        if len(histories) > 1:
            axes[0].legend()
    return figure


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
