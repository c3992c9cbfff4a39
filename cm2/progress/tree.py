"""Nested progress: long computations and their parts."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self, TypeVar

from cm2.errors import InputError
from cm2.progress.display import Counted, Reporter, State, bar, lines, note, read_notes
from cm2.progress.quiet import quiet_libraries
from cm2.progress.words import count, listed, time_left

T = TypeVar("T")
Call = tuple[Callable[..., T], tuple[Any, ...], dict[str, Any]]
_here = threading.local()  # .progress: the innermost of this thread
_serial = itertools.count()
STAGE = " of this stage"


class Progress:
    """A long computation, from ``with`` to the end of its block.

    Within another progress of the same thread it is a part of that one.

    Args:
        name: a word or two; empty for a part that is described by its count.
        total: number of steps, if it is known.
        unit: a step, in the singular; ``B`` for bytes.
        show: whether it and the parts within it are shown.
        even: whether the steps take about equally long. If not, only the time left in the current step is estimated.
        limit: whether it may end before the total is reached; the time left is then an upper bound.
        measure: fraction of the current step that is done, from 0 to 1, or bytes not counted yet; called from another thread.
    """

    def __init__(
        self,
        name: str,
        total: int | None = None,
        unit: str = "",
        *,
        show: bool = True,
        even: bool = True,
        limit: bool = False,
        measure: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.show, self.even, self.limit, self.measure = show, even, limit, measure
        self.done = self.first = 0
        self.step = 1  # number of steps that the current part stands for
        self.note = ""
        self._key, self._started = next(_serial), 0.0
        self._parent: Progress | None = None
        self._child: Progress | None = None
        self._notes: Path | None = None  # folder in which worker processes write their states
        self._reporter: Reporter | None = None

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._parent = innermost()
        if self._parent is None:
            self._reporter = self._report() if self.show else None
        elif self.show:
            self._parent._child = self
        _here.progress = self
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _here.progress = self._parent
        if self._parent is not None and self._parent._child is self:
            self._parent._child = None
        if self._reporter is not None:
            self._reporter.stop("done in" if kind is None else "stopped after")

    def _report(self) -> Reporter | None:
        # silent in a chapter of the book, and in all processes of a distributed run but the first
        if os.environ.get("CM2_RESULTS") or os.environ.get("LOCAL_RANK", "0") != "0":
            return None
        return bar(self) if _on_terminal() else lines(self)

    @property
    def shown(self) -> bool:
        """Whether it is displayed, by itself or as a part of another."""
        root = self
        while root._parent is not None and root._parent._child is root:
            root = root._parent
        return root._reporter is not None

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._started

    def advance(self, steps: int = 1) -> None:
        """Counts finished steps."""
        self.done += steps

    def skip(self, steps: int) -> None:
        """Counts steps done by an earlier call, which are left out of the estimate of the time left."""
        self.done += steps
        self.first += steps

    def stage(self, name: str) -> None:
        """Begins a named step, and counts the one before."""
        self.done += bool(self.note)
        self.note = name

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """The items, each counted when the next one is requested."""
        for item in items:
            yield item
            self.advance()

    def parallel(self, calls: Sequence[Call[T]], jobs: int = 1) -> list[T]:
        """Results of calls, in their order; each is counted when it is finished, and the states of the processes are shown.

        Args:
            calls: made with ``joblib.delayed``.
            jobs: number of calls in parallel, through joblib's backend; -1: one for each core.

        Raises:
            InputError: ``jobs`` is 0.
        """
        from joblib import Parallel, delayed

        if not jobs:
            raise InputError("jobs: expected 1 or more, or -1 for one on each core, got 0")

        home, results = (os.getpid(), threading.get_ident()), {}
        with tempfile.TemporaryDirectory(prefix="cm2-") if self.shown else nullcontext() as folder:
            self._notes = Path(folder) if folder else None
            work = (delayed(_call)(home, self._notes and self._notes / str(place), place, call) for place, call in enumerate(calls))
            try:
                for place, result in Parallel(n_jobs=jobs, return_as="generator_unordered")(work):
                    results[place] = result
                    self.advance()
            finally:
                self._notes = None
        return [results[place] for place in range(len(calls))]

    def state(self) -> State:
        """The current work, and how much of it is done."""
        within = self._within()
        words = (self.name, self.note or self._count(), *_words(within))
        limit = self.limit or ((self.total or 1) == 1 and any(state.limit for state in within))
        part = self.step * sum(state.share for state in within) or self.measure()
        share = min(1.0, (self.done + part) / (self.total or 1)) if self.even else 0.0
        return State(tuple(filter(None, words)), share, limit)

    def time_left(self) -> str:
        """ "; about 2 min left", or nothing where that is unknown."""
        child = self._child
        if self.even and (self.total is not None or child is None):
            state = self.state()
            return time_left(state.share, self.first / (self.total or 1), self.seconds, state.limit)
        left = child.time_left() if child is not None else ""
        return f"{left}{STAGE}" if left and not self.even and not left.endswith(STAGE) else left

    def counted(self) -> tuple[list[str], Counted | None]:
        """The outermost part whose steps can be counted, and the names of the parts around it."""
        words: list[str] = []
        part: Progress | None = self
        while part is not None:
            words += [word for word in (part.name, part.note) if word]
            if part._count():
                steps = part._reached(), part.first, part.total, part.unit
                return words, Counted(part._key, *steps, part.seconds, ", ".join(_words(part._within())))
            part = part._child
        return words, None

    def _within(self) -> list[State]:
        child, notes = self._child, self._notes
        return [child.state()] if child is not None else read_notes(notes) if notes is not None else []

    def _reached(self) -> float:
        return self.done + self.measure() if self.unit == "B" else self.done

    def _count(self) -> str:
        return count(self._reached(), self.total, self.unit)


def innermost() -> Progress | None:
    """The innermost progress of this thread, if there is one."""
    return getattr(_here, "progress", None)


class _Away(Progress):
    """The outermost progress of a worker process: it writes its state to a file for the process that started it."""

    def __init__(self, path: Path | None) -> None:
        super().__init__("", show=path is not None)
        self._path = path

    def __enter__(self) -> Self:
        _here.progress = None  # a forked process inherits its parent's
        return super().__enter__()

    def _report(self) -> Reporter | None:
        return note(self, self._path) if self._path is not None else None


def _on_terminal() -> bool:
    try:
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):  # there is no stderr, or it is closed
        return False


def _words(states: Sequence[State]) -> tuple[str, ...]:
    return states[0].words if len(states) == 1 else (listed([", ".join(state.words) for state in states if state.words]),)


def _call(home: tuple[int, int], path: Path | None, place: int, call: Call[T]) -> tuple[int, T]:
    """Runs a call: in a worker under a progress that writes its state to a file, in the calling thread as a part of the current one."""
    function, arguments, named = call
    if home == (os.getpid(), threading.get_ident()):
        return place, function(*arguments, **named)
    if home[0] != os.getpid():
        quiet_libraries()
    with _Away(path if path is not None and path.parent.is_dir() else None):  # a machine of its own has not that folder
        return place, function(*arguments, **named)
