"""Base class of the kinds of table, and their registry.

A kind of table is a subclass of `TableKind` with a ``name``, in its own file in ``cm2/tables/kinds``. It must define ``cells``, which
computes the numbers of a plan, and ``show``, which formats one; the other attributes and hooks have defaults.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray

from cm2.config.names import choose, enter
from cm2.errors import InputError
from cm2.tables.planning import TablePlan, metrics_of
from cm2.tables.result import Cell, Place, RowPlace, TableResult
from cm2.tables.spec import TableSpec
from cm2.tasks import Binary

TABLE_KINDS: dict[str, type[TableKind]] = {}
"""Kinds of table by name, as ``kind`` in a TOML file refers to them. To add one, add a file to ``cm2/tables/kinds`` with a subclass of
`TableKind` that sets ``name``: it is imported and registered automatically. A TOML file in ``cm2/tables`` can then use it."""


class TableKind(ABC):
    """A kind of table: whether it needs trained runs, how its numbers are computed, how they are shown."""

    name: ClassVar[str]
    """Value of ``kind`` in a table's TOML file."""
    trained: ClassVar[bool] = True
    """Whether the table is computed from runs, and so needs rows and sections."""
    predicted: ClassVar[bool] = False
    """Whether all its numbers follow from the test predictions of its runs, which are then stored beside it."""
    differences_only: ClassVar[bool] = False
    """Whether the text shows only the differences to the reference, beside the paper's numbers, and omits the values."""
    headings: ClassVar[Mapping[str, str]] = {}
    """Column headings by metric; a metric without one is headed by its own name."""
    score: ClassVar[str] = "score"
    """Heading of the column of scores, in a table with several scores for one method."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        enter(TABLE_KINDS, cls, "kind of table")

    def able(self, plan: TablePlan) -> TablePlan:
        """The plan without the rows that cannot have such a table, decided before any training; by default the whole plan.

        Raises:
            ValueError: no row is left.
        """
        return plan

    @abstractmethod
    def cells(self, plan: TablePlan, jobs: int = 1) -> list[Cell]:
        """Compute every number of the table.

        Args:
            plan: a plan whose runs are finished.
            jobs: number of processes.
        """

    def computed(self, plan: TablePlan, jobs: int = 1) -> tuple[list[Cell], dict[str, NDArray]]:
        """The numbers, and scores of single stays that they follow from and that are stored with the table; by default none.

        Args:
            plan: a plan whose runs are finished.
            jobs: number of processes.
        """
        return self.cells(plan, jobs), {}

    def recomputed(self, result: TableResult, scores: Mapping[str, NDArray]) -> list[Cell]:
        """The cells of a table that was stored with scores, computed again from these; those that follow from none as they are.

        Args:
            result: the stored table.
            scores: as `computed` returned them.
        """
        return list(result.cells)

    def source(self, plan: TablePlan) -> dict[str, Any]:
        """What the notes need to know of the runs, stored with the table's provenance; nothing by default."""
        return {}

    def wanted(self, spec: TableSpec, result: TableResult, able: Collection[RowPlace], modalities: Sequence[str]) -> set[Place]:
        """Places of the numbers that a stored table would have if it were computed again; by default every metric of every row.

        Args:
            spec: the table's specification.
            result: the stored table.
            able: section of the specification, row and task of the runs that are planned, of rows that can have such a table.
            modalities: of the cohort that the table uses.
        """
        return {Place(*place, metric) for place in able for metric in metrics_of(spec, result.tasks.get(place[2], Binary()))}

    def section_of(self, spec: TableSpec, name: str) -> str:
        """The section of the specification that a section of the table belongs to; by default they have the same names."""
        return name

    @abstractmethod
    def show(self, cell: Cell) -> str:
        """The value of a cell, formatted for the text."""

    def notes(self, result: TableResult) -> str:
        """Explanation of the numbers, printed below the table; empty by default."""
        return ""


def kind_of(name: str, where: str = "") -> TableKind:
    """The kind with this name.

    Args:
        name: see ``TABLE_KINDS``.
        where: prefix of the error message.

    Raises:
        ValueError: no kind has this name.
    """
    if name not in TABLE_KINDS:
        raise InputError(f"{where}kind {name!r} is unknown; {choose(name, sorted(TABLE_KINDS))}")
    return TABLE_KINDS[name]()
