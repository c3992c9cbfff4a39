"""The flow chart: number of stays left after each step, as a table in the manifest and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from cm2.cohorts.disclosure import Disclosure
from cm2.errors import InputError
from cm2.escape import html


class Flow:
    """Counts the stays left after each step.

    Args:
        stays: number of rows of the raw table.
        step: name of the first step, the raw rows.
    """

    def __init__(self, stays: int, step: str) -> None:
        if not stays:
            raise InputError(f"{step}: the table has no row; give the official files")
        self.steps: list[dict[str, Any]] = [{"step": step, "stays": stays, "dropped": 0, "note": ""}]

    def keep(self, frame: pd.DataFrame, mask: pd.Series, step: str, note: str = "") -> pd.DataFrame:
        """The rows of ``frame`` where ``mask`` holds, counted.

        Raises:
            ValueError: no row is left.
        """
        kept = frame[mask.to_numpy(dtype=bool)].reset_index(drop=True)
        before = self.steps[-1]
        if kept.empty:
            raise InputError(
                f"no stay is left after the step {step!r} ({Disclosure().count(before['stays'])} before it);"
                " check that the tables belong to one release"
            )
        self.steps.append({"step": step, "stays": len(kept), "dropped": before["stays"] - len(kept), "note": note})
        return kept


def draw_flow(steps: list[dict[str, Any]], path: Path, note: str = "") -> None:
    """Draws a flow chart as SVG: a box for each step, with the number of stays dropped beside it.

    Args:
        steps: the ``flow`` of a manifest.
        path: the file to write.
        note: one line below the chart.
    """
    height, width, gap = 46, 330, 26
    total = len(steps) * (height + gap) - gap + 20 + (gap if note else 0)
    parts = []
    for i, step in enumerate(steps):
        y = 10 + i * (height + gap)
        parts.append(f'<rect x="10" y="{y}" width="{width}" height="{height}" rx="6" fill="none" stroke="#767676"/>')
        parts.append(f'<text x="{10 + width / 2}" y="{y + 19}">{html(step["step"])}</text>')
        parts.append(f'<text x="{10 + width / 2}" y="{y + 37}" font-weight="bold">{step["stays"]:,}</text>')
        if i:
            x = 10 + width / 2
            parts.append(f'<path d="M{x} {y - gap} V{y - 2}" stroke="#767676" marker-end="url(#head)"/>')
        if step["dropped"]:
            parts.append(f'<text x="{10 + width + 14}" y="{y + 28}" text-anchor="start">\N{MINUS SIGN}{step["dropped"]:,}</text>')
    if note:
        parts.append(f'<text x="10" y="{total - 12}" text-anchor="start" font-size="8.5">{html(note)}</text>')
    arrow = '<path d="M0 0L6 3L0 6z" fill="#767676"/>'
    head = f'<marker id="head" markerWidth="7" markerHeight="7" refX="5" refY="3" orient="auto">{arrow}</marker>'
    style = 'font-family="sans-serif" font-size="14" fill="#767676" text-anchor="middle"'
    box = f'viewBox="0 0 {width + 130} {total}" width="{width + 130}" height="{total}"'
    title = f"<title>Flow chart: {steps[0]['stays']:,} to {steps[-1]['stays']:,} stays</title>"
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {box} {style}>{title}<defs>{head}</defs>{"".join(parts)}</svg>\n')
