"""Where the numbers of a table of embeddings are: its sections, which are named after what is looked for, and the rows of its scores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from cm2.tables.result import Cell, Place, RowPlace
from cm2.tables.spec import TableSpec

Sections = Callable[[Sequence[str], Sequence[Cell]], Iterable[str]]
"""Names of the sections on a cohort with these modalities, given the cells that are there, which tell how many stays there are."""


def section_name(spec: TableSpec, section: str, name: str) -> str:
    """Name of a section of the table: what is looked for, after the specification's section where that has several."""
    return f"{section}: {name}" if len(spec.section) > 1 else name


def section_of(spec: TableSpec, name: str) -> str:
    """The section of the specification that a section of the table belongs to."""
    labels = [section.label for section in spec.section]
    return labels[0] if len(labels) == 1 else next((label for label in labels if name.startswith(section_name(spec, label, ""))), name)


def wanted_places(
    spec: TableSpec,
    cells: Sequence[Cell],
    able: Collection[RowPlace],
    modalities: Sequence[str],
    required: Callable[[str], Collection[str]],
    sections: Sections,
) -> set[Place]:
    """Places of the numbers of a whole table: every score of a row, with its metrics, in every section with enough stays.

    Which scores a method has is known only once it is trained: they are those that it has anywhere in the section.

    Args:
        spec: the specification.
        cells: of the stored table.
        able: section of the specification, row and task of what is planned.
        modalities: of the cohort that the table uses.
        required: metrics that every row has, by task.
        sections: names of the sections, without that of the specification.
    """
    trained = {cell.section for cell in cells if cell.runs}
    few = {cell.section for cell in cells} - trained
    wanted: set[Place] = set()
    for section, row, task in able:
        start = section_name(spec, section, "")
        inside = [replace(cell, section=cell.section.removeprefix(start)) for cell in cells if section_of(spec, cell.section) == section]
        own = [cell for cell in inside if cell.runs and (cell.method, cell.task) == (row, task)]
        scored = {(cell.row, cell.metric) for cell in own}
        label = min((cell.row for cell in own), default=row)  # any, for a metric that no score of the row has
        scored |= {(label, metric) for metric in required(task) if metric not in {cell.metric for cell in own}}
        asked = {start + name for name in sections(modalities, inside)}
        asked = asked or {name for name in trained if section_of(spec, name) == section}
        wanted |= {Place(name, of_row, task, metric) for name in asked - few for of_row, metric in scored}
    return wanted
