"""A table for a page: without the groups whose numbers are hidden, or the one that comes with the book where nothing is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cm2.errors import InputError
from cm2.tables.contract import kind_of
from cm2.tables.result import TableResult, read
from cm2.uncertainty import FEWEST

OPEN = "physionet2012"
"""The cohort whose tables come with the book."""
REMARK = "on_this_page"
"""Of the provenance of a table for a page: a sentence on what the page leaves out, which stands before the notes. It is never stored."""
_WHY = f"fewer than {FEWEST} positives or negatives among its test stays, or fewer than {FEWEST} stays that would follow from it"


def for_page(result: TableResult, stem: str, folder: Path | None) -> TableResult:
    """A computed table that a page can compare, draw and count.

    A number of too few stays is left out of a table, so that it has no interval, test or rank. The pages are about the others; where there
    is none, as with a small credentialed cohort, they show the table of the open cohort that comes with the book, and say so.

    Args:
        result: any table; one that counts stays is returned as it is.
        stem: name of its files.
        folder: with the tables that come with the book, or None.

    Raises:
        ValueError: nothing is left, and the book's own table is not there either.
    """
    if not kind_of(result.kind).trained:
        return result
    shown = tuple(cell for cell in result.cells if cell.value is not None)
    compares = result.kind in ("results", "tests")
    if any(cell.difference for cell in shown) if compares else shown:
        hidden = len(result.cells) - len(shown)
        told = f"{hidden} of the {len(result.cells)} numbers of this table are not shown: {_WHY}."
        return _with(replace(result, cells=shown), told) if hidden else result
    cohort = result.provenance.get("cohort", "the cohort")
    nothing = f"No number of this table may be shown for {cohort}: each group has {_WHY}."
    path = folder / OPEN / f"{stem}.json" if folder is not None else None
    if path is None or not path.is_file():
        raise InputError(f"table {result.name}: {nothing[0].lower()}{nothing[1:-1]}; give a cohort with more test stays")
    return _with(read(path), f"{nothing} Table, figures and sentences here are those of {OPEN}, which come with the book.")


def _with(result: TableResult, told: str) -> TableResult:
    return replace(result, provenance={**result.provenance, REMARK: told})
