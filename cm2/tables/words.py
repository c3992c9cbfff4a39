"""What the differences of a table say, in words that are computed."""

from __future__ import annotations

from cm2.tables.result import Cell, TableResult
from cm2.tables.text import NAMES

NAMED = 4
"""Differences that a sentence names at most."""


def findings(result: TableResult, metric: str = "auroc", level: float = 0.05, named: int = NAMED) -> str:
    """Which rows differ from the reference row, as a sentence.

    Args:
        result: a table of results with differences.
        metric: ``auroc`` or ``aupr``.
        level: a difference counts where its p-value, corrected for the whole table, is below.
        named: so many differences are named at most, the largest first.

    Raises:
        ValueError: nothing was compared in this metric.
    """
    compared = [cell for cell in result.cells if cell.difference and cell.metric == metric]
    if not compared:
        raise ValueError(f"table {result.name} compares nothing in {metric}")
    ordered = sorted(compared, key=lambda cell: -abs(cell.difference["estimate"]))
    distinct = [cell for cell in ordered if cell.difference["p_holm"] < level]
    what = f"{NAMES[metric]} to “{result.reference}”"
    if not distinct:
        few, article = ("The only difference", "no") if len(compared) == 1 else (f"None of the {len(compared)} differences", "a")
        largest = _place(ordered[0], f"with {ordered[0].difference['estimate']:+.3f}")
        return f"{few} in {what} has {article} corrected p-value below {level:g}; the largest is that of {largest}."
    have = "has a corrected p-value" if len(distinct) == 1 else "have corrected p-values"
    rest = f", and {len(distinct) - named} more" if len(distinct) > named else ""
    listed = ", ".join(_side(cell) for cell in distinct[:named]) + rest
    return f"{len(distinct)} of the {len(compared)} differences in {what} {have} below {level:g}: {listed}. {_over_seeds(distinct)}"


def _over_seeds(cells: list[Cell]) -> str:
    """Whether other seeds of the training would say the same."""
    tested = [cell.difference for cell in cells if "seeds_low" in cell.difference]
    if not tested:
        return "One seed was trained, so that nothing is known about another."
    same = sum(d["seeds_low"] > 0 or d["seeds_high"] < 0 for d in tested)
    if len(tested) == 1:
        return f"The t interval over the training seeds {'excludes' if same else 'contains'} 0."
    return f"The t interval over the training seeds excludes 0 for {same} of these {len(tested)}."


def _side(cell: Cell) -> str:
    estimate = cell.difference["estimate"]
    return _place(cell, f"{'above' if estimate > 0 else 'below'} by {abs(estimate):.3f}")


def _place(cell: Cell, what: str) -> str:
    return f"“{cell.row}” {what} ({', '.join(word for word in (cell.task, cell.section) if word)})"
