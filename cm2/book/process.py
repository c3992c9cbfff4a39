"""One chapter being executed: a process, its environment and its work folder, which becomes an entry of the cache."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cm2.book.cache import Cache, Execution
from cm2.book.chapters import Chapter
from cm2.book.failure import Failure, Failures
from cm2.book.launch import Launcher
from cm2.durable import Lock
from cm2.environment.machine import cores

# figures are the same files on every machine: vector graphics with fixed ids and no date
_KERNEL_CONFIG = """\
c = get_config()
c.InlineBackend.figure_formats = {"svg"}
c.InlineBackend.print_figure_kwargs = {"bbox_inches": "tight", "metadata": {"Date": None}}
c.InlineBackend.rc = {"svg.hashsalt": "cm2"}
"""


@dataclass(frozen=True)
class Task:
    """One chapter to execute: its key in the cache, its parameters, the seconds it may take."""

    chapter: Chapter
    key: str
    parameters: Mapping[str, Any]
    limit: float
    without: tuple[str, ...] = ()
    """Chapters that it reads from and whose results are missing."""


class Process:
    """A chapter being executed, in a work folder that becomes its cache entry."""

    def __init__(self, task: Task, cache: Cache, root: Path, launcher: Launcher, earlier: list[Execution], lock: Lock) -> None:
        self.task, self.cache, self.lock = task, cache, lock
        self._begun: float | None = None
        self.work = cache.new_work_folder(task.chapter, task.key)
        self.sockets = Path(tempfile.mkdtemp(prefix="cm2-"))
        self.inherited = _gather(earlier, self.work / "results")
        specification = self.work / "specification.json"
        wanted = {
            "input": str(task.chapter.path),
            "output": str(self.work / "notebook.ipynb"),
            "parameters": task.parameters,
            "cwd": str(root),
            # prefix of the socket names; kernels with the same one would share their sockets
            "sockets": str(self.sockets / "kernel"),
        }
        specification.write_text(json.dumps(wanted), encoding="utf-8")
        (self.work / "log.txt").touch()
        self.handle = launcher.start(specification, self._environment(), self.work / "log.txt")

    def _environment(self) -> dict[str, str]:
        profile = self.sockets / "ipython" / "profile_default"
        profile.mkdir(parents=True)
        (profile / "ipython_kernel_config.py").write_text(_KERNEL_CONFIG, encoding="utf-8")
        return {
            "JUPYTER_RUNTIME_DIR": str(self.sockets / "runtime"),
            "JUPYTER_CONFIG_DIR": str(self.sockets / "config"),
            "IPYTHONDIR": str(self.sockets / "ipython"),
            "CM2_RESULTS": str(self.work / "results"),
        }

    @property
    def seconds(self) -> float:
        """Seconds since it began to execute."""
        if self._begun is None and self.handle.begun():
            self._begun = time.monotonic()
        return 0.0 if self._begun is None else time.monotonic() - self._begun

    @property
    def late(self) -> bool:
        """Whether it has exceeded its time limit."""
        return self.seconds > self.task.limit

    def ended(self) -> bool:
        """Whether it is ready to be collected."""
        return self.late or self.handle.poll() is not None

    def finish(self, source: Mapping[str, Any], failures: Failures) -> Execution | Failure:
        """Store the finished chapter with its provenance (``commit``, ``machine``, ``seconds``), or its failure."""
        status = self.handle.poll()
        late = status is None  # it is collected while running only if its time is up
        task = self.task
        if late or status:
            self.handle.end()
            return failures.explain(task.chapter, task.key, self.work, status or 0, task.limit if late else None, task.without)
        for name in self.inherited:  # results of earlier chapters are stored with those
            (self.work / "results" / name).unlink(missing_ok=True)
        for name in ("specification.json", "log.txt"):
            (self.work / name).unlink()
        if not task.without:
            failures.forget(task.chapter)
        meta = {"parameters": dict(task.parameters), "without": list(task.without), **source}
        return self.cache.store(task.chapter, task.key, self.work, meta)

    def close(self) -> None:
        """End the process if it is still running, and remove its temporary files."""
        self.handle.end()
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.rmtree(self.sockets, ignore_errors=True)
        self.lock.release()


def _gather(executions: list[Execution], folder: Path) -> list[str]:
    """Copy the results of earlier chapters into a folder; their file names."""
    folder.mkdir()
    files = [path for execution in executions for path in execution.results.glob("*.json")]
    return [Path(shutil.copy(path, folder)).name for path in files]


def child_environment(home: Path, jobs: int) -> dict[str, str]:
    """Environment of the executing processes: bounded threads, no progress widgets, this interpreter's kernel."""
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores() // jobs)))
    bounded = {name: os.environ.get(name, threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    bounded["OMP_WAIT_POLICY"] = "PASSIVE"  # idle threads that spin take the other chapters' cores
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    own = {
        "CM2_HOME": str(home),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": "0",
    }
    inherited = {name: value for name, value in os.environ.items() if name not in {"MPLBACKEND", "MATPLOTLIBRC", "PYTHONWARNINGS"}}
    return inherited | bounded | quiet | own
