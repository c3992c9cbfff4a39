"""The paper's Figure 1, redrawn: the components of CM² and the data flow between them."""

from __future__ import annotations

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from cm2.plots.style import COLOURS, INK, style

MODALITIES = ((3.6, "series"), (2.2, "image"), (0.8, "note (absent)"))
ABSENT = 2
"""Position of the modality that is shown as missing."""


def overview() -> Figure:
    """Modalities, encoders, mixtures, copula, imputation, fusion and the two terms of the objective, from left to right."""
    with style():
        figure, ax = plt.subplots(figsize=(9.6, 4.6))
        ax.set(xlim=(0, 13.2), ylim=(0, 5.8), aspect="equal")
        ax.axis("off")
        _embeddings(ax)
        _law(ax)
        _prediction(ax)
    return figure


def _embeddings(ax: Axes) -> None:
    for place, (y, name) in enumerate(MODALITIES):
        here = place != ABSENT
        _box(ax, 1.0, y, 1.7, name, INK, dashed=not here)
        _box(ax, 3.2, y, 1.7, f"encoder {place + 1}", COLOURS[0], dashed=not here)
        _box(ax, 5.2, y, 1.1, rf"$z_{place + 1}$" if here else rf"$\hat z_{place + 1}$", COLOURS[0], dashed=not here)
        if here:
            _arrow(ax, (1.85, y), (2.35, y))
            _arrow(ax, (4.05, y), (4.65, y))


def _law(ax: Axes) -> None:
    for place, (y, _) in enumerate(MODALITIES):
        _box(ax, 7.4, y, 1.9, f"mixture $f_{place + 1}$", COLOURS[2])
        if place != ABSENT:
            _arrow(ax, (5.75, y), (6.45, y))
        _arrow(ax, (8.35, y), (9.05, 2.2 + 0.45 * (y - 2.2)), COLOURS[1])
    _box(ax, 9.8, 2.2, 1.5, "copula\n$c(\\cdot;\\alpha)$", COLOURS[1], height=2.0)
    y = MODALITIES[ABSENT][0]
    _arrow(ax, (6.45, y), (5.75, y), COLOURS[2], dashed=True)
    ax.text(6.1, y - 0.62, "draw, given\nthe others", ha="center", va="center", fontsize=8, color=INK)
    _arrow(ax, (10.55, 2.2), (11.25, 2.2), COLOURS[1])
    _box(ax, 12.1, 2.2, 1.7, "log-likelihood\n$\\lambda \\log f_O(z)$", COLOURS[1], height=0.95)


def _prediction(ax: Axes) -> None:
    y = 5.2
    _box(ax, 7.4, y, 1.9, "fusion LSTM", COLOURS[0])
    _box(ax, 9.8, y, 1.5, r"classifier $\hat y$", COLOURS[0])
    _box(ax, 12.1, y, 1.7, "task loss", COLOURS[3])
    _arrow(ax, (8.35, y), (9.05, y))
    _arrow(ax, (10.55, y), (11.25, y))
    ax.plot([5.2, 5.2], [MODALITIES[0][0] + 0.35, y], color=INK, linewidth=1.2)
    _arrow(ax, (5.2, y), (6.45, y))
    ax.text(4.95, y, r"$z_1, z_2, \hat z_3$", ha="right", va="center", fontsize=9, color=INK)
    ax.annotate(
        "ELBO",
        (12.1, 2.68),
        (12.1, 3.75),
        ha="center",
        va="center",
        color=INK,
        arrowprops={"arrowstyle": "<-", "color": INK, "linewidth": 1.2},
    )
    _arrow(ax, (12.1, y - 0.35), (12.1, 3.95))


def _box(ax: Axes, x: float, y: float, width: float, text: str, colour: str, height: float = 0.7, dashed: bool = False) -> None:
    corner = (x - width / 2, y - height / 2)
    ax.add_patch(
        FancyBboxPatch(
            corner,
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=(*_rgb(colour), 0.10),
            edgecolor=colour,
            linewidth=1.4,
            linestyle="--" if dashed else "-",
        )
    )
    ax.text(x, y, text, ha="center", va="center", fontsize=9, color=INK)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = INK, dashed: bool = False) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.2, "linestyle": "--" if dashed else "-"})


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
