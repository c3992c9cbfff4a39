"""The paper's Figure 1, redrawn: the components of CM² and the data flow between them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyBboxPatch, Rectangle

from cm2.plots.style import COLOURS, INK, style

ROWS = (4.0, 2.45, 0.9)
"""Heights of the modalities' rows; the last one is shown as missing."""
DARK = "#1A1A1A"
BLUE, ORANGE, GREEN, PINK = COLOURS[:4]
TOP, HEIGHT, BUS = 5.75, 0.95, 6.0


def overview() -> Figure:
    """Modalities, encoders, mixtures, copula, imputation, fusion and the two terms of the objective, from left to right.

    The third modality is missing: its embedding comes out of the copula, given the others, and enters the fusion with them.
    """
    with style():
        figure, ax = plt.subplots(figsize=(10.4, 4.9))
        ax.set(xlim=(0, 14.4), ylim=(0, 6.6), aspect="equal")
        ax.axis("off")
        _embeddings(ax)
        _law(ax)
        _prediction(ax)
    return figure


def _embeddings(ax: Axes) -> None:
    pictures: tuple[tuple[str, Callable[[Axes, float, float], None] | None], ...] = (("series", _series), ("image", _image), ("note", None))
    for place, (y, (name, picture)) in enumerate(zip(ROWS, pictures, strict=True), 1):
        here = picture is not None
        _box(ax, 1.0, y, 1.7, "" if here else f"{name}\nmissing", INK, dashed=not here)
        if picture is not None:
            picture(ax, 0.62, y)
            ax.text(1.12, y, name, ha="left", va="center", fontsize=9.5, color=DARK)
            _arrow(ax, (1.9, y), (2.3, y))
            _arrow(ax, (3.9, y), (4.35, y))
            ax.plot(BUS, y, "o", color=INK, markersize=3.5)
        _box(ax, 3.1, y, 1.5, f"encoder {place}", BLUE, dashed=not here)
        _box(ax, 4.95, y, 1.1, rf"$z_{place}$" if here else rf"$\hat z_{place}$", BLUE, size=12)


def _law(ax: Axes) -> None:
    ports = (3.15, 2.45, 1.75)
    for place, (y, port) in enumerate(zip(ROWS, ports, strict=True), 1):
        _box(ax, 7.75, y, 2.1, "", GREEN)
        _mixture(ax, 7.28, y - 0.27, shift=place)
        ax.text(7.95, y, f"mixture\n$f_{place}$, $K = 3$", ha="left", va="center", fontsize=8.5, color=DARK, linespacing=1.25)
        middle = ((8.85 + 9.85) / 2, (y + port) / 2 + (0.22 if y >= port else -0.3))
        if y != ROWS[-1]:
            _arrow(ax, (5.55, y), (6.65, y))
            _arrow(ax, (8.85, y), (9.85, port))
            ax.text(*middle, rf"$u_{place}$", ha="center", va="bottom", fontsize=10, color=INK)
        else:
            _arrow(ax, (9.85, port), (8.85, y), ORANGE, dashed=True)
            ax.text(middle[0] + 0.05, middle[1] + 0.02, rf"$\hat u_{place} \mid u_1, u_2$", ha="left", va="top", fontsize=10, color=INK)
            _arrow(ax, (6.65, y - 0.2), (5.55, y - 0.2), ORANGE, dashed=True)
            ax.text(6.12, y - 0.36, "imputation", ha="center", va="top", fontsize=9, color=INK)
    _box(ax, 10.7, 2.45, 1.6, "", ORANGE, height=2.2)
    _contours(ax, 10.7, 2.75)
    ax.text(10.7, 1.72, "copula $c$", ha="center", va="center", fontsize=10, color=DARK)
    _arrow(ax, (11.55, 2.45), (12.05, 2.45))
    _box(ax, 13.15, 2.45, 2.1, "log-likelihood\n$\\log f_O(z_1, z_2)$", ORANGE)


def _prediction(ax: Axes) -> None:
    lowest = ROWS[-1] + 0.2
    ax.plot([5.55, BUS], [lowest, lowest], color=INK, linewidth=1.3)
    ax.plot([BUS, BUS], [lowest, TOP], color=INK, linewidth=1.3)
    _arrow(ax, (BUS, TOP), (6.65, TOP))
    ax.text(BUS - 0.12, TOP, r"$z_1,\ z_2,\ \hat z_3$", ha="right", va="center", fontsize=11, color=INK)
    _box(ax, 7.75, TOP, 2.1, "fusion", BLUE)
    _box(ax, 10.7, TOP, 1.6, "classifier\n$\\hat y$", BLUE)
    _box(ax, 13.15, TOP, 2.1, "task loss", PINK)
    _arrow(ax, (8.85, TOP), (9.85, TOP))
    _arrow(ax, (11.55, TOP), (12.05, TOP))
    _box(ax, 13.15, 4.1, 2.1, "objective:\ntask loss $- \\lambda \\log f_O$", INK)
    _arrow(ax, (13.15, TOP - HEIGHT / 2 - 0.05), (13.15, 4.1 + HEIGHT / 2 + 0.05))
    _arrow(ax, (13.15, 2.45 + HEIGHT / 2 + 0.05), (13.15, 4.1 - HEIGHT / 2 - 0.05))


def _box(
    ax: Axes, x: float, y: float, width: float, text: str, colour: str, height: float = HEIGHT, dashed: bool = False, size: float = 9.5
) -> None:
    # an opaque tint under dark words is readable on a white page and on a black one
    tint = tuple(1 - 0.14 * (1 - c) for c in _rgb(colour))
    line = "--" if dashed else "-"
    corner, shape = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.14"
    ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=shape, facecolor=tint, edgecolor=colour, linewidth=1.6, linestyle=line))
    ax.text(x, y, text, ha="center", va="center", fontsize=size, color=DARK, linespacing=1.3)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = INK, dashed: bool = False) -> None:
    look = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, "linestyle": "--" if dashed else "-", "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=look)


def _series(ax: Axes, x: float, y: float) -> None:
    t = np.linspace(-1, 1, 25)
    for offset, phase in ((0.14, 0.0), (-0.14, 1.7)):
        ax.plot(x + 0.36 * t, y + offset + 0.11 * np.sin(5 * t + phase) * np.cos(2 * t), color=DARK, linewidth=1.0)


def _image(ax: Axes, x: float, y: float) -> None:
    ax.add_patch(Rectangle((x - 0.3, y - 0.32), 0.6, 0.64, facecolor=DARK, edgecolor="none"))
    for side in (-0.13, 0.13):
        ax.add_patch(Ellipse((x + side, y), 0.18, 0.44, facecolor="#8A8A8A", edgecolor="none"))


def _mixture(ax: Axes, x: float, y: float, shift: int) -> None:
    t = np.linspace(-1, 1, 60)
    weights = np.roll([0.55, 0.9, 0.35], shift)
    bumps = sum(w * np.exp(-(((t - m) / 0.22) ** 2) / 2) for w, m in zip(weights, (-0.6, 0.0, 0.62), strict=True))
    ax.fill_between(x + 0.42 * t, y, y + 0.6 * np.asarray(bumps), color=GREEN, alpha=0.45, linewidth=0)


def _contours(ax: Axes, x: float, y: float) -> None:
    for scale in (1.0, 0.66, 0.33):
        ax.add_patch(Ellipse((x, y), 1.25 * scale, 0.55 * scale, angle=42, facecolor=ORANGE, alpha=0.25, edgecolor="none"))
    ax.add_patch(Rectangle((x - 0.55, y - 0.55), 1.1, 1.1, facecolor="none", edgecolor=DARK, linewidth=0.8))


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
