"""One chapter under way: a process, its environment and its work folder, which becomes an entry of the cache."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from cm2.book.cache import Cache, Execution
from cm2.book.chapters import Chapter
from cm2.book.worker import CELL_RAISED

_WORKER = Path(__file__).with_name("worker.py")

# a chapter's figures are vectors with repeatable ids and no date, whoever executes the book
_KERNEL_CONFIG = """\
c = get_config()
c.InlineBackend.figure_formats = {"svg"}
c.InlineBackend.print_figure_kwargs = {"bbox_inches": "tight", "metadata": {"Date": None}}
c.InlineBackend.rc = {"svg.hashsalt": "cm2"}
"""


class ChapterError(RuntimeError):
    """A chapter's cell raised; the message names chapter, cell, exception and the half-executed notebook."""


@dataclass(frozen=True)
class Task:
    """One chapter to execute: its key in the cache, its parameters, and the executions whose results it reads."""

    chapter: Chapter
    key: str
    parameters: Mapping[str, Any]


class Process:
    """A chapter under way, in a work folder that becomes its cache entry."""

    def __init__(
        self, task: Task, cache: Cache, root: Path, environment: Mapping[str, str], earlier: list[Execution], lock: FileLock
    ) -> None:
        self.task, self.cache, self.lock = task, cache, lock
        self.started = time.monotonic()
        self.work = Path(tempfile.mkdtemp(prefix=f".{task.chapter.name}-", dir=cache.folder))
        self.sockets = Path(tempfile.mkdtemp(prefix="cm2-"))
        self.inherited = _gather(earlier, self.work / "results")
        specification = self.work / "specification.json"
        wanted = {
            "input": str(task.chapter.path),
            "output": str(self.work / "notebook.ipynb"),
            "parameters": task.parameters,
            "cwd": str(root),
            # a prefix of socket names; kernels that share one would talk to each other
            "sockets": str(self.sockets / "kernel"),
        }
        specification.write_text(json.dumps(wanted), encoding="utf-8")
        with (self.work / "log.txt").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(_WORKER), str(specification)],
                env=self._environment(environment),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=root,
            )

    def _environment(self, shared: Mapping[str, str]) -> dict[str, str]:
        profile = self.sockets / "ipython" / "profile_default"
        profile.mkdir(parents=True)
        (profile / "ipython_kernel_config.py").write_text(_KERNEL_CONFIG, encoding="utf-8")
        return dict(shared) | {
            "JUPYTER_RUNTIME_DIR": str(self.sockets / "runtime"),
            "JUPYTER_CONFIG_DIR": str(self.sockets / "config"),
            "IPYTHONDIR": str(self.sockets / "ipython"),
            "CM2_RESULTS": str(self.work / "results"),
        }

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def finish(self, commit: str) -> Execution:
        """Store the finished chapter.

        Raises:
            ChapterError: it failed.
        """
        status, seconds = self.process.wait(), self.seconds
        if status:
            raise ChapterError(self._explain(status))
        for name in self.inherited:
            (self.work / "results" / name).unlink(missing_ok=True)
        for name in ("specification.json", "log.txt"):
            (self.work / name).unlink()
        meta = {"parameters": dict(self.task.parameters), "seconds": round(seconds, 2), "commit": commit}
        return self.cache.store(self.task.chapter, self.task.key, self.work, meta)

    def _explain(self, status: int) -> str:
        name, failed = self.task.chapter.name, self.cache.folder.parent / "failed"
        failed.mkdir(parents=True, exist_ok=True)
        if status == CELL_RAISED:
            failure = json.loads((self.work / "failure.json").read_text(encoding="utf-8"))
            half = Path(shutil.copy(self.work / "notebook.ipynb", failed / f"{name}.ipynb"))
            # papermill puts a note about the error on top and its parameters below ours: count the cells as the author does
            where = _author_cell(half, failure["cell"])
            return f"chapter {name}, {where}: {failure['name']}: {failure['value']}\nthe half-executed notebook: {half}"
        log = Path(shutil.copy(self.work / "log.txt", failed / f"{name}.log"))
        last = next((line for line in reversed(log.read_text(errors="replace").splitlines()) if line.strip()), "no output")
        return f"chapter {name} could not be executed (exit status {status}): {last}\nall it printed: {log}"

    def close(self) -> None:
        """End the process if it still runs, and remove what it leaves behind."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.rmtree(self.sockets, ignore_errors=True)
        self.lock.release()


def _gather(executions: list[Execution], folder: Path) -> list[str]:
    """Copy the results of earlier chapters into a folder; their file names."""
    folder.mkdir()
    files = [path for execution in executions for path in execution.results.glob("*.json")]
    return [Path(shutil.copy(path, folder)).name for path in files]


def _author_cell(notebook: Path, index: int) -> str:
    """ "cell 7 of 23" in the numbering of the notebook without what papermill inserted."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    inserted = {"papermill-error-cell-tag", "injected-parameters"}
    own = [position for position, cell in enumerate(cells) if not inserted & set(cell["metadata"].get("tags", []))]
    raised = next((position for position, cell in enumerate(cells) if _raised(cell)), index)
    return f"cell {sum(position <= raised for position in own)} of {len(own)}"


def _raised(cell: Mapping[str, Any]) -> bool:
    return any(output.get("output_type") == "error" for output in cell.get("outputs", []))


def child_environment(home: Path, jobs: int) -> dict[str, str]:
    """Environment of the executing processes: bounded threads, no progress widgets, this interpreter's kernel."""
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
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
