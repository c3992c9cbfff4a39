"""The flow chart of a cohort: stays left and dropped at each step."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from cm2.cohorts.disclosure import SUBSET
from cm2.errors import InputError
from cm2.escape import drawn
from cm2.plots.style import COLOURS, INK, style

WIDTH, HEIGHT, PITCH = 3.7, 0.52, 0.8
LETTERS = 44
"""Characters of a step's name per line of its box."""


def flow_chart(steps: Sequence[Mapping[str, Any]]) -> Figure:
    """One box per step with the number of stays left; the number dropped is shown to its right.

    A step that only names a subset (its note states that the others stay in the cohort) has a dashed box, with the number of stays
    outside the subset beside it.

    Args:
        steps: of a manifest's ``flow``: ``step``, ``stays``, ``dropped`` and ``note`` each.

    Raises:
        ValueError: there is no step.
    """
    if not steps:
        raise InputError("flow_chart: no step; give the flow of a manifest")
    with style():
        figure, ax = plt.subplots(figsize=(6.6, PITCH * len(steps) + 0.1))
        ax.set(xlim=(-0.1, 6.5), ylim=(-PITCH * (len(steps) - 1) - HEIGHT / 2 - 0.05, HEIGHT / 2 + 0.05), aspect="equal")
        ax.axis("off")
        for place, step in enumerate(steps):
            y, subset = -PITCH * place, SUBSET in str(step.get("note", ""))
            ax.add_patch(
                FancyBboxPatch(
                    (0, y - HEIGHT / 2),
                    WIDTH,
                    HEIGHT,
                    boxstyle="round,pad=0,rounding_size=0.08",
                    facecolor="none",
                    edgecolor=COLOURS[0],
                    linewidth=1.4,
                    linestyle="--" if subset else "-",
                )
            )
            said = "\n".join([*textwrap.wrap(drawn(step["step"]), LETTERS), f"{step['stays']:,}"])
            size, spacing = (9, 1.25) if said.count("\n") < 2 else (7.5, 1.15)
            ax.text(WIDTH / 2, y, said, ha="center", va="center", fontsize=size, color=INK, linespacing=spacing)
            if place:
                top = y + PITCH - HEIGHT / 2
                arrow = {"arrowstyle": "->", "color": INK, "linewidth": 1.2, "linestyle": "--" if subset else "-"}
                ax.annotate("", (WIDTH / 2, y + HEIGHT / 2), (WIDTH / 2, top), arrowprops=arrow)
            if step["dropped"]:
                word = "without" if subset else "dropped"
                middle = y + PITCH / 2
                ax.plot([WIDTH / 2, WIDTH + 0.25], [middle, middle], color=INK, linewidth=0.8, linestyle=":")
                ax.text(WIDTH + 0.35, middle, f"{step['dropped']:,} {word}", ha="left", va="center", fontsize=9, color=COLOURS[1])
    return figure
