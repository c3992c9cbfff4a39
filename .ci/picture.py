"""Draw the rooms of the package and their imports: ``.venv/bin/python .ci/picture.py`` writes ``figures/architecture.svg``.

Floors are those of ``tests/test_layers.py``, imports are read from the code. An arrow that follows from others is left out: ``runs``
imports ``methods``, which imports ``cohorts``, so nothing is drawn from ``runs`` to ``cohorts``.
"""

import ast
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests import test_layers  # noqa: E402

PICTURE = ROOT / "figures" / "architecture.svg"
PREPARATION = "data_prep"
BOX, HEIGHT, ROW, GAP, MARGIN = 100, 28, 56, 18, 16
LABEL = 74
"""Width at the left for the names of floors."""
Edge = tuple[str, str]
Graph = Mapping[str, set[str]]
STYLE = """
text { font: 13px system-ui, sans-serif; text-anchor: middle; dominant-baseline: central; fill: #1f2328; }
text.floor { font-size: 11px; text-anchor: start; fill: #6e7781; }
rect.room { fill: #ffffff; stroke: #6e7781; }
rect.floor { fill: #6e7781; fill-opacity: 0.08; }
path { fill: none; stroke: #6e7781; stroke-width: 1.2; }
path.later { stroke-dasharray: 4 3; }
marker path { fill: #6e7781; stroke: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  text.floor { fill: #9198a1; }
  rect.room { fill: #161b22; stroke: #9198a1; }
  path { stroke: #9198a1; }
  marker path { fill: #9198a1; }
}
"""


def floors() -> list[list[str]]:
    """The floors from the ground up, as the lines of ROOMS in ``tests/test_layers.py`` group the rooms."""
    tree = ast.parse(Path(test_layers.__file__).read_text(encoding="utf-8"))
    values = (n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "ROOMS")
    return [list(ast.literal_eval(line.value)) for line in next(values).elts]


def imports() -> dict[str, set[str]]:
    """Which rooms each room imports, those for the type checker included; of data_prep those of cm2."""
    rooms: dict[str, set[str]] = {name: set() for name in (*test_layers.ROOMS, PREPARATION)}
    for module in test_layers.SOURCES:
        own = test_layers.room(module) if module in test_layers.PACKAGE else PREPARATION
        found = {test_layers.room(name) for name in test_layers.of("cm2", test_layers.imported(module, types=True))}
        if own:
            rooms[own] |= found - {own, ""}
    return rooms


def found_at_run_time() -> set[str]:
    """Rooms that look data_prep up by name."""
    return {test_layers.room(m) for m in test_layers.PACKAGE if any(map(test_layers.names_data_prep, ast.walk(test_layers.TREES[m])))}


def needed(graph: Graph) -> list[Edge]:
    """The edges that do not follow from others (the transitive reduction), sorted."""

    def reached(name: str) -> set[str]:
        return graph[name].union(*map(reached, graph[name]))

    return sorted((a, b) for a in graph for b in graph[a] if not any(b in reached(other) for other in graph[a] - {b}))


def rows(edges: Sequence[Edge], groups: Sequence[Sequence[str]]) -> tuple[dict[str, int], list[int]]:
    """The row of every room from the ground up, above all it imports, and the number of rows of each floor; no row without an arrow."""
    place: dict[str, int] = {}
    heights, ground, alone = [], 0, set().union(*groups) - {name for edge in edges for name in edge}
    for group in groups:
        level: dict[str, int] = {}
        for name in (name for name in group if name not in alone):
            level[name] = max((level[b] + 1 for a, b in edges if a == name and b in level), default=0)
        place |= {name: ground + height for name, height in level.items()}
        heights.append(max(level.values()) + 1)
        ground += heights[-1]
    place[PREPARATION] = max(place[b] for a, b in edges if a == PREPARATION) + 1
    return place, heights


def chains(edges: Iterable[Edge], place: Mapping[str, int]) -> list[list[tuple[str, int]]]:
    """Each edge as points from top to bottom: a room, a bend in every row between, a room."""
    return [[(a, place[a]), *((f"{a} {b}", row) for row in range(place[a] - 1, place[b], -1)), (b, place[b])] for a, b in edges]


def arrange(lines: Sequence[Sequence[tuple[str, int]]], place: Mapping[str, int]) -> dict[tuple[str, int], float]:
    """Horizontal places: rows are ordered by the mean place of the neighbours, then pulled towards it as far as the gaps allow."""
    points = sorted({*((name, row) for name, row in place.items()), *(point for line in lines for point in line)}, key=lambda p: p[::-1])
    near: dict[tuple[str, int], list[tuple[int, tuple[str, int]]]] = {point: [] for point in points}
    for line in lines:
        for above, below in pairwise(line):
            pull = (1, 2, 8)[sum(name not in place for name, _ in (above, below))]  # long lines become straight (Gansner et al. 1993)
            near[above].append((pull, below))
            near[below].append((pull, above))
    levels = [[p for p in points if p[1] == row] for row in range(max(place.values()) + 1)]
    x = {point: float(BOX * i) for level in levels for i, point in enumerate(level)}

    def wanted(point: tuple[str, int]) -> float:
        weight = sum(pull for pull, _ in near[point])
        return sum(pull * x[other] for pull, other in near[point]) / weight if weight else x[point]

    for sweep in range(80):
        for level in levels[:: 1 if sweep % 2 else -1]:
            if sweep < 40:
                level.sort(key=lambda p: (wanted(p), p))
            x |= dict(zip(level, spaced([wanted(p) for p in level], [width(p, place) for p in level]), strict=True))
    left = min(x[p] - width(p, place) / 2 for p in points)
    return {p: x[p] - left for p in points}


def width(point: tuple[str, int], place: Mapping[str, int]) -> int:
    """Of a room, or of a line that passes."""
    return BOX if point[0] in place else 8


def spaced(wanted: Sequence[float], widths: Sequence[int]) -> list[float]:
    """The places in this order nearest to the wanted ones (least squares) that leave a gap between neighbours."""
    offsets = [0.0]
    for a, b in pairwise(widths):
        offsets.append(offsets[-1] + (a + b) / 2 + GAP)
    pools: list[list[float]] = []
    for value in (w - o for w, o in zip(wanted, offsets, strict=True)):
        pools.append([value])
        while len(pools) > 1 and sum(pools[-2]) / len(pools[-2]) > sum(pools[-1]) / len(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    level = [sum(pool) / len(pool) for pool in pools for _ in pool]
    return [v + o for v, o in zip(level, offsets, strict=True)]


def draw() -> str:
    """The picture as SVG."""
    groups, edges = floors(), needed(imports())
    place, heights = rows(edges, groups)
    later = [(room, PREPARATION) for room in sorted(found_at_run_time()) if place[room] > place[PREPARATION]]
    lines = chains([*edges, *later], place)
    x = arrange(lines, place)
    top = max(place.values())
    across, down = LABEL + round(max(x[name, row] for name, row in place.items()) + BOX / 2) + MARGIN, (top + 1) * ROW
    at = lambda point: (LABEL + round(x[point]), (top - point[1]) * ROW + ROW // 2)
    parts, ground = [], 0
    for number, height in enumerate(heights):
        y = down - (ground + height) * ROW
        parts.append(f'<rect class="floor" x="4" y="{y + 3}" width="{across - 8}" height="{height * ROW - 6}" rx="8"/>')
        parts.append(f'<text class="floor" x="14" y="{y + height * ROW // 2}">floor {number}</text>')
        ground += height
    for line in lines:
        a, b = line[0][0], line[-1][0]
        how = "later" if (a, b) in later else "import"
        parts.append(f'<path class="{how}" data-from="{a}" data-to="{b}" d="{curve([at(p) for p in line])}" marker-end="url(#head)"/>')
    for name, row in sorted(place.items()):
        cx, cy = at((name, row))
        parts.append(f'<rect class="room" x="{cx - BOX // 2}" y="{cy - HEIGHT // 2}" width="{BOX}" height="{HEIGHT}" rx="6"/>')
        parts.append(f'<text x="{cx}" y="{cy}">{name}</text>')
    head = '<marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto"><path d="M0 0L6 3L0 6z"/></marker>'
    box = f'viewBox="0 0 {across} {down}" width="{across}" height="{down}"'
    title = "<title>The rooms of cm2, floor by floor; an arrow points at what is imported</title>"
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>\n{title}\n<style>{STYLE}</style>\n<defs>{head}</defs>\n{body}\n</svg>\n'


def curve(points: Sequence[tuple[int, int]]) -> str:
    """A smooth line from below the first point to above the last."""
    (x, y), *rest = points
    y += HEIGHT // 2
    path = f"M{x} {y}"
    for i, (bx, by) in enumerate(rest, 1):
        end = by - HEIGHT // 2 - 5 if i == len(rest) else by
        middle = (y + end) // 2
        path += f" C{x} {middle} {bx} {middle} {bx} {end}"
        x, y = bx, end
    return path


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(PICTURE.relative_to(ROOT))
