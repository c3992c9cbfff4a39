"""Verdicts of a table's corrected tests, in words."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from cm2.errors import InputError
from cm2.escape import markdown as escape
from cm2.tables.result import Cell, TableResult
from cm2.tables.text import is_share, metric_name

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
        ``verdict`` (position of the reference: ``above`` or ``below`` if the corrected p-value is under ``level`` and counts the seeds as
        well as the stays, else ``undecided``) and ``seeds`` (whether the interval over the seeds alone lies on one side of 0).

    Raises:
        ValueError: nothing was compared.
    """
    lines = []
    for cell in result.cells:
        if (d := cell.difference) is None:
            continue
        decided = d["p_holm"] < level and repeated(d)
        verdict = "undecided" if not decided else "above" if d["estimate"] < 0 else "below"
        line = {name: getattr(cell, name) for name in ("section", "task", "metric", "row", "n")}
        line |= {name: d[name] for name in ("estimate", "low", "high", "p_holm")}
        lines.append(line | {"verdict": verdict, "seeds": "seeds_low" in d and (d["seeds_low"] > 0 or d["seeds_high"] < 0)})
    if not lines:
        raise InputError(f"table {result.name} compares nothing; compute it with more than the reference row")
    return pd.DataFrame(lines)


def repeated(difference: Mapping[str, float]) -> bool:
    """Whether a difference was measured with several seeds, or depends on none: one seed decides nothing about another."""
    return "se_seeds" in difference


def equivalences(result: TableResult, level: float = LEVEL) -> pd.DataFrame:
    """One line for each difference that was tested for equivalence to the reference row.

    Args:
        result: a table of results with a margin.
        level: level of the test; p-values are corrected for the whole table.

    Returns:
        ``section``, ``task``, ``metric``, ``row``, ``estimate``, ``p_equivalent_holm``, ``margin`` and ``equivalent``: whether the
        difference lies within the margin, by the corrected p-value, with the seeds counted.

    Raises:
        ValueError: nothing was tested for equivalence.
    """
    lines = []
    margin, margins = result.provenance["margin"], result.provenance.get("margins", {})
    for cell in result.cells:
        if (d := cell.difference) is None or "p_equivalent_holm" not in d:
            continue
        line = {name: getattr(cell, name) for name in ("section", "task", "metric", "row")}
        line |= {"estimate": d["estimate"], "p_equivalent_holm": d["p_equivalent_holm"], "margin": margins.get(cell.metric, margin)}
        lines.append(line | {"equivalent": d["p_equivalent_holm"] < level and repeated(d)})
    if not lines:
        raise InputError(f"table {result.name} tests nothing for equivalence; give its TOML file a margin and compute it again")
    return pd.DataFrame(lines)


def equivalence_tally(found: pd.DataFrame) -> str:
    """``within 0.01 of the reference in 3 of 8 comparisons, undecided in 5``: counted over lines of ``equivalences``."""
    within = int(found["equivalent"].sum())
    margins = found["margin"].unique()
    margin = f"{margins[0]:g}" if len(margins) == 1 else "their margins"
    return f"within {margin} of the reference in {within} of {len(found)} comparisons, undecided in {len(found) - within}"


def similarity(result: TableResult, level: float = LEVEL) -> str:
    """Whether the rows are as good as the reference row within the table's margin, as a sentence: what a claim of robustness needs."""
    compared = [d for cell in result.cells if (d := cell.difference)]
    if not any("p_equivalent_holm" in d for d in compared):
        return "The table was computed without a test of equivalence, so it does not show that the rows are equally good."
    if not any(repeated(d) for d in compared):
        return "One seed was trained, which shows no two rows to be equally good."
    return f"By two one-sided tests, corrected, the rows are {equivalence_tally(equivalences(result, level))}."


def tally(found: pd.DataFrame) -> str:
    """``above in 3 of 8 comparisons, below in 1, undecided in 4``: verdicts on the reference row, counted over lines of ``verdicts``."""
    above, below, undecided = ((found["verdict"] == word).sum() for word in WORDS)
    return f"above in {above} of {len(found)} comparisons, below in {below}, undecided in {undecided}"


def standing(found: pd.DataFrame) -> str:
    """``above (IHM, partially matched), undecided (IHM, totally matched)``: verdicts on the reference row by place, of a row's lines."""
    several = found["task"].nunique() > 1
    places = [f"{task}, {section}" if several else section for section, task in zip(found["section"], found["task"], strict=True)]
    by_word = found.assign(place=places).groupby("verdict", sort=False)["place"]
    return ", ".join(f"{word} ({'; '.join(where)})" for word, where in by_word)


def verdict_grid(result: TableResult, level: float = LEVEL) -> str:
    """The verdicts as a Markdown table: one line per row, one column per section and task, metrics separated by slashes."""
    found = verdicts(result, level)
    columns = list(dict.fromkeys(zip(found["section"], found["task"], strict=True)))
    at = found.set_index(["row", "metric", "section", "task"])["verdict"]
    metrics = list(dict.fromkeys(found["metric"]))
    head = f"{escape(result.reference)} against, in {' / '.join(map(metric_name, metrics))}"
    lines = [[head, *(f"{escape(section)}, {escape(task)}" for section, task in columns)], ["---"] * (len(columns) + 1)]
    for row in dict.fromkeys(found["row"]):
        words = [[at.get((row, metric, *column), "") for metric in metrics] for column in columns]
        lines.append([escape(row), *(_both(pair) for pair in words)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _both(words: list[str]) -> str:
    """A single word where all metrics agree."""
    return words[0] if len(set(words)) == 1 else " / ".join(words)


def findings(result: TableResult, metric: str | None = None, level: float = 0.05, named: int = NAMED) -> str:
    """Which rows differ from the reference row, as a sentence.

    Args:
        result: a table of results with differences.
        metric: one of the table's; None: the first in which rows are compared.
        level: a difference counts if its p-value, corrected for the whole table, is below this level.
        named: largest number of differences named, in order of size; the others are counted.

    Raises:
        ValueError: nothing was compared in this metric.
    """
    metric = metric or result.first_metric
    compared = [(cell, d) for cell in result.cells if cell.metric == metric and (d := cell.difference)]
    if not compared:
        raise InputError(f"table {result.name} compares nothing in {metric}")
    ordered = sorted(compared, key=lambda pair: -abs(pair[1]["estimate"]))
    if not any(repeated(d) for _, d in compared):
        none = f"which decides none of the {len(compared)} differences in {metric_name(metric)} to “{escape(result.reference)}”"
        return f"One seed was trained, {none}."
    distinct = [(cell, d) for cell, d in ordered if d["p_holm"] < level and repeated(d)]
    what = f"{metric_name(metric)} to “{escape(result.reference)}”"
    if not distinct:
        few, article = ("The only difference", "no") if len(compared) == 1 else (f"None of the {len(compared)} differences", "a")
        cell, d = ordered[0]
        largest = _place(cell, f"with {d['estimate']:{'+.3f' if is_share(metric) else '+.3g'}}")
        return f"{few} in {what} has {article} corrected p-value below {level:g}; the largest is that of {largest}."
    have = "has a corrected p-value" if len(distinct) == 1 else "have corrected p-values"
    rest = f", and {len(distinct) - named} more" if len(distinct) > named else ""
    listed = ", ".join(_side(cell, d["estimate"]) for cell, d in distinct[:named]) + rest
    return f"{len(distinct)} of the {len(compared)} differences in {what} {have} below {level:g}: {listed}."


def _side(cell: Cell, estimate: float) -> str:
    return _place(cell, f"{'above' if estimate > 0 else 'below'} by {abs(estimate):{'.3f' if is_share(cell.metric) else '.3g'}}")


def _place(cell: Cell, what: str) -> str:
    return f"“{escape(cell.row)}” {what} ({', '.join(escape(word) for word in (cell.task, cell.section) if word)})"
