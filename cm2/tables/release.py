"""What of a table may be shown: the way of every table's numbers from the computation to a file, a page or the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from cm2.cohorts import Cohort
from cm2.cohorts.disclosure import SMALLEST, Disclosure, Group
from cm2.tables.counts import count_groups
from cm2.tables.result import Cell, TableResult

Place = tuple[str, str, str]


def released(cells: Sequence[Cell], cohort: Cohort, beside: Iterable[TableResult] = ()) -> list[Cell]:
    """The cells as they may be shown; those of an open cohort as they are.

    Of a credentialed cohort, a number of stays or positives is left out if fewer than ten stays follow from it, also with the help of the
    cohort's own counts (Tables 1 and 8) and of other tables. Metrics of fewer than ten positives or negatives, or stays of a class, label
    or event, are left out, the others are rounded: a seed's exact AUROC is a fraction whose denominator is the number of pairs.

    Args:
        cells: with exact numbers; counts of stays, which have no ``n``, are guarded where they are counted.
        cohort: whose stays they are about.
        beside: tables of the same cohort in the same folder.
    """
    if not cohort.disclosure.credentialed:
        return list(cells)
    exact = {_place(cell): Group(cell.n, cell.positives) for cell in cells if cell.n is not None}
    told = [*_counted(cohort), *(Group(cell.n, cell.positives) for table in beside for cell in table.cells)]
    shown = cohort.disclosure.groups(exact, told)
    return [_released(cell, shown[_place(cell)], cohort.disclosure) if cell.n is not None else cell for cell in cells]


def _place(cell: Cell) -> Place:
    return cell.section, cell.row, cell.task


def _counted(cohort: Cohort) -> Iterator[Group]:
    """The groups whose sizes the cohort's own tables show."""
    for group in count_groups(cohort):
        yield from (Group(group["stays"][split]) for split in ("test", "total"))
        for task in group["tasks"].values():
            yield Group(task["known"]["total"], task["positives"]["total"])


def _released(cell: Cell, shown: Group, disclosure: Disclosure) -> Cell:
    n, positives = cell.n or 0, cell.positives
    smaller = n if positives is None else min(positives, n - positives)
    smaller = min(smaller, n if cell.smallest is None else cell.smallest)
    cell = replace(cell, n=shown.n, positives=shown.positives, smallest=None)
    if smaller < SMALLEST:
        return replace(cell, value=None, low=None, high=None, seeds=(), stays=(), se_stays=None, difference=None)
    number = disclosure.number
    maybe = lambda value: None if value is None else number(value)
    return replace(
        cell,
        value=maybe(cell.value),
        low=maybe(cell.low),
        high=maybe(cell.high),
        seeds=tuple(map(number, cell.seeds)),
        stays=tuple((number(low), number(high)) for low, high in cell.stays),
        se_stays=maybe(cell.se_stays),
        difference=cell.difference and {name: number(value) for name, value in cell.difference.items()},
    )
