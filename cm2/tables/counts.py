"""Tables 1 and 8: how many stays a cohort has, by split and by the modalities they have."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cm2.cohorts import Cohort
from cm2.paper import printed
from cm2.tables.result import Cell
from cm2.tables.spec import Role, TableSpec

SPLITS = ("train", "valid", "test")
SMALLEST = 10
"""No smaller count of a credentialed cohort leaves the machine."""


def count_cells(spec: TableSpec, cohort: Cohort, role: Role) -> list[Cell]:
    """Stays with every modality, with one and with the first two, three, ...; for each task with a known outcome if the table asks.

    Args:
        spec: a table of counts.
        cohort: a prepared cohort; nothing but its list of stays is read.
        role: its role.
    """
    return [
        cell
        for group in _groups(role)
        for task in (role.tasks if spec.by_task else [""])
        for cell in _cells(spec, cohort, role, group, task)
    ]


def _groups(role: Role) -> list[tuple[str, ...]]:
    """Modalities that the stays of a row have to have."""
    names = role.modalities
    return [(), *((name,) for name in names), *(names[:size] for size in range(2, len(names) + 1))]


def _cells(spec: TableSpec, cohort: Cohort, role: Role, group: tuple[str, ...], task: str) -> Iterator[Cell]:
    columns = [list(cohort.manifest["modalities"]).index(name) for name in group]
    here = cohort.present[:, columns].all(axis=1)
    label = cohort.stays[role.tasks[task]].to_numpy() if task else np.zeros(len(here), dtype=int)
    here = here & (label >= 0)
    split = cohort.stays["split"].to_numpy()
    counts = {name: int((here & (split == name)).sum()) for name in SPLITS}
    counts |= {"positives": int((label[here] == 1).sum())} if task else {}
    counts["total"] = int(here.sum())
    row = " | ".join(group) or "all"
    section = "matched" if len(group) > 1 else "complete"
    for column, count in counts.items():
        value = None if _too_small(cohort, count) else count
        yield Cell(section, row, task, column, value, printed=_printed(spec, role, row, task, column))


def _too_small(cohort: Cohort, count: int) -> bool:
    return cohort.name.startswith("mimic") and 0 < count < SMALLEST


def _printed(spec: TableSpec, role: Role, row: str, task: str, column: str) -> dict[str, float | str] | None:
    if row not in role.counted or spec.number is None:
        return None
    rows = printed(spec.number, row=role.counted[row], column=column)
    rows = rows[rows["task"].isin((task, ""))]
    return None if rows.empty else {"cohort": role.printed, "value": int(rows.iloc[0]["value"])}
