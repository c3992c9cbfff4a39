"""The function behind ``cm2 book``."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache as remembered
from pathlib import Path
from typing import Any

from cm2.book.cache import Cache, Execution, chapter_keys, commit, key_without
from cm2.book.chapters import Chapter, execution_order, find_root, read_chapters, resolve_parameters, with_predecessors
from cm2.book.execute import Executor
from cm2.book.failure import ChapterError, Failure, Failures
from cm2.book.process import Task, child_environment
from cm2.book.render import render, stage, unexecuted
from cm2.durable import Lock
from cm2.environment.extras import require_extra
from cm2.errors import InputError
from cm2.progress import duration

logger = logging.getLogger("cm2.book")

SHORTEST_LIMIT = 900.0
"""Smallest default time limit of a chapter, in seconds."""
PATIENCE = 20.0
"""Default time limit of a chapter as a multiple of its author's estimate."""
LONG_PROFILES = ("open", "paper")
"""Profiles without a limit unless one is given: they train for hours."""


def build(
    only: str | Sequence[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    profile: str = "quick",
    jobs: int = 2,
    root: Path | str | None = None,
    output: Path | str | None = None,
    report: Callable[[str], None] | None = None,
    strict: bool = False,
    limit: float | None = None,
) -> Path:
    """Execute the chapters that changed and render the book; returns the path of its index page.

    A chapter that fails costs only its own page: the others are executed and rendered, its page shows how far it got, and the pages of
    chapters that read its results carry a notice. The next call executes only the failed ones.

    Args:
        only: chapters by name, executed with the chapters they read results from; the others are shown as last executed, and those
            never executed are left out.
        parameters: notebook parameters by name; each goes to the chapters that declare it, or to ``only``. Strings are read as YAML
            scalars.
        profile: ``smoke``, ``quick``, ``open`` or ``paper``, passed to every chapter that declares ``profile``.
        jobs: chapters executed in parallel.
        root: the checkout; by default the nearest folder above with ``_toc.yml``.
        output: folder for ``html/`` and the working folders; by default ``_build`` of the checkout. Executed chapters are always stored
            in the checkout's ``_build/cache``.
        report: receives one line of text per event; by default the logger ``cm2.book``.
        strict: stop at the first failure, and render nothing.
        limit: time limit of a chapter in minutes; by default a quarter of an hour or twenty times its author's estimate, whichever is
            more, and no limit for the profiles ``open`` and ``paper``.

    Raises:
        MissingExtraError: a library of the extra ``book`` is not installed.
        ValueError: an unknown chapter or parameter, a value of the wrong type, an inconsistent table of contents; nothing is executed.
        ChapterError: chapters failed; its ``failures`` give the places, its ``page`` is the rendered book. Finished chapters stay in the
            cache.
        RenderError: Sphinx failed, or warned although no chapter is missing; the previously rendered book is still there.
    """
    report = report or logger.info
    root = Path(root).resolve() if root else find_root()
    output = Path(output).resolve() if output else root / "_build"
    names = [only] if isinstance(only, str) else list(only or ())
    executions, failures = execute(names, parameters, profile, jobs, root, report, strict, limit)
    chapters = read_chapters(root)
    absent = unexecuted(chapters, [*executions, *failures])
    if absent:
        report(f"not executed yet and left out: {', '.join(absent)}; `cm2 book` without --only executes the whole book")
    begun = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    with Lock(output / ".lock"):
        stage(root, output / "stage", chapters, executions, failures)
        index = render(output / "stage", output / "html", strict=not absent and not failures)
    report(f"rendered in {duration(time.monotonic() - begun)}")
    if failures:
        raise ChapterError(list(failures.values()), index)
    return index


def execute(
    only: Sequence[str],
    parameters: Mapping[str, Any] | None,
    profile: str,
    jobs: int,
    root: Path,
    report: Callable[[str], None],
    strict: bool = False,
    limit: float | None = None,
) -> tuple[dict[str, Execution], dict[str, Failure]]:
    """Execute the chapters that changed; returns all executions, and the failures, by chapter. Arguments and errors as in ``build``."""
    require_extra("book")
    if jobs < 1:
        raise InputError(f"jobs is the number of chapters executed at a time, got {jobs}; give 1 or more")
    if limit is not None and not limit > 0:
        raise InputError(f"limit is the number of minutes a chapter may take, got {limit:g}; give more than 0")
    chapters = read_chapters(root)
    resolved = resolve_parameters(chapters, parameters, profile, only)
    order = execution_order(chapters)
    keys = chapter_keys(root, chapters, order, resolved)
    cache, failures = Cache(root / "_build" / "cache"), Failures(root / "_build" / "failed")
    selected = set().union(*(with_predecessors(chapters, name) for name in only)) if only else set(chapters)
    stored = {name: found for name in order if name in selected and (found := cache.get(chapters[name], keys[name]))}
    tasks = [
        Task(chapters[name], keys[name], resolved[name], _seconds(limit, chapters[name], resolved[name].get("profile")))
        for name in order
        if name in selected and name not in stored
    ]
    _announce(tasks, _known(tasks, cache, failures), len(selected), profile, report)
    environment = child_environment(_home(root), min(jobs, max(len(tasks), 1)))
    with _source(root, environment) if tasks else nullcontext(dict) as source:
        executor = Executor(cache, failures, root, environment, jobs, source, report, strict)
        done = executor.run(tasks, stored)
    for name, chapter in chapters.items():
        if name in done or name in executor.failed:
            continue
        if failure := failures.get(chapter, keys[name]):
            executor.failed[name] = failure
        elif found := cache.get(chapter, keys[name]) or cache.newest(chapter, resolved[name].get("profile")):
            done[name] = found
    return done, executor.failed


def _seconds(limit: float | None, chapter: Chapter, profile: Any) -> float:
    if limit is not None:
        return 60 * limit
    return float("inf") if profile in LONG_PROFILES else max(SHORTEST_LIMIT, PATIENCE * chapter.seconds.get(profile, 0.0))


def _known(tasks: list[Task], cache: Cache, failures: Failures) -> set[str]:
    """Chapters that need no execution unless a chapter they read from, which failed before, succeeds this time."""
    before = {task.chapter.name for task in tasks if failures.get(task.chapter, task.key)}
    known = set()
    for task in tasks:
        if missing := set(task.chapter.after) & before:
            key = key_without(task.key, missing)
            known |= {task.chapter.name} if cache.get(task.chapter, key) or failures.get(task.chapter, key) else set()
    return known


def _announce(tasks: list[Task], known: set[str], total: int, profile: str, report: Callable[[str], None]) -> None:
    names = [task.chapter.name for task in tasks if task.chapter.name not in known]
    what = f"{len(names)} to execute: {', '.join(names)}" if names else "none to execute"
    report(f"{total} chapters, profile {profile}: {total - len(names)} unchanged, {what}")


@contextmanager
def _source(root: Path, environment: Mapping[str, str]) -> Iterator[Callable[[], Mapping[str, Any]]]:
    """Provenance recorded with every execution: the commit, and the machine as an executing process sees it."""

    @remembered
    def source() -> Mapping[str, Any]:
        return {"commit": commit(root), "machine": json.loads(facts.communicate()[0])}

    # imports torch, which takes seconds: started now, read when the first chapter has finished
    run = [sys.executable, "-P", "-m", "cm2.environment.machine"]
    with subprocess.Popen(run, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root) as facts:
        try:
            yield source
        finally:
            if facts.poll() is None:  # no chapter finished here: each failed, or another process had begun it
                facts.kill()


def _home(root: Path) -> Path:
    return Path(os.environ.get("CM2_HOME") or root / ".cm2").resolve()
