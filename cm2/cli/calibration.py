"""A report on calibration as text: tables in Markdown, as `cm2 table` prints them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cm2.evaluation.calibration import Report

HEADINGS = {"predicted": "predicted", "observed": "observed", "large": "in the large", "slope": "slope", "error": "error"}
HIDDEN = "hidden"
NOTE = """\
In the large and slope: on the scale of the link (log-odds of a probability, the unit of a number); 0 and 1 are right. In the large above 0:
predictions are too low. Slope below 1: they are too extreme. Error: root of the squared calibration error less what chance adds to it.
Brackets: 95 % intervals over the stays."""


def text(report: Report) -> str:
    """The summary, the reliability curve of all stays, and what was fitted on the validation stays."""
    summary, curve = report.summary, report.curve
    parts = ["Calibration, by the modalities that are observed", _table([_summary_row(line, "") for line in _lines(summary)]), NOTE]
    parts += ["Recalibrated on the validation stays: " + _fitted(report)]
    changed = [line for line in _lines(summary) if line.get("after_predicted") is not None]
    if changed:
        parts.append(_table([_summary_row(line, "after_") for line in changed]))
    if len(curve):
        parts += ["Reliability of all stays, in groups of neighbouring predictions", _table([_curve_row(line) for line in _lines(curve)])]
    return "\n\n".join([*parts, *([report.unjudged] if report.unjudged else [])])


def _lines(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): None if pd.isna(v) else v for k, v in line.items()} for line in frame.to_dict("records")]


def _fitted(report: Report) -> str:
    told = [f"{name}: {_numbers(numbers)}" for name, numbers in report.told.items()]
    return "; ".join([*told, *(f"{name}: none, {why}" for name, why in report.lacking.items())])


def _numbers(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in numbers.items())


def _counts(line: Mapping[str, Any]) -> dict[str, str]:
    n, positives = (line.get(name) for name in ("n", "positives"))
    return {"n": HIDDEN if n is None else f"{n:,.0f}", "positives": _or_hidden("", line) if positives is None else f"{positives:,.0f}"}


def _summary_row(line: Mapping[str, Any], before: str) -> dict[str, str]:
    cells = {"observed modalities": line["observed modalities"], "of": line["of"], **_counts(line)}
    return cells | {heading: _with_interval(line, f"{before}{name}", bool(line["few"])) for name, heading in HEADINGS.items()}


def _curve_row(line: Mapping[str, Any]) -> dict[str, str]:
    names = ("predicted", "recalibrated", "observed")
    return {"of": line["of"], **{name: _with_interval(line, name, False) for name in names}, **_counts(line)}


def _with_interval(line: Mapping[str, Any], name: str, few: bool) -> str:
    value, low, high = (line.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return _or_hidden("too few" if few else "", line)
    return f"{value:.3g}" if low is None or high is None else f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _or_hidden(instead: str, line: Mapping[str, Any]) -> str:
    return HIDDEN if line["hidden"] else instead


def _table(rows: list[dict[str, str]]) -> str:
    """Rows with the same columns; a column that is empty in all of them is left out."""
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    lines = [columns, ["---"] * len(columns), *([row[name] for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
