"""The one command behind ``cm2 book``."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from cm2.book.cache import Cache, Execution, chapter_keys, commit
from cm2.book.chapters import execution_order, find_root, read_chapters, resolve_parameters, with_predecessors
from cm2.book.execute import Executor, duration
from cm2.book.process import Task, child_environment
from cm2.book.render import render, stage, unexecuted

logger = logging.getLogger("cm2.book")


def build(
    only: str | Sequence[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    profile: str = "quick",
    jobs: int = 2,
    root: Path | str | None = None,
    output: Path | str | None = None,
    report: Callable[[str], None] | None = None,
) -> Path:
    """Execute the chapters that changed, render the book strictly; the path of its index page.

    Args:
        only: chapters by name, executed with the chapters they read results from; the others are shown as last executed, and those
            never executed are left out.
        parameters: notebook parameters by name; each goes to the chapters that declare it, or to ``only``. Strings are read as YAML
            scalars.
        profile: ``smoke``, ``quick``, ``open`` or ``paper``, handed to every chapter that declares ``profile``.
        jobs: chapters executed at a time.
        root: the checkout; by default the nearest folder above with ``_toc.yml``.
        output: where ``html/`` and its working folders go; by default ``_build`` of the checkout. Executed chapters are always kept in
            the checkout's ``_build/cache``.
        report: receives one line of text per event; by default the logger ``cm2.book``.

    Raises:
        ValueError: an unknown chapter or parameter, a value of the wrong type, an inconsistent table of contents; nothing is executed then.
        ChapterError: a chapter failed; those that were finished stay executed.
        RenderError: Sphinx warned.
    """
    report = report or logger.info
    root = Path(root).resolve() if root else find_root()
    output = Path(output).resolve() if output else root / "_build"
    executions = execute([only] if isinstance(only, str) else list(only or ()), parameters, profile, jobs, root, report)
    chapters = read_chapters(root)
    absent = unexecuted(chapters, executions)
    if absent:
        report(f"not executed yet and left out: {', '.join(absent)}; `cm2 book` without --only executes the whole book")
    begun = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    with FileLock(output / ".lock"):
        stage(root, output / "stage", chapters, executions)
        index = render(output / "stage", output / "html", strict=not absent)
    report(f"rendered in {duration(time.monotonic() - begun)}")
    return index


def execute(
    only: Sequence[str], parameters: Mapping[str, Any] | None, profile: str, jobs: int, root: Path, report: Callable[[str], None]
) -> dict[str, Execution]:
    """Execute the chapters that changed; the execution of every chapter that has one. Arguments and errors as in ``build``."""
    if jobs < 1:
        raise ValueError(f"jobs is the number of chapters executed at a time, got {jobs}; give 1 or more")
    chapters = read_chapters(root)
    resolved = resolve_parameters(chapters, parameters, profile, only)
    order = execution_order(chapters)
    keys = chapter_keys(root, chapters, order, resolved)
    cache = Cache(root / "_build" / "cache")
    selected = set().union(*(with_predecessors(chapters, name) for name in only)) if only else set(chapters)
    stored = {name: cache.get(chapters[name], keys[name]) for name in order if name in selected}
    tasks = [Task(chapters[name], keys[name], resolved[name]) for name, execution in stored.items() if execution is None]
    _announce(tasks, len(selected), profile, report)
    executor = Executor(cache, root, child_environment(_home(root), min(jobs, max(len(tasks), 1))), jobs, commit(root), report)
    done = executor.run(tasks, {name: execution for name, execution in stored.items() if execution is not None})
    others = {name: chapter for name, chapter in chapters.items() if name not in done}
    found = {
        name: cache.get(chapter, keys[name]) or cache.newest(chapter, resolved[name].get("profile")) for name, chapter in others.items()
    }
    return done | {name: execution for name, execution in found.items() if execution is not None}


def _announce(tasks: list[Task], total: int, profile: str, report: Callable[[str], None]) -> None:
    names = ", ".join(task.chapter.name for task in tasks)
    what = f"{len(tasks)} to execute: {names}" if tasks else "none to execute"
    report(f"{total} chapters, profile {profile}: {total - len(tasks)} unchanged, {what}")


def _home(root: Path) -> Path:
    return Path(os.environ.get("CM2_HOME") or root / ".cm2").resolve()
