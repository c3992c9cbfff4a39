"""One preparation of a folder at a time, with a place for intermediate files; leftovers of a killed one are removed by the next."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import Timeout

from cm2.durable import Lock
from cm2.progress import Progress


@contextmanager
def workplace(out: Path, temporary: Path | str | None = None) -> Iterator[Path]:
    """A folder for intermediate files of the preparation of ``out``; waits while another process prepares ``out``.

    What the other has prepared is there then: look again before you begin. Leftovers of a killed preparation are removed first.

    Args:
        out: folder of the prepared cohort.
        temporary: where the folder is made; default: beside ``out``.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    place = Path(temporary or out.parent) / f".{out.name}.work"
    lock = _lock(out)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with Progress(f"waiting for another process that prepares {out}"):
            lock.acquire()
    try:
        _clear(out, place)
        place.mkdir(parents=True)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        lock.release()


def remove_leftovers(out: Path) -> None:
    """Removes what a preparation of ``out`` has left that was killed when it was all but done; nothing while one is under way."""
    lock = _lock(out)
    if not Path(lock.lock_file).exists():
        return
    with suppress(Timeout, OSError), lock.acquire(timeout=0):
        _clear(out, out.parent / f".{out.name}.work")


def _lock(out: Path) -> Lock:
    return Lock(out.parent / f".{out.name}.lock")


def _clear(out: Path, place: Path) -> None:
    for left in (place, *out.parent.glob(f".{out.name}.*.partial")):
        shutil.rmtree(left, ignore_errors=True)
