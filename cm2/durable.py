"""Files that survive a kill, a power cut and a full disk.

A file is written beside its place, synchronised with the disk and renamed, so that under its name there is the whole file, the one before,
or none; a folder likewise. What a killed process leaves is removed by the next one that writes to the same place.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import DTypeLike

if sys.platform != "win32":
    import fcntl

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk, a quota or a limit on the size of a file that is used up."""
_WORDS = {f"os error {code}": code for code in FULL} | {os.strerror(code): code for code in FULL}


class Lock(FileLock):
    """A lock between processes, whose file is removed when the lock is released."""

    def acquire(self, *arguments: Any, **options: Any) -> Any:
        """See ``filelock.FileLock``."""
        held = super().acquire(*arguments, **options)
        self._owner = os.getpid()
        return held

    def release(self, force: bool = False) -> None:
        """Removes the file while it is still held: who waits for it notices, and makes a new one."""
        last = self.is_locked and (force or self.lock_counter == 1)
        if last and self._owner == os.getpid():  # a forked process has a copy of the object
            with suppress(OSError):
                Path(self.lock_file).unlink()
        super().release(force)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A new file beside ``path``, to be written in the block: it takes the place of ``path`` if the block ends well, else it is removed.

    Raises:
        OSError: the disk is full, whatever a library makes of it; the file under ``path`` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path, "part")
    part, handle = _claim(path, "part", lambda new: os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)))
    try:
        with full_disk(path):
            yield part
            synchronise(part)
        part.replace(path)
        synchronise(path.parent)
    finally:
        part.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def whole_or_nothing(out: Path) -> Iterator[Path]:
    """A new folder beside ``out``: renamed to ``out`` when the block ends well, removed when it does not.

    Raises:
        OSError: ``out`` holds something, or the disk is full.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(out, "partial")
    folder, handle = _claim(out, "partial", os.mkdir)
    try:
        with full_disk(out):
            yield folder
        move(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def move(folder: Path, target: Path) -> None:
    """Renames a finished folder, after everything in it has reached the disk.

    Raises:
        OSError: ``target`` holds something.
    """
    for path in (*folder.rglob("*"), folder):
        synchronise(path)
    folder.rename(target)
    synchronise(target.parent)


def write_text(path: Path, text: str) -> Path:
    """Replaces a file by a text in UTF-8; returns ``path``."""
    with replaced(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, content: Any, **options: Any) -> Path:
    """Replaces a file by a JSON text; see ``json.dumps`` for the options."""
    return write_text(path, json.dumps(content, **({"indent": 1} | options)) + "\n")


def new_array(path: Path, dtype: DTypeLike, shape: Sequence[int]) -> np.memmap:
    """A new ``.npy`` file as a memory map, with all its space taken on the disk.

    Writing through a map into a file that has holes ends the process on a full disk, without a word.

    Raises:
        OSError: the disk is full.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=tuple(shape))
    with full_disk(path):
        _reserve(path)
    return array


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def set_aside(path: Path, why: str) -> None:
    """Renames a damaged file or folder to ``.NAME.damaged`` beside it, and warns: what it stands for is computed again."""
    aside = path.with_name(f".{path.name}.damaged")
    with suppress(FileNotFoundError):  # another process was first
        if aside.is_dir():
            shutil.rmtree(aside)
        path.replace(aside)
    warnings.warn(f"{path} is damaged ({why}) and computed again; what was there is {aside.name}", stacklevel=3)


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Turns what libraries make of a full disk into an ``OSError`` that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    except Exception as error:
        if (code := _code(error)) is None:
            raise
        raise OSError(code, os.strerror(code), str(path)) from error


def _code(error: BaseException | None) -> int | None:
    """The error of a full disk that an exception tells of, or one during whose handling it was raised."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error.errno
        if (code := next((code for words, code in _WORDS.items() if words in str(error)), None)) is not None:
            return code
        error = error.__cause__ or error.__context__
    return None


def synchronise(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return  # a folder on Windows, or one whose names may not be read
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # a file system that has no such thing
            raise
    finally:
        os.close(handle)


def _reserve(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
                return
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENODEV):
                    raise
        file.seek(min(size, 4096))  # the header is written, and its block with it
        for start in range(file.tell(), size, 1 << 20):
            file.write(bytes(min(1 << 20, size - start)))


def _claim(path: Path, ending: str, create: Callable[[str], object]) -> tuple[Path, int]:
    """Creates ``.NAME.NUMBER.ENDING`` and holds it, which tells it from the leftovers of a killed process."""
    for number in count(os.getpid()):
        part = path.with_name(f".{path.name}.{number}.{ending}")
        try:
            create(str(part))
        except FileExistsError:
            continue
        handle = os.open(part, os.O_RDONLY)
        _hold(handle, wait=True)
        if os.fstat(handle).st_nlink and part.exists():
            return part, handle
        os.close(handle)  # taken for a leftover before it was held
    raise AssertionError("there is always another number")


def _remove_leftovers(path: Path, ending: str) -> None:
    for part in path.parent.glob(f".{_escaped(path.name)}.*.{ending}"):
        try:
            handle = os.open(part, os.O_RDONLY)
        except OSError:
            continue
        try:
            if _hold(handle):
                shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
        finally:
            os.close(handle)


def _escaped(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def _hold(handle: int, wait: bool = False) -> bool:
    """Whether nobody else holds an open file or folder; this process then does, until it is closed."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True
