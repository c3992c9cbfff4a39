"""Execute chapters in parallel processes, each after the chapters whose results it reads."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import Timeout

from cm2.book.cache import Cache, Execution, key_without
from cm2.book.failure import ChapterError, Failure, Failures
from cm2.book.launch import Launcher
from cm2.book.process import Process, Task
from cm2.durable import Lock
from cm2.progress import about, duration

HEARTBEAT = 30.0
"""Seconds between two lines of progress while chapters execute."""


class Executor:
    """Execute tasks, at most ``jobs`` at a time. A chapter that fails does not stop the others.

    Args:
        cache: receives the finished chapters.
        failures: receives the failed chapters.
        root: the repository, working folder of every chapter.
        environment: environment of the executing processes, see ``child_environment``.
        jobs: number of processes in parallel.
        source: provenance recorded with every execution, called when the first has finished.
        report: called with one line of text for every event.
        strict: start nothing more after a failure.
    """

    def __init__(
        self,
        cache: Cache,
        failures: Failures,
        root: Path,
        environment: Mapping[str, str],
        jobs: int,
        source: Callable[[], Mapping[str, Any]],
        report: Callable[[str], None],
        strict: bool,
    ) -> None:
        self.cache, self.failures, self.root, self.environment = cache, failures, root, environment
        self.jobs, self.source, self.report, self.strict = jobs, source, report, strict
        self.running: list[Process] = []
        self.done: dict[str, Execution] = {}
        self.failed: dict[str, Failure] = {}

    def run(self, tasks: list[Task], done: Mapping[str, Execution]) -> dict[str, Execution]:
        """Execute the tasks; ``done`` holds the chapters that need no execution, by name.

        Returns:
            Every execution by chapter; ``failed`` holds the chapters without one.

        Raises:
            ChapterError: if strict, for the chapters that failed. Chapters that had started are finished and stored.
        """
        waiting, total, beat = self._longest_first(tasks), len(tasks), time.monotonic()
        self.done = dict(done)
        with Launcher(self.environment, self.root, total) as launcher:
            try:
                while self.running or (waiting and not self._halted):
                    waiting = self._start(waiting, launcher)
                    for process in [process for process in self.running if process.ended()]:
                        self._collect(process, total, waiting)
                    if (self.running or waiting) and time.monotonic() - beat > HEARTBEAT:
                        beat = time.monotonic()
                        self._sign_of_life(waiting)
                    time.sleep(0.05)
            finally:
                for process in self.running:
                    process.close()
        if self._halted:
            raise ChapterError(list(self.failed.values()))
        return self.done

    @property
    def _halted(self) -> bool:
        return self.strict and bool(self.failed)

    def _longest_first(self, tasks: list[Task]) -> list[Task]:
        """Longest critical path first: a chapter's own time plus that of the chapters that wait for it."""

        def way(name: str) -> float:
            task = by_name[name]
            own = self.cache.seconds(task.chapter, task.parameters.get("profile")) or 0.0
            return own + max((way(other) for other in by_name if name in by_name[other].chapter.after), default=0.0)

        by_name = {task.chapter.name: task for task in tasks}
        return sorted(tasks, key=lambda task: -way(task.chapter.name))

    def _start(self, waiting: list[Task], launcher: Launcher) -> list[Task]:
        """Start the tasks that can be started; returns the others."""
        remaining = []
        for task in waiting:
            ready = all(name in self.done or name in self.failed for name in task.chapter.after)
            if not ready or self._halted or not self._begin(task, launcher):
                remaining.append(task)
        return remaining

    def _begin(self, task: Task, launcher: Launcher) -> bool:
        """Find the execution, or start it; False if it has to wait for a free slot or for another process."""
        missing = tuple(sorted(set().union(*(self._missing(name) for name in task.chapter.after))))
        if missing:
            task = replace(task, key=key_without(task.key, missing), without=missing)
        if missing and self._known(task):
            return True
        return len(self.running) < self.jobs and self._launch(task, launcher)

    def _missing(self, name: str) -> set[str]:
        """Chapters whose results are missing for a chapter that reads from this one."""
        return {name} if name in self.failed else set(self.done[name].meta.get("without", ()))

    def _known(self, task: Task) -> bool:
        """Whether it was tried before with the same results missing."""
        if stored := self.cache.get(task.chapter, task.key):
            self.done[task.chapter.name] = stored
        elif failure := self.failures.get(task.chapter, task.key):
            self.failed[task.chapter.name] = failure
        else:
            return False
        return True

    def _launch(self, task: Task, launcher: Launcher) -> bool:
        lock = Lock(self.cache.lock_path(task.chapter, task.key))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        stored = self.cache.get(task.chapter, task.key)  # once more, under the lock: another process may have stored it
        if stored:
            lock.release()
            self.done[task.chapter.name] = stored
            self.report(f"{task.chapter.name}: executed meanwhile by another process")
            return True
        earlier = [self.done[name] for name in task.chapter.after if name in self.done]
        self.running.append(Process(task, self.cache, self.root, launcher, earlier, lock))
        without = f", without the results of {', '.join(task.without)}" if task.without else ""
        self.report(f"{task.chapter.name}: started{without}")
        return True

    def _collect(self, process: Process, total: int, waiting: list[Task]) -> None:
        name, seconds = process.task.chapter.name, process.seconds
        try:
            outcome = process.finish({"seconds": round(seconds, 2), **self.source()}, self.failures)
        finally:
            self.running.remove(process)
            process.close()
        if isinstance(outcome, Failure):
            self.failed[name] = outcome
            self.report(f"{name}: FAILED after {duration(seconds)}, {outcome.where or 'before its first cell'}")
        else:
            self.done[name] = outcome
            finished = total - len(waiting) - len(self.running)
            self.report(f"{name}: executed in {duration(seconds)} ({finished} of {total}{self._time_left(waiting)})")

    def _sign_of_life(self, waiting: list[Task]) -> None:
        names = ", ".join(f"{process.task.chapter.name} ({duration(process.seconds)})" for process in self.running)
        self.report(f"executing {names or 'nothing: waiting for another process'}{self._time_left(waiting)}")

    def _time_left(self, waiting: list[Task]) -> str:
        """ "; about 2 min left", if the time of every unfinished chapter is known; empty otherwise."""
        unfinished = [(task, 0.0) for task in waiting] + [(process.task, process.seconds) for process in self.running]
        known = [(self.cache.seconds(task.chapter, task.parameters.get("profile")), spent) for task, spent in unfinished]
        if not unfinished or any(expected is None for expected, _ in known):
            return ""
        left = [max(expected - spent, 1.0) for expected, spent in known if expected is not None]
        return f"; about {about(max(max(left), sum(left) / self.jobs))} left"
