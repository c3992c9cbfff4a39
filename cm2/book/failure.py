"""Failures of chapters: where and why execution stopped, stored beside the cache until the chapter succeeds."""

import errno
import os
import shutil
import signal
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cm2.book.chapters import Chapter
from cm2.book.pages import exception, place, reader_notebook, stopped_at
from cm2.book.worker import CELL_RAISED, KERNEL_DIED
from cm2.config.files import read_json
from cm2.durable import write_json

_NO_SPACE = os.strerror(errno.ENOSPC)


class ChapterError(RuntimeError):
    """Chapters that failed; the message has a line for each, with place and exception."""

    def __init__(self, failures: "list[Failure]", page: Path | None = None) -> None:
        super().__init__("\n".join(str(failure) for failure in failures))
        self.failures = failures
        self.page = page
        """Index of the book, rendered with boxes where chapters stopped; None if it was not rendered."""


@dataclass(frozen=True)
class Failure:
    """A chapter that failed."""

    chapter: str
    """Its name."""
    key: str
    """Key of the execution that was tried."""
    where: str
    """Heading, cell and line; empty if no cell had started."""
    what: str
    """The exception, or another cause."""
    position: int = 0
    """Position of the cell in the half-executed notebook."""
    notebook: str = ""
    """Path of the half-executed notebook as the reader sees it, or of the output of the process."""
    predecessors: tuple[str, ...] = ()
    """Chapters that it reads from and that had failed before."""

    def __str__(self) -> str:
        place_of = f", {self.where}" if self.where else ""
        after = f" (without the results of {', '.join(self.predecessors)})" if self.predecessors else ""
        return f"chapter {self.chapter}{place_of}{after}: {self.what}\n  as far as it went: {self.notebook}"


class Failures:
    """The folder of half-executed chapters: ``NAME.ipynb`` (or ``NAME.log``) and ``NAME.json``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, chapter: Chapter, key: str) -> Failure | None:
        """How the execution with this key failed, if it did."""
        try:
            failure = Failure(**read_json(self.folder / f"{chapter.name}.json"))
            failure = replace(failure, notebook=str(self.folder / Path(failure.notebook).name))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return failure if failure.key == key and Path(failure.notebook).is_file() else None

    def keep(self, failure: Failure) -> Failure:
        """Store a failure."""
        write_json(self.folder / f"{failure.chapter}.json", asdict(failure) | {"notebook": Path(failure.notebook).name})
        return failure

    def forget(self, chapter: Chapter) -> None:
        """Remove the failure of a chapter that has been executed."""
        for suffix in ("json", "ipynb", "log"):
            (self.folder / f"{chapter.name}.{suffix}").unlink(missing_ok=True)

    def explain(
        self, chapter: Chapter, key: str, work: Path, status: int, limit: float | None = None, predecessors: tuple[str, ...] = ()
    ) -> Failure:
        """Describe a failure from the work folder of the executing process, and store it.

        Args:
            chapter: the chapter.
            key: key of its execution.
            work: folder with ``notebook.ipynb`` as far as it was executed, and ``log.txt``.
            status: exit status of the process.
            limit: seconds after which it was ended, if it was.
            predecessors: chapters whose results it lacked.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.forget(chapter)
        half = work / "notebook.ipynb"
        reached = half.is_file() and (status in {CELL_RAISED, KERNEL_DIED} or limit is not None)
        if not reached:
            log = Path(shutil.copy(work / "log.txt", self.folder / f"{chapter.name}.log"))
            return self.keep(Failure(chapter.name, key, "", _from_log(log, status, limit), 0, str(log), predecessors))
        position = stopped_at(half, chapter)
        content = reader_notebook(half, chapter)
        target = self.folder / f"{chapter.name}.ipynb"
        write_json(target, content, ensure_ascii=False)
        raised = exception(content["cells"], position)
        if limit is not None:
            what = f"not finished after {limit / 60:g} min, the limit for a chapter (cm2 book --limit MINUTES)"
        elif raised:
            what = raised
        else:
            what = "the kernel died; a machine that runs out of memory kills the largest process"
        return self.keep(Failure(chapter.name, key, place(content["cells"], position), what, position, str(target), predecessors))


def _from_log(log: Path, status: int, limit: float | None) -> str:
    if limit is not None:
        return f"not started after {limit / 60:g} min, the limit for a chapter (cm2 book --limit MINUTES)"
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if any(_NO_SPACE in line for line in lines):
        return f"{_NO_SPACE.lower()}; free some and call again"
    if status == -signal.SIGKILL:
        return "its process was killed; a machine that runs out of memory kills the largest process"
    return f"could not be executed (exit status {status}): {lines[-1] if lines else 'no output'}"
