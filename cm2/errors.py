"""Errors that the user of a command can cause and mend, apart from all others, which are faults of this package."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

_FULL = "no space left on the device; free some and call again"
_SYSTEM = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: "permission denied; change its permissions, or give another place",
    errno.EPERM: "the system does not permit it; change its permissions, or give another place",
    errno.EROFS: "the file system can only be read; give another place",
    errno.ENOENT: "there is no such file or folder; give the path of one that is there",
    errno.ENOTDIR: "a part of this path is a file, not a folder; give another path",
    errno.EISDIR: "this is a folder, not a file; give the path of a file",
    errno.EEXIST: "this is there already; give another path, or remove it",
    errno.ENOTEMPTY: "this folder is not empty; give another path, or remove what is in it",
    errno.ENAMETOOLONG: "the name is too long for the file system; give a shorter one",
    errno.ELOOP: "its links lead in a circle; give another path",
    errno.EMFILE: "too many files are open; lower --jobs, or raise the limit with `ulimit -n`",
    errno.EIO: "the disk reports an error; copy the file anew, or give another place",
    errno.ESTALE: "the file on the network is no longer there; call again",
}
"""What a user can do about an error of the operating system."""


_caller: ContextVar[str] = ContextVar("caller", default="function")


class InputError(ValueError):
    """What a user gave cannot be used: an option, a file, a setting, or data.

    Raised where it enters: its message is one line with the file, the row or field, the value and what to do. The command line shows it and
    ends with exit code 2. Every other error is a fault of this package.
    """


class DivergedError(InputError):
    """A training that led nowhere under the settings it was given: nothing of it may be kept."""


@contextmanager
def in_the_words_of(caller: Literal["function", "command line", "estimator"]) -> Iterator[None]:
    """While it lasts, errors name what to give as this caller's user gives it; see `spelled`."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


def spelled(called: str, typed: str, fitted: str | None = None) -> str:
    """The part of a message that names something to give, in the user's words.

    Args:
        called: as the argument of a function: ``unmatched='drop'``.
        typed: as an option of the command line: ``--drop-unmatched``.
        fitted: as what an estimator of scikit-learn takes; None: as ``called``.
    """
    return {"function": called, "command line": typed, "estimator": called if fitted is None else fitted}[_caller.get()]


@contextmanager
def errors_of(where: str) -> Iterator[None]:
    """While it lasts, errors begin with the setting, file or row that they come from, unless they name it already.

    Args:
        where: how they begin; empty: as they are.
    """
    try:
        yield
    except InputError as error:
        if not where or where in str(error):
            raise
        raise type(error)(f"{where}: {error}") from error.__cause__


def of_the_system(error: OSError) -> str | None:
    """An error of the operating system in one line, ``PATH: permission denied; ...``; None for one that no user can mend."""
    what = _SYSTEM.get(error.errno or 0)
    if what is None:
        return None
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    return f"{where}: {what}" if where else what


def out_of_memory(error: BaseException) -> str | None:
    """An error of an allocation in one line; None for any other."""
    torch_said = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    if not (isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and torch_said)):
        return None
    return "out of memory; lower --jobs, train.batch_size or encoder.text.max_length, end other programs, or use a larger machine"
