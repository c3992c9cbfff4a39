"""Tables 1 and 8: numbers of stays in a cohort; nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from cm2.cohorts.format import SPLITS
from cm2.paper import printed
from cm2.tables.contract import TableKind
from cm2.tables.counts import count_groups
from cm2.tables.planning import TablePlan
from cm2.tables.result import Cell


class Counts(TableKind):
    """All stays, those with each modality and those with the first two, three, ...; by task, with a known outcome, if the table asks."""

    name = "counts"
    trained = False
    headings: ClassVar[Mapping[str, str]] = {"train": "Train", "valid": "Valid", "test": "Test", "total": "Total", "positives": "Positive"}

    def cells(self, plan: TablePlan, jobs: int = 1) -> list[Cell]:
        """Every count; only the cohort's list of stays is read."""
        tasks = plan.role.tasks if plan.spec.by_task else [""]
        return [cell for group in count_groups(plan.cohort, plan.role) for task in tasks for cell in _cells(plan, group, task)]

    def show(self, cell: Cell) -> str:
        """``1,234``, or ``hidden`` for a count that may not be shown."""
        return "hidden" if cell.value is None else f"{cell.value:,.0f}"


def _cells(plan: TablePlan, group: dict[str, Any], task: str) -> Iterator[Cell]:
    entry = group["tasks"][plan.role.tasks[task]] if task else {}
    shown = entry["known"] if task else group["stays"]
    binary = bool(task) and plan.cohort.task(plan.role.tasks[task]).type == "binary"  # no other outcome is positive or negative
    counts = {name: shown[name] for name in SPLITS} | ({"positives": entry["positives"]["total"]} if binary else {})
    counts["total"] = shown["total"]
    row = " | ".join(group["modalities"]) or "all"
    section = "matched" if len(group["modalities"]) > 1 else "complete"
    for column, count in counts.items():
        yield Cell(section, row, task, column, count, printed=_printed(plan, row, task, column))


def _printed(plan: TablePlan, row: str, task: str, column: str) -> dict[str, float | str] | None:
    if row not in plan.role.counted or plan.spec.number is None:
        return None
    rows = printed(plan.spec.number, row=plan.role.counted[row], column=column)
    rows = rows[rows["task"].isin((task, ""))]
    return None if rows.empty else {"cohort": plan.role.printed, "value": int(rows.iloc[0]["value"])}
