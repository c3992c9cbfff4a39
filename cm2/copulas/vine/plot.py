"""Figures of the trees of a vine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.families.rotated import RotatedDistribution
from cm2.copulas.vine.law import VineDistribution
from cm2.copulas.vine.module import Vine
from cm2.copulas.vine.report import VineSelection
from cm2.copulas.vine.structure import Edge, VineStructure
from cm2.environment.extras import require
from cm2.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

INK, POSITIVE, NEGATIVE = "#767676", "#0072B2", "#D55E00"
_NODE, _LABEL = 9.0, 8.0  # font sizes, points
_GAP, _MARGIN, _TITLE, _WIDEST = 0.16, 0.12, 0.3, 9.5  # inches

Links = list[tuple[int, int]]


def plot_trees(vine: VineSelection | Vine | VineDistribution | VineStructure, names: Sequence[str] | None = None) -> Figure:
    r"""Plots one panel per tree, with its edges and nodes; from the second tree on the nodes are the edges of the previous tree.

    If there are pair copulas, each edge shows the family and Kendall's τ; its width grows with :math:`|\tau|`, and it is blue for positive
    τ, orange for negative τ, dashed for independence. The layout is that of the equal-angle algorithm for trees (Felsenstein 2004,
    chapter 34), rotated and scaled such that no two labels touch.

    Args:
        vine: a selection, a module, its distribution, or a structure alone.
        names: names of the coordinates; by default 0, 1, ...

    Returns:
        The figure, without background, for light and dark pages.

    Raises:
        TypeError: a vine of another type.
        ValueError: a number of names other than that of the coordinates, a vine without trees, or a distribution with a batch shape.
    """
    require("matplotlib")
    from matplotlib import pyplot as plt

    structure, laws = _parts(vine)
    names = [str(v) for v in range(structure.dim)] if names is None else [str(name) for name in names]
    if len(names) != structure.dim:
        raise InputError(f"{len(names)} names given for a vine of {structure.dim} coordinates")
    if not structure.trees:
        raise InputError("the vine is truncated to no tree at all; there is nothing to draw")
    panels = [_Panel(structure, t, laws, names) for t in range(len(structure.trees))]
    rows = _rows([panel.size[0] for panel in panels])
    heights = [max(panels[k].size[1] for k in row) for row in rows]
    width = max(sum(panels[k].size[0] for k in row) for row in rows)
    figure = plt.figure(figsize=(width, sum(heights)), facecolor="none", layout="none")
    top = sum(heights)
    for row, height in zip(rows, heights, strict=True):
        left = (width - sum(panels[k].size[0] for k in row)) / 2
        for k in row:
            share, place = panels[k].size[0], (left / width, (top - height) / sum(heights))
            panels[k].draw(figure.add_axes((*place, share / width, height / sum(heights))), share, height)
            left += share
        top -= height
    return figure


class _Panel:
    """One tree, laid out in inches."""

    def __init__(self, structure: VineStructure, tree: int, laws: dict[Edge, CopulaDistribution], names: Sequence[str]) -> None:
        edges = structure.trees[tree]
        below = {edge.union: _edge_name(edge, names) for edge in structure.trees[tree - 1]} if tree else {}
        nodes = below or {frozenset((v,)): name for v, name in enumerate(names)}
        order = list(nodes)
        self.tree = tree
        end = lambda v, edge: order.index(frozenset((v, *edge.given)))
        self.links = [(end(edge.first, edge), end(edge.second, edge)) for edge in edges]
        self.taus = [laws[edge].kendall_tau.item() if laws else math.nan for edge in edges]
        self.names = list(nodes.values())
        self.labels = [_label(laws[edge], tau) if laws else "" for edge, tau in zip(edges, self.taus, strict=True)]
        boxes = [_text_size(name, _NODE, 0.12) for name in self.names] + [_text_size(label, _LABEL, 0.04) for label in self.labels]
        self.centres = _arranged(self.links, np.array(boxes))
        halves = np.array(boxes) / 2
        low, high = (self.centres - halves).min(0), (self.centres + halves).max(0)
        title = _text_size(f"Tree {tree}", _NODE + 1, 0.0)[0]
        self.middle = (low + high) / 2
        self.size = (max(high[0] - low[0], title) + 2 * _MARGIN, high[1] - low[1] + 2 * _MARGIN + _TITLE)

    def draw(self, ax: Axes, width: float, height: float) -> None:
        """Draws the panel on axes of the given size in inches, with the title at the top."""
        ax.set(xlim=(-width / 2, width / 2), ylim=(-height / 2, height / 2))
        ax.set_axis_off()
        ax.text(0, height / 2 - _MARGIN, f"Tree {self.tree}", ha="center", va="top", fontsize=_NODE + 1, color=INK)
        centres = self.centres - self.middle - (0, _TITLE / 2)
        box = {"boxstyle": "round,pad=0.35", "facecolor": "none", "edgecolor": INK, "linewidth": 0.9}
        empty = {"boxstyle": "square,pad=0.15", "facecolor": "none", "edgecolor": "none"}

        # texts are drawn before the lines, which end at the boxes: a box gets its size when its text is drawn
        def write(place: np.ndarray, text: str, size: float, frame: dict[str, Any]) -> Text:
            return ax.text(
                place[0], place[1], text, ha="center", va="center", fontsize=size, color=INK, bbox=frame, zorder=1, linespacing=1.15
            )

        count = len(self.names)
        texts = [write(place, name, _NODE, box) for place, name in zip(centres[:count], self.names, strict=True)]
        for k, (i, j) in enumerate(self.links):
            middle = write(centres[count + k], self.labels[k], _LABEL, empty) if self.labels[k] else None
            ends = [(texts[i], middle), (middle, texts[j])] if middle else [(texts[i], texts[j])]
            for start, end in ends:
                _line(ax, start, end, self.taus[k])


def _line(ax: Axes, start: Text, end: Text, tau: float) -> None:
    """Draws the line from the box of one text to that of another."""
    colour = INK if math.isnan(tau) or tau == 0 else POSITIVE if tau > 0 else NEGATIVE
    line = {"arrowstyle": "-", "color": colour, "linewidth": 1.2 if math.isnan(tau) else 0.9 + 3.5 * abs(tau), "shrinkA": 0, "shrinkB": 0}
    line |= {"patchA": start.get_bbox_patch(), "patchB": end.get_bbox_patch(), "linestyle": "--" if tau == 0 else "-"}
    ax.annotate("", end.get_position(), start.get_position(), arrowprops=line, zorder=2, annotation_clip=False)


def _parts(vine: object) -> tuple[VineStructure, dict[Edge, CopulaDistribution]]:
    """The structure and, if there are any, the pair copulas by edge."""
    vine = vine.vine if isinstance(vine, VineSelection) else vine
    if isinstance(vine, VineStructure):
        return vine, {}
    with torch.no_grad():
        law = vine(validate_args=False) if isinstance(vine, Vine) else vine
    if not isinstance(law, VineDistribution):
        raise TypeError(f"plot_trees draws a VineSelection, Vine, VineDistribution or VineStructure; {type(vine).__name__} given")
    if law.batch_shape:
        raise InputError(f"the vine has batch shape {tuple(law.batch_shape)}; plot one vine of the batch, or the structure alone")
    return law.structure, dict(zip(law.structure.edges, law.laws, strict=True))


def _edge_name(edge: Edge, names: Sequence[str]) -> str:
    comma = "," if max(map(len, names)) < 3 else ", "
    pair, given = comma.join(names[v] for v in (edge.first, edge.second)), comma.join(names[v] for v in edge.given)
    return pair + (" | " if comma == ", " else "|") * bool(given) + given


def _label(law: CopulaDistribution, tau: float) -> str:
    inside, rotation = (law.law, law.rotation) if isinstance(law, RotatedDistribution) else (law, 0)
    family = type(inside).__name__.removesuffix("Distribution").lower()
    turned = f"{family} {rotation}°" if rotation else family
    return turned if tau == 0 else f"{turned}\n{tau:.2f}".replace("-", "\N{MINUS SIGN}")


def _text_size(text: str, size: float, padding: float) -> tuple[float, float]:
    """Approximate width and height of a text in inches."""
    lines = text.split("\n")
    return max(map(len, lines)) * 0.62 * size / 72 + 2 * padding, len(lines) * 1.25 * size / 72 + 2 * padding


def _rows(widths: Sequence[float]) -> list[list[int]]:
    """Distributes panels in order over rows no wider than a page (or a single panel)."""
    rows: list[list[int]] = [[]]
    for k, width in enumerate(widths):
        if rows[-1] and sum(widths[i] for i in rows[-1]) + width > _WIDEST:
            rows.append([])
        rows[-1].append(k)
    return rows


def _arranged(links: Links, boxes: np.ndarray) -> np.ndarray:
    """Centres of the nodes' and the edges' boxes, (nodes + edges, 2) inches, in the rotation that needs the least space.

    For each rotation the scale is the smallest at which any two boxes are a gap apart, in one coordinate or the other.
    """
    nodes = equal_angle_layout(links)
    points = np.concatenate([nodes, [(nodes[i] + nodes[j]) / 2 for i, j in links]])
    first, second = np.triu_indices(len(points), 1)
    seen = boxes.prod(1) > 0
    first, second = (each[seen[first] & seen[second]] for each in (first, second))
    needed = (boxes[first] + boxes[second]) / 2 + _GAP
    best, least = points, math.inf
    for angle in np.linspace(0, math.pi, 72, endpoint=False):
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        turned = points @ turn
        apart = np.maximum(np.abs(turned[first] - turned[second]), 1e-9)
        unit = (needed / apart).min(1).max()
        room = (np.ptp(unit * turned, axis=0) + boxes.max(0)).sum()
        if room < least:
            best, least = unit * turned, room
    return best


def equal_angle_layout(links: Links) -> np.ndarray:
    """Positions (nodes, 2) of the nodes of a tree, with edges of length 1 that do not cross: the angle of a branch is proportional to its
    number of leaves.
    """
    neighbours: dict[int, list[int]] = {}
    for i, j in links:
        neighbours.setdefault(i, []).append(j)
        neighbours.setdefault(j, []).append(i)
    places = np.zeros((len(neighbours), 2))

    def leaves(v: int, before: int) -> int:
        return max(1, sum(leaves(w, v) for w in neighbours[v] if w != before))

    def depth(v: int, before: int) -> int:
        return 1 + max((depth(w, v) for w in neighbours[v] if w != before), default=0)

    def spread(v: int, before: int, start: float, angle: float) -> None:
        branches = [w for w in neighbours[v] if w != before]
        share = angle / max(1, sum(leaves(w, v) for w in branches))
        for w in branches:
            wedge = share * leaves(w, v)
            places[w] = places[v] + (math.cos(start + wedge / 2), math.sin(start + wedge / 2))
            convex = min(wedge, math.pi)  # only a convex wedge contains all edges drawn within it
            spread(w, v, start + (wedge - convex) / 2, convex)
            start += wedge

    spread(min(neighbours, key=lambda v: depth(v, -1)), -1, 0.0, 2 * math.pi)
    return places
