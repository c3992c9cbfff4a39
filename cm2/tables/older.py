"""Tables stored in format 1, which knew one kind of chance at a time, as tables of format 2.

Format 1 kept no predictions. What it kept is enough for a sum of both variances, a little larger than the estimate from predictions
(see ``cm2.uncertainty``): the spread of the seeds, and the width of a bootstrap interval over the stays of fixed fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri

from cm2.metrics import holm
from cm2.tables.comparison import described, smaller_class
from cm2.uncertainty import FEWEST, combined

WIDTH = 2 * float(ndtri(0.975))
"""Width of a 95 % interval in standard errors."""


def upgraded(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file in format 2.

    Args:
        tree: the content of a file in format 1.
    """
    cells = [{"stays" if name == "bootstrap" else name: value for name, value in cell.items()} for cell in tree["cells"]]
    if tree["kind"] in ("results", "tests"):
        cells = _corrected([_with_both(cell, cells, tree["reference"]) for cell in cells])
    return {**tree, "cells": cells}


def _with_both(cell: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], reference: str) -> dict[str, Any]:
    """A cell of results with intervals from both kinds of chance."""
    fewer = smaller_class(cell["n"], cell["positives"])
    if fewer < FEWEST:
        own = ("section", "row", "task", "metric", "n", "positives", "printed", "runs")
        return {name: cell[name] for name in own if name in cell}
    out = dict(cell)
    seeds = cell["seeds"]
    if len(seeds) > 1:
        se_stays = float(np.mean([high - low for low, high in cell["stays"]])) / WIDTH
        over = combined(cell["value"], se_stays, fewer - 1, seeds)
        out["low"], out["high"] = over.interval(share=True)
        out["se_stays"] = se_stays
        if max(seeds) == min(seeds):
            out |= {"seeds": seeds[:1], "stays": cell["stays"][:1], "deterministic": True}
    if d := cell.get("difference"):
        out["difference"] = _difference(d, seeds, _reference(cell, cells, reference)["seeds"], fewer - 1)
    return out


def _reference(cell: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], reference: str) -> Mapping[str, Any]:
    place = ("section", "task", "metric")
    return next(c for c in cells if c["row"] == reference and all(c[name] == cell[name] for name in place))


def _difference(d: Mapping[str, float], row: Sequence[float], base: Sequence[float], df: float) -> dict[str, float]:
    """A difference from both kinds of chance; of one seed only names change."""
    stays = {"se_stays": (d["high"] - d["low"]) / WIDTH, "stays_low": d["low"], "stays_high": d["high"]}
    other = {name: d[name] for name in ("p_replicates",) if name in d}
    if len(row) < 2 or len(base) < 2:
        return {**{name: d[name] for name in ("estimate", "low", "high", "p")}, **stays, **other}
    both = combined(d["estimate"], stays["se_stays"], df, row, base)
    return {**described(both, df, [row, base]), **stays, **other}


def _corrected(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    compared = [cell for cell in cells if cell.get("difference")]
    for cell, adjusted in zip(compared, holm([cell["difference"]["p"] for cell in compared]), strict=True):
        cell["difference"] = {**cell["difference"], "p_holm": adjusted}
    return list(cells)
