"""Tables kept in a folder with the predictions of their runs, and whether these give the same numbers again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cm2.config.names import did_you_mean
from cm2.errors import InputError, spelled
from cm2.tables.contract import kind_of
from cm2.tables.planning import TablePlan
from cm2.tables.predictions import column_of, file_name, known_runs, known_tasks, read_predictions, write_predictions
from cm2.tables.result import Cell, TableResult, is_table, read
from cm2.tables.scores import SCORES, read_scores
from cm2.tables.statistics import recomputed

TOLERANCE = 1e-9
"""Largest difference, absolute and relative, of a number that was computed again: processors round sums differently."""


def keeps_predictions(result: TableResult) -> bool:
    """Whether the predictions of a table's runs were stored with it."""
    return "predictions" in result.provenance


def stored_with(result: TableResult) -> str:
    """What a table can be computed from again: ``predictions``, ``scores``, or nothing, an empty string."""
    return SCORES if SCORES in result.provenance else "predictions" if keeps_predictions(result) else ""


def check_folder(folder: Path, checksum: str) -> None:
    """Checks that everything in a folder to which a table will be written can be read.

    Args:
        folder: with other tables and their predictions, or none.
        checksum: of the table's cohort.

    Raises:
        ValueError: a table or file of predictions of another format.
    """
    kept_tables(folder)
    if (path := folder / file_name(checksum)).is_file():
        read_predictions(path, ())


def with_kept(plan: TablePlan, folder: Path) -> TablePlan:
    """The plan with the predictions of its runs that other tables in a folder, or an earlier version of the table, were computed from.

    A table then grows by seeds, tasks and rows over several calls, on several machines too, and none of its runs is trained twice.

    Args:
        plan: of a table whose numbers follow from predictions.
        folder: that receives the table.

    Raises:
        ValueError: a table or file of predictions in the folder that cannot be read.
    """
    path = folder / file_name(plan.cohort.checksum)
    if not path.is_file():
        return plan
    known = known_tasks(path)
    for task in plan.tasks.values():
        if task.name in known and known[task.name].identity != task.identity:
            other = f"a {known[task.name].type} task with other settings"
            raise InputError(f"{folder} has tables of another task {task.name}, {other}; write elsewhere with {spelled('out=', '--out')}")
    kept = known_runs(path) & {column_of(run, plan.spec.split) for run in plan.runs.values()}
    return replace(plan, earlier=read_predictions(path, sorted(kept)))


def earlier_runs(plan: TablePlan, folder: Path) -> dict[str, str]:
    """Where the runs come from whose predictions were kept: date, commit and machine by run, as the tables in the folder have them.

    Args:
        plan: see `with_kept`.
        folder: that receives the table.
    """
    made: dict[str, str] = {}
    for _, table in kept_tables(folder) if plan.earlier else ():
        source = table.provenance
        made_now = ", ".join(str(source[name]) for name in ("date", "commit", "machine") if source.get(name))
        mine = plan.earlier.keys() & {run for cell in table.cells for run in cell.runs}
        made |= {run: source.get("earlier", {}).get(run, made_now) for run in sorted(mine) if run not in made}
    return made


def keep_predictions(plan: TablePlan, result: TableResult, folder: Path, stem: str) -> None:
    """Stores the predictions of a table's runs in its folder, and removes those that no table of the folder needs.

    Args:
        plan: that of the table.
        result: the table.
        folder: where its files are.
        stem: of its files.
    """
    others = [table for path, table in kept_tables(folder) if path.stem != stem]
    needed = {key for table in others for cell in table.cells for key in cell.runs}
    write_predictions(folder / result.provenance["predictions"], plan.predictions, needed)
    used = {table.provenance.get("predictions") for table in (*others, result)}
    for path in folder.glob(file_name("*")):
        if path.name not in used:
            path.unlink()


def kept_tables(folder: Path) -> list[tuple[Path, TableResult]]:
    """The tables in a folder with the paths of their JSON files."""
    return [(path, read(path)) for path in sorted(folder.glob("*.json")) if is_table(path)]


def recompute(result: TableResult, folder: Path) -> list[Cell]:
    """The cells of a stored table, computed again from the predictions, or the scores of single stays, beside it.

    Args:
        result: the table.
        folder: where it is kept.

    Raises:
        ValueError: a table stored without predictions, or predictions that are missing or do not match the table.
    """
    if not stored_with(result):
        raise InputError(f"table {result.name} was stored without predictions and cannot be computed again; run `cm2 table` anew")
    path = folder / Path(result.provenance[stored_with(result)]).name
    try:
        if SCORES in result.provenance:
            found = kind_of(result.kind).recomputed(result, read_scores(path))
        else:
            found = recomputed(result, read_predictions(path, _runs(result)))
    except (LookupError, TypeError) as error:
        raise InputError(f"table {result.name} in {folder} lacks what its numbers depend on ({error!r:.60}); compute it again") from None
    if wrong := next((name for a, b in zip(result.cells, found, strict=True) for name in _differing(asdict(a), asdict(b))), ""):
        raise InputError(
            f"table {result.name} in {folder} does not match its {stored_with(result)}: another {wrong}; compute the table again with"
            " `cm2 table`"
        )
    return found


def compared_with(result: TableResult, row: str, predictions: Path) -> TableResult:
    """A stored table whose rows are compared with another one than its reference, computed from the predictions of its runs.

    The differences have the intervals of both kinds of chance; Holm's correction is over all of them, as in a table of its own.

    Args:
        result: a table of results.
        row: label of the row with which the others are compared.
        predictions: file with the predictions of its runs, such as `kept_predictions`.

    Raises:
        ValueError: no such row, or predictions that are missing.
    """
    rows = tuple(dict.fromkeys(cell.row for cell in result.cells))
    if row not in rows:
        raise InputError(f"table {result.name} has no row {row!r}{did_you_mean(row, rows)}")
    other = replace(result, reference=row)
    return replace(other, cells=tuple(recomputed(other, read_predictions(predictions, _runs(result)))))


def _runs(result: TableResult) -> dict[str, None]:
    """Keys of all runs of a table, each once."""
    return dict.fromkeys(key for cell in result.cells for key in cell.runs)


def verify_tables(folder: Path) -> Iterator[tuple[str, str]]:
    """Each table of a folder, by its stem, and what is wrong with it; empty if nothing is.

    Args:
        folder: with stored tables.

    Raises:
        ValueError: there is no table in it.
    """
    tables = kept_tables(folder)
    if not tables:
        raise InputError(f"{folder} holds no table; write one with `cm2 table --out {folder}`")
    for path, table in tables:
        if not kind_of(table.kind).trained:
            yield f"{path.stem}: read", ""
            continue
        if not stored_with(table):
            yield f"{path.stem}: kept without predictions, cannot be recomputed", ""
            continue
        try:
            recompute(table, path.parent)
        except ValueError as error:
            yield path.stem, str(error)
        else:
            yield f"{path.stem}: every interval and p-value recomputed from its {stored_with(table)}", ""


def _differing(a: Mapping[str, Any], b: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Names of the numbers in which two cells differ."""
    for name in a.keys() | b.keys():
        if not _same(a.get(name), b.get(name)):
            yield f"{before}{name} of {a['row']}, {a['section']}, {a['task']}, {a['metric']}"


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[name], b[name]) for name in a)
    if isinstance(a, Sequence) and isinstance(b, Sequence) and not isinstance(a, str):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(a == b)
