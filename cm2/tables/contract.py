"""What a table asks of its kind, and the one list of kinds by name.

A kind of table is a subclass of `TableKind` with a ``name``, in a file of its own in ``cm2/tables/kinds``: it needs ``cells``, which makes
the numbers of a plan, and ``show``, which prints one. What else it decides it says by overriding an attribute or a hook.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from cm2.config.names import choose, enter
from cm2.tables.planning import TablePlan
from cm2.tables.result import Cell, TableResult

TABLE_KINDS: dict[str, type[TableKind]] = {}
"""Kinds of table by the name that ``kind`` has in a TOML file. To add one, add a file to ``cm2/tables/kinds`` with a subclass of
`TableKind` that sets ``name``: it is found there and enters itself. A TOML file beside the others then makes a table of it."""


class TableKind(ABC):
    """What depends on the kind of a table: whether runs are trained for it, what its numbers are, how they are shown."""

    name: ClassVar[str]
    """What ``kind`` in a table's TOML file calls it."""
    trained: ClassVar[bool] = True
    """Whether it is made of runs, and so needs rows and sections."""
    differences_only: ClassVar[bool] = False
    """Whether its text shows the differences to the reference, beside the paper's numbers, without the values."""
    headings: ClassVar[Mapping[str, str]] = {}
    """Metrics as a column is headed, by name; one that is not here is headed by its name."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        enter(TABLE_KINDS, cls, "kind of table")

    def able(self, plan: TablePlan) -> TablePlan:
        """The plan without the rows that cannot have such a table, before anything is trained; all of it by default.

        Raises:
            ValueError: no row is left.
        """
        return plan

    @abstractmethod
    def cells(self, plan: TablePlan, jobs: int = 1) -> list[Cell]:
        """Every number of the table.

        Args:
            plan: its runs are finished.
            jobs: processes.
        """

    @abstractmethod
    def show(self, cell: Cell) -> str:
        """What was measured, as the text prints it."""

    def notes(self, result: TableResult) -> str:
        """What the numbers are, below the table; nothing by default."""
        return ""


def kind_of(name: str, where: str = "") -> TableKind:
    """The kind of this name.

    Args:
        name: see ``TABLE_KINDS``.
        where: start of the message.

    Raises:
        ValueError: there is none.
    """
    if name not in TABLE_KINDS:
        raise ValueError(f"{where}kind {name!r} is unknown; {choose(name, sorted(TABLE_KINDS))}")
    return TABLE_KINDS[name]()
