"""A lack of disk or memory while tables are read, as one error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from cm2.durable import FULL
from cm2.errors import InputError, spelled
from cm2.progress import Progress
from data_prep.mimic.raw import reason


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
