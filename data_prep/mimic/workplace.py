"""Folder for intermediate tables: one preparation at a time; leftovers of an interrupted one are removed by the next."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from filelock import FileLock, Timeout

from cm2.progress import Progress
from data_prep.mimic.raw import reason


@contextmanager
def workplace(out: Path, temporary: Path | str | None) -> Iterator[Path]:
    """A folder for intermediate tables; leftovers of an interrupted preparation, there and of its cohort, are removed first."""
    out.parent.mkdir(parents=True, exist_ok=True)
    place = Path(temporary or out.parent) / f".{out.name}.work"
    lock = FileLock(out.parent / f".{out.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"{out} is being prepared by another process; wait for it or choose another folder") from None
    try:
        for left in (place, *out.parent.glob(f".{out.name}.*.partial")):
            shutil.rmtree(left, ignore_errors=True)
        place.mkdir(parents=True)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


@contextmanager
def one_error(out: Path, progress: Progress) -> Iterator[None]:
    """Turns a lack of disk or memory into one error that names the stage and the remedy, and quotes no row."""
    try:
        yield
    except duckdb.Error as error:
        told = reason(error)[:200]
        remedy = "raise --memory-limit, or name a folder with more space by --temporary"
        raise ValueError(f"{out}: DuckDB stopped in the stage {progress.note!r} ({told}); {remedy}") from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = f"no space left while preparing {out}, in the stage {progress.note!r}"
        raise ValueError(f"{where}; free some, or name another folder with --temporary ({error})") from None
