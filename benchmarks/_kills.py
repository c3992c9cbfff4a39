"""Ends a process at a chosen instant of its writing, or lets the disk be full at a chosen size. Shared by a benchmark and by tests.

An instant is an event that Python tells of (`sys.addaudithook`) or an ``fsync``: a file below the folder is opened for writing, renamed
or removed, or a folder made. The process kills itself before the event happens; with ``torn`` the file that it was writing is first cut in
half.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cm2.durable import FULL

FINISHED, NO_SPACE, OTHER = 0, 3, 4
"""Exit codes of a process whose disk was full: it had room enough, said so, or said something else."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")


@dataclass(frozen=True)
class Phase:
    """Something that writes.

    Args:
        name: of the phase.
        call: writes below the folder it is given.
        content: of such a folder, what has to be equal however often it was interrupted.
        before: what a folder holds before, if anything; copied.
    """

    name: str
    call: Callable[[Path], object]
    content: Callable[[Path], Any]
    before: Path | None = None

    def fresh(self, folder: Path) -> Path:
        """A new folder to call it on."""
        return Path(shutil.copytree(self.before, folder)) if self.before else (folder.mkdir(parents=True), folder)[1]


def instants(phase: Phase, folder: Path) -> int:
    """Number of instants of an unbroken call."""
    counted = multiprocessing.get_context("fork").Value("i", 0)
    phase.fresh(folder)
    code = _in_a_process(lambda: (_aim(folder, None, False, counted), phase.call(folder)))
    assert code == FINISHED, f"{phase.name}: exit code {code}"
    return counted.value


def killed(phase: Phase, folder: Path, at: int, torn: bool) -> bool:
    """Calls the phase on a new folder, and kills it before event number ``at``; False if it had ended by then."""
    phase.fresh(folder)
    code = _in_a_process(lambda: (_aim(folder, at, torn), phase.call(folder)))
    assert code in (FINISHED, -signal.SIGKILL), f"{phase.name}: exit code {code}"
    return code == -signal.SIGKILL


def without_space(phase: Phase, folder: Path, size: int) -> int:
    """Calls the phase on a new folder, with no room for a file of more than so many bytes: `FINISHED`, `NO_SPACE` or `OTHER`."""
    phase.fresh(folder)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        phase.call(folder)

    return _in_a_process(limited)


def leftovers(folder: Path) -> list[str]:
    """Names that no finished call may leave."""
    return sorted(path.name for path in folder.rglob(".*") if path.name.endswith((".part", ".partial", ".work", ".lock")))


def _in_a_process(call: Callable[[], object]) -> int:
    process = multiprocessing.get_context("fork").Process(target=_call, args=(call,))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _call(call: Callable[[], object]) -> None:
    try:
        call()
    except OSError as error:
        os._exit(NO_SPACE if error.errno in FULL else OTHER)
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(OTHER)
    os._exit(FINISHED)


def _aim(folder: Path, at: int | None, torn: bool, counted: Any = None) -> None:
    """Counts events from here on, and kills the process before event number ``at``."""
    inside, count, writing = str(folder), [0], [""]
    synchronise, process = os.fsync, os.getpid()

    def event() -> None:
        if os.getpid() != process:
            return
        count[0] += 1
        if counted is not None:
            counted.value = count[0]
        if count[0] == at:
            if torn and writing[0] and os.path.exists(writing[0]):
                os.truncate(writing[0], os.path.getsize(writing[0]) // 2)
            os.kill(process, signal.SIGKILL)

    def told(name: str, arguments: tuple[Any, ...]) -> None:
        if name not in _EVENTS or not isinstance(arguments[0], str | os.PathLike):
            return
        path = os.fspath(arguments[0])
        if not isinstance(path, str) or not path.startswith(inside) or (name == "open" and not arguments[2] & _WRITING):
            return
        event()
        if name == "open" and not path.endswith(".lock"):
            writing[0] = path
        elif name == "os.rename":
            writing[0] = ""

    def counting(handle: int) -> None:
        event()
        synchronise(handle)

    os.fsync = counting
    sys.addaudithook(told)
