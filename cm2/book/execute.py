"""Execute chapters in parallel processes, in an order that respects which reads from which."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from cm2.book.cache import Cache, Execution
from cm2.book.process import ChapterError, Process, Task

HEARTBEAT = 30.0
"""Seconds between two signs of life while chapters execute."""


class Executor:
    """Execute tasks at most ``jobs`` at a time.

    Args:
        cache: where finished chapters go.
        root: the repository, working folder of every chapter.
        environment: of the executing processes, see ``child_environment``.
        jobs: processes at a time.
        commit: recorded with every execution.
        report: called with one line of text for every event.
    """

    def __init__(
        self, cache: Cache, root: Path, environment: Mapping[str, str], jobs: int, commit: str, report: Callable[[str], None]
    ) -> None:
        self.cache, self.root, self.environment, self.jobs, self.commit, self.report = cache, root, environment, jobs, commit, report
        self.running: list[Process] = []
        self.failures: list[ChapterError] = []

    def run(self, tasks: list[Task], done: dict[str, Execution]) -> dict[str, Execution]:
        """Execute the tasks; ``done`` holds the chapters that need no execution, by name. The executions of all.

        Raises:
            ChapterError: for the chapters that failed. Nothing new is started after a failure; what had started is finished and stored.
        """
        waiting, total, finished, beat = list(tasks), len(tasks), 0, time.monotonic()
        done = dict(done)
        try:
            while self.running or (waiting and not self.failures):
                waiting = self._start(waiting, done)
                for process in [process for process in self.running if process.process.poll() is not None]:
                    finished += 1
                    self._collect(process, done, f"{finished} of {total}", waiting)
                if time.monotonic() - beat > HEARTBEAT:
                    beat = time.monotonic()
                    self._sign_of_life(waiting)
                time.sleep(0.05)
        finally:
            for process in self.running:
                process.close()
        if self.failures:
            raise ChapterError("\n".join(str(failure) for failure in self.failures))
        return done

    def _start(self, waiting: list[Task], done: dict[str, Execution]) -> list[Task]:
        """Start what can be started; what remains."""
        remaining = []
        for task in waiting:
            ready = len(self.running) < self.jobs and not self.failures and all(name in done for name in task.chapter.after)
            if not (ready and self._launch(task, done)):
                remaining.append(task)
        return remaining

    def _launch(self, task: Task, done: dict[str, Execution]) -> bool:
        lock = FileLock(self.cache.lock_path(task.chapter, task.key))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        stored = self.cache.get(task.chapter, task.key)
        if stored:
            lock.release()
            done[task.chapter.name] = stored
            self.report(f"{task.chapter.name}: executed meanwhile by another process")
            return True
        self.running.append(Process(task, self.cache, self.root, self.environment, [done[name] for name in task.chapter.after], lock))
        self.report(f"{task.chapter.name}: started")
        return True

    def _collect(self, process: Process, done: dict[str, Execution], count: str, waiting: list[Task]) -> None:
        name, seconds = process.task.chapter.name, process.seconds
        self.running.remove(process)
        try:
            done[name] = process.finish(self.commit)
            self.report(f"{name}: executed in {duration(seconds)} ({count}{self._time_left(waiting)})")
        except ChapterError as error:
            self.failures.append(error)
            self.report(f"{name}: FAILED after {duration(seconds)}")
        finally:
            process.close()

    def _sign_of_life(self, waiting: list[Task]) -> None:
        names = ", ".join(f"{process.task.chapter.name} ({duration(process.seconds)})" for process in self.running)
        self.report(f"executing {names or 'nothing: waiting for another process'}{self._time_left(waiting)}")

    def _time_left(self, waiting: list[Task]) -> str:
        """ "; about 2 min left", when every unfinished chapter's time is known from before."""
        unfinished = [(task, 0.0) for task in waiting] + [(process.task, process.seconds) for process in self.running]
        known = [(self.cache.seconds(task.chapter, task.parameters.get("profile")), spent) for task, spent in unfinished]
        if not unfinished or any(expected is None for expected, _ in known):
            return ""
        left = [max(expected - spent, 1.0) for expected, spent in known if expected is not None]
        return f"; about {duration(max(max(left), sum(left) / self.jobs))} left"


def duration(seconds: float) -> str:
    """A time in words: "7.4 s", "2 min 5 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"
