"""Verdicts of a table's corrected tests, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from cm2.tables.result import Cell, TableResult
from cm2.tables.text import NAMES

WORDS = ("above", "below", "undecided")
LEVEL = 0.05
NAMED = 4
"""Largest number of differences that a sentence names."""


def verdicts(result: TableResult, level: float = LEVEL) -> pd.DataFrame:
    """One line for each compared cell: whether the reference row is above or below it, and whether the training seeds agree.

    Args:
        result: a table of results or tests.
        level: level of the test; p-values are corrected for the whole table.

    Returns:
        ``section``, ``task``, ``metric``, ``row``, ``n``, ``estimate``, ``low``, ``high`` (all of row minus reference), ``p_holm``,
        ``verdict`` (position of the reference: ``above`` or ``below`` if the corrected p-value is under ``level``, else ``undecided``)
        and ``seeds`` (whether the t interval over two seeds or more lies on one side of 0).

    Raises:
        ValueError: nothing was compared.
    """
    lines = []
    for cell in result.cells:
        if (d := cell.difference) is None:
            continue
        verdict = "undecided" if d["p_holm"] >= level else "above" if d["estimate"] < 0 else "below"
        line = {name: getattr(cell, name) for name in ("section", "task", "metric", "row", "n")}
        line |= {name: d[name] for name in ("estimate", "low", "high", "p_holm")}
        lines.append(line | {"verdict": verdict, "seeds": "seeds_low" in d and (d["seeds_low"] > 0 or d["seeds_high"] < 0)})
    if not lines:
        raise ValueError(f"table {result.name} compares nothing; compute it with more than the reference row")
    return pd.DataFrame(lines)


def tally(found: pd.DataFrame) -> str:
    """``above in 3 of 8 comparisons, below in 1, undecided in 4``: verdicts on the reference row, counted over lines of ``verdicts``."""
    above, below, undecided = ((found["verdict"] == word).sum() for word in WORDS)
    return f"above in {above} of {len(found)} comparisons, below in {below}, undecided in {undecided}"


def verdict_grid(result: TableResult, level: float = LEVEL) -> str:
    """The verdicts as a Markdown table: one line per row, one column per section and task, metrics separated by slashes."""
    found = verdicts(result, level)
    columns = list(dict.fromkeys(zip(found["section"], found["task"], strict=True)))
    at = found.set_index(["row", "metric", "section", "task"])["verdict"]
    metrics = list(dict.fromkeys(found["metric"]))
    head = f"{result.reference} against, in {' / '.join(NAMES.get(metric, metric) for metric in metrics)}"
    lines = [[head, *(f"{section}, {task}" for section, task in columns)], ["---"] * (len(columns) + 1)]
    for row in dict.fromkeys(found["row"]):
        words = [[at.get((row, metric, *column), "") for metric in metrics] for column in columns]
        lines.append([row, *(_both(pair) for pair in words)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _both(words: list[str]) -> str:
    """A single word where all metrics agree."""
    return words[0] if len(set(words)) == 1 else " / ".join(words)


def findings(result: TableResult, metric: str = "auroc", level: float = 0.05, named: int = NAMED) -> str:
    """Which rows differ from the reference row, as a sentence.

    Args:
        result: a table of results with differences.
        metric: ``auroc`` or ``aupr``.
        level: a difference counts if its p-value, corrected for the whole table, is below this level.
        named: largest number of differences named, in order of size; the others are counted.

    Raises:
        ValueError: nothing was compared in this metric.
    """
    compared = [(cell, d) for cell in result.cells if cell.metric == metric and (d := cell.difference)]
    if not compared:
        raise ValueError(f"table {result.name} compares nothing in {metric}")
    ordered = sorted(compared, key=lambda pair: -abs(pair[1]["estimate"]))
    distinct = [(cell, d) for cell, d in ordered if d["p_holm"] < level]
    what = f"{NAMES[metric]} to “{result.reference}”"
    if not distinct:
        few, article = ("The only difference", "no") if len(compared) == 1 else (f"None of the {len(compared)} differences", "a")
        cell, d = ordered[0]
        largest = _place(cell, f"with {d['estimate']:+.3f}")
        return f"{few} in {what} has {article} corrected p-value below {level:g}; the largest is that of {largest}."
    have = "has a corrected p-value" if len(distinct) == 1 else "have corrected p-values"
    rest = f", and {len(distinct) - named} more" if len(distinct) > named else ""
    listed = ", ".join(_side(cell, d["estimate"]) for cell, d in distinct[:named]) + rest
    repeated = _over_seeds([d for _, d in distinct])
    return f"{len(distinct)} of the {len(compared)} differences in {what} {have} below {level:g}: {listed}. {repeated}"


def _over_seeds(found: Sequence[Mapping[str, float]]) -> str:
    """Whether the training seeds agree, as a sentence."""
    tested = [d for d in found if "seeds_low" in d]
    if not tested:
        return "One seed was trained, so that nothing is known about another."
    same = sum(d["seeds_low"] > 0 or d["seeds_high"] < 0 for d in tested)
    if len(tested) == 1:
        return f"The t interval over the training seeds {'excludes' if same else 'contains'} 0."
    return f"The t interval over the training seeds excludes 0 for {same} of these {len(tested)}."


def _side(cell: Cell, estimate: float) -> str:
    return _place(cell, f"{'above' if estimate > 0 else 'below'} by {abs(estimate):.3f}")


def _place(cell: Cell, what: str) -> str:
    return f"“{cell.row}” {what} ({', '.join(word for word in (cell.task, cell.section) if word)})"
