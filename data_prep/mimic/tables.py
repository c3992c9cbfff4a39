"""A cohort from tables that DuckDB reads: memory, threads, a place for what does not fit, and one error where that is too little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from cm2.durable import FULL
from cm2.errors import InputError, spelled
from cm2.progress import Progress
from data_prep.mimic.raw import attach, quoted, reason
from data_prep.once import Asked, prepare_once
from data_prep.writer import PreparedCohort


@dataclass(frozen=True)
class Means:
    """What a preparation from tables may use.

    Args:
        memory_limit: memory limit of DuckDB, with a unit.
        jobs: number of threads.
        temporary: folder for data that do not fit into memory; None: beside the cohort.
    """

    memory_limit: str
    jobs: int
    temporary: Path | str | None


@dataclass(frozen=True)
class Tables:
    """Tables at work.

    Args:
        connection: connection to DuckDB, to which a DuckDB file among the raw data is attached.
        work: folder for intermediate files.
        progress: receives the name of each stage.
        counts: for the manifest; ``source`` is there already.
    """

    connection: duckdb.DuckDBPyConnection
    work: Path
    progress: Progress
    counts: dict[str, Any]


def prepare_from_tables(
    asked: Asked,
    raw: Path,
    means: Means,
    stages: int,
    check: Callable[[duckdb.DuckDBPyConnection], dict[str, Any]],
    make: Callable[[Tables], PreparedCohort],
) -> Path:
    """Prepares a cohort from tables that DuckDB reads; a lack of disk or memory is one error that names the stage.

    Args:
        asked: the cohort.
        raw: folder of the tables, or a DuckDB file of them.
        means: memory, threads, and a place for what does not fit.
        stages: number of stages, for the progress.
        check: looks at the files before anything is prepared; what it returns is ``source`` among the counts.
        make: makes the cohort.

    Returns:
        The cohort's folder.

    Raises:
        ValueError: a memory limit that is none; or as ``prepare_once``, ``check`` and ``make``.
    """
    progress = Progress(f"preparing {asked.name}", stages, even=False)

    def made(work: Path) -> PreparedCohort:
        with closing(_connected(work, means, progress)) as connection:
            attach(connection, raw)
            progress.stage("checking the files")
            return make(Tables(connection, work, progress, {"source": check(connection)}))

    return prepare_once(asked, made, progress, means.temporary, (progress, one_error(asked.out, progress)))


def _connected(work: Path, means: Means, progress: Progress) -> duckdb.DuckDBPyConnection:
    """A connection to a database in the work folder, which spills there.

    Raises:
        ValueError: a memory limit that DuckDB does not understand.
    """
    connection = duckdb.connect(str(work / "events.duckdb"))
    try:
        connection.execute(f"SET memory_limit = {quoted(means.memory_limit)}")
    except duckdb.Error:
        raise InputError(f"memory_limit: got {means.memory_limit!r}; give a number with a unit, for example 3GB") from None
    spill = quoted(str(work / "spill"))
    connection.execute(f"SET threads = {means.jobs}; SET preserve_insertion_order = false; SET temp_directory = {spill}")
    with suppress(duckdb.InvalidInputException):  # raised in a notebook without widgets, where DuckDB has no bar to configure
        connection.execute("SET enable_progress_bar_print = false")
        connection.execute(f"SET enable_progress_bar = {progress.shown}")  # without it query_progress() reports nothing
    return connection


@contextmanager
def one_error(out: Path, progress: Progress) -> Iterator[None]:
    """Turns a lack of disk or memory into one error that names the stage and the remedy, and quotes no row."""
    try:
        yield
    except duckdb.Error as error:
        told = reason(error)[:200]
        limit, temporary = spelled("memory_limit=", "--memory-limit"), spelled("temporary=", "--temporary")
        remedy = f"raise {limit}, or name a folder with more space by {temporary}"
        raise InputError(f"{out}: DuckDB stopped in the stage {progress.note!r} ({told}); {remedy}") from None
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = f"no space left while preparing {out}, in the stage {progress.note!r}"
        raise InputError(f"{where}; free some, or name another folder with {spelled('temporary=', '--temporary')} ({error})") from None
