"""Tables for others to see: one folder with a folder for each cohort, and every table side by side over the cohorts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cm2.cohorts import Cohort, load_cohort
from cm2.cohorts.format import fabricated
from cm2.durable import write_text
from cm2.errors import InputError
from cm2.results import kept
from cm2.runs.provenance import called
from cm2.tables.description import describe
from cm2.tables.loading import load_table
from cm2.tables.recomputation import kept_tables
from cm2.tables.result import TableResult, is_table, read
from cm2.tables.run import stem_of, table
from cm2.tables.text import notes, side_by_side, values

SIMULATED = "synthetic"
"""The cohort that the book simulates; its tables are about methods, not about patients."""
DESCRIPTION = "cohort.json"
"""Aggregates of a cohort beside its tables; see `cm2.tables.description`."""


def publish(name: str | int | Path, cohorts: Sequence[Cohort | Path | str], folder: Path, **options: Any) -> list[TableResult]:
    """A table on several cohorts, written as far as it may leave the machine.

    For each cohort, ``COHORT/`` below the folder receives the table, of an open cohort with its predictions, and ``cohort.json``, the
    cohort's flow chart and counts. ``table-N.md`` in the folder itself shows all cohorts that have the table there side by side, earlier
    ones included. Of a credentialed cohort everything passes its `Disclosure`, and a count is also set against the cohort's other tables
    in the folder. No path, run folder, prediction or weight of it is written.

    Args:
        name: see ``cm2.tables.table``.
        cohorts: prepared cohorts or their folders.
        folder: ``results`` of a checkout, for example, where the chapters find it.
        options: further arguments of ``cm2.tables.table``; not ``out``.

    Returns:
        The table of each cohort.

    Raises:
        ValueError: before any training: two cohorts that would share a folder, or a folder with tables of another version of a cohort; or
            an error of ``table``.
    """
    opened = [cohort if isinstance(cohort, Cohort) else load_cohort(cohort) for cohort in cohorts]
    shelves = [folder / shelf(cohort) for cohort in opened]
    for cohort, place in zip(opened, shelves, strict=True):
        if shelves.count(place) > 1:
            raise InputError(f"two cohorts are called {place.name}; publish them into different folders")
        _check(cohort, place)
    results = []
    for cohort, place in zip(opened, shelves, strict=True):
        results.append(table(name, cohort, out=place, **options))
        described = json.dumps(describe(cohort), indent=1, ensure_ascii=False, allow_nan=False)
        write_text(place / DESCRIPTION, described + "\n")
    stem = stem_of(load_table(name), options.get("only", ()))
    write_text(folder / f"{stem}.md", side_by_side([read(path) for path in sorted(folder.glob(f"*/{stem}.json"))]))
    return results


def shelf(cohort: Cohort) -> str:
    """Name of a cohort's folder among published tables: a fabricated one never lies where the real one would."""
    return f"{cohort.name}-fabricated" if cohort.disclosure.fabricated else cohort.name


def others(name: str | int, cohort: str | Path) -> Iterator[TableResult]:
    """A table on every other cohort whose results are kept in the checkout; never on a simulated or a fabricated one.

    Args:
        name: see ``cm2.tables.load_table``.
        cohort: the one that a page is about.
    """
    folder, stem = kept(), load_table(name).file
    for path in sorted(folder.glob(f"*/{stem}.json")) if folder is not None else ():
        if path.parent.name not in (str(cohort), SIMULATED) and is_table(path):
            result = read(path)
            if not fabricated(result.provenance):
                yield result


def other_cohorts(*names: str | int, cohort: str | Path) -> str:
    """Tables on the other cohorts, one block below the other with the paper's rows, as Markdown for a page; how to add one, if none is.

    Args:
        names: see ``cm2.tables.load_table``.
        cohort: the one that the page is about.
    """
    found = [(name, result) for name in names for result in others(name, cohort)]
    blocks = [f"**Table {name}, {called(result.provenance)}**\n\n{values(result)}\n{notes(result)}" for name, result in found]
    add = f"`cm2 table {names[0]} --cohort DIR --publish results` adds the block of a cohort of your own, a copy of MIMIC for example."
    return "\n\n".join(blocks) or f"No other cohort's table is kept. {add}"


def _check(cohort: Cohort, place: Path) -> None:
    for path, result in kept_tables(place) if place.is_dir() else ():
        if (other := result.provenance.get("cohort_checksum")) != cohort.checksum:
            versions = f"({str(other)[:12]}, not {cohort.checksum[:12]})"
            raise InputError(f"{path} is about another version of {cohort.name} {versions}; publish into another folder")
