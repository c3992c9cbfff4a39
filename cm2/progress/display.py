"""Display of a progress: lines, a bar, or a file for another process; a thread updates it at fixed intervals."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from tqdm import tqdm

from cm2.escape import terminal
from cm2.progress.words import duration

INTERVAL = 30.0
"""Seconds between two lines where there is no terminal."""
REFRESH = 0.5
"""Seconds between two updates of a bar, and between two writes of the file for another process."""


class State(NamedTuple):
    """Where a progress stands."""

    words: tuple[str, ...]
    """Its name, its stage or count, and those of the progress within it."""
    share: float
    """Fraction done, from 0 to 1."""
    limit: bool
    """Whether it may end before its total is reached."""


class Root(Protocol):
    """The outermost progress, as the displays use it."""

    name: str

    @property
    def seconds(self) -> float: ...

    def state(self) -> State: ...

    def time_left(self) -> str: ...

    def counted(self) -> tuple[list[str], Counted | None]: ...


class Counted(NamedTuple):
    """A part whose steps can be counted."""

    key: int
    """Identifies the part."""
    done: float
    first: int
    """Steps done by an earlier call."""
    total: int | None
    unit: str
    seconds: float
    within: str
    """The progress within it, in words."""


class Reporter:
    """Calls a function at fixed intervals, in a thread that ends with ``stop``.

    Args:
        tell: shows the progress.
        period: seconds between two calls.
        end: called at the end with "done in" or "stopped after".
    """

    def __init__(self, tell: Callable[[], None], period: float, end: Callable[[str], None]) -> None:
        self._tell, self._period, self._end = tell, period, end
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cm2 progress", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(self._period):
            with suppress(Exception):  # stderr may be closed or the disk full: the work goes on
                self._tell()

    def stop(self, how: str) -> None:
        """Ends the thread."""
        self._ended.set()
        self._thread.join()
        with suppress(Exception):
            self._end(how)


def lines(root: Root) -> Reporter:
    """One line per interval on stderr, and a last one if there was any."""
    spoke = threading.Event()

    def tell() -> None:
        first, *others = root.state().words or ("at work",)
        _write(f"{first}{': ' if others else ''}{', '.join(others)} ({duration(root.seconds)}){root.time_left()}")
        spoke.set()

    def end(how: str) -> None:
        if spoke.is_set():
            _write_end(root, how)

    return Reporter(tell, INTERVAL, end)


def bar(root: Root) -> Reporter:
    """A bar on the terminal for the outermost part that can be counted, followed by the progress within it."""
    shown: dict[int, _Bar] = {}

    def close() -> None:
        for old in shown.values():
            old.close()
        shown.clear()

    def tell() -> None:
        words, counted = root.counted()
        if counted is None or counted.key not in shown:
            close()
        if counted is None:
            return
        if counted.key not in shown:
            shown[counted.key] = _Bar(
                desc=terminal(", ".join(words), lines=False),
                total=counted.total,
                initial=counted.first,
                unit=counted.unit or "it",
                unit_scale=counted.unit == "B",
                leave=False,
                dynamic_ncols=True,
                file=sys.stderr,
            )
            shown[counted.key].start_t -= counted.seconds
        here = shown[counted.key]
        here.n = counted.done
        here.set_description(terminal(", ".join(words), lines=False), refresh=False)
        here.set_postfix_str(terminal(counted.within, lines=False), refresh=False)
        here.refresh()

    def end(how: str) -> None:
        close()
        if root.seconds > INTERVAL:
            _write_end(root, how)

    return Reporter(tell, REFRESH, end)


def note(root: Root, path: Path) -> Reporter:
    """A file with the state, for the process that waits for this one; it is renamed into place and so always read whole."""
    part = path.with_suffix(".part")

    def tell() -> None:
        part.write_text(json.dumps(root.state()), encoding="utf-8")
        part.replace(path)

    return Reporter(tell, REFRESH, lambda _: path.unlink(missing_ok=True))


def read_notes(folder: Path) -> list[State]:
    """The states of other processes."""
    found = []
    for path in sorted(path for path in folder.iterdir() if not path.suffix):
        with suppress(OSError, ValueError):  # the process has ended in the meantime
            words, share, limit = json.loads(path.read_text(encoding="utf-8"))
            found.append(State(tuple(words), share, limit))
    return found


class _Bar(tqdm):
    monitor_interval = 0  # otherwise tqdm starts a monitor thread, which outlives the bar


def _write_end(root: Root, how: str) -> None:
    _write(f"{root.name}{': ' if root.name else ''}{how} {duration(root.seconds)}")


def _write(line: str) -> None:
    sys.stderr.write(f"{terminal(line, lines=False)}\n")
    sys.stderr.flush()
