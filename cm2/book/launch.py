"""Start the process that executes a chapter: a new interpreter, or a fork of one that has already imported the libraries."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol

_FOLDER = Path(__file__).parent
WARM_FROM = 4
"""Smallest number of chapters for which importing the libraries once is cheaper than importing them for each."""


class Handle(Protocol):
    """A running process."""

    def poll(self) -> int | None:
        """The exit status, or None while it runs; negative: the signal that ended it."""

    def begun(self) -> bool:
        """Whether it is executing yet; the imports made for all chapters come first."""

    def end(self) -> None:
        """End it, and the processes it has started."""


class Fresh(Handle):
    """A new interpreter."""

    def __init__(self, specification: Path, environment: Mapping[str, str], log: Path, cwd: Path) -> None:
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_FOLDER / "worker.py"), str(specification)],  # -P: modules of this folder shadow no others
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                start_new_session=True,  # a process group, which end() kills as a whole
            )

    def poll(self) -> int | None:
        return self._process.poll()

    def begun(self) -> bool:
        return True

    def end(self) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Forked(Handle):
    """A fork of the warm process."""

    def __init__(self, launcher: "Launcher", name: str) -> None:
        self._launcher, self._name = launcher, name

    def poll(self) -> int | None:
        return self._launcher.status(self._name)

    def begun(self) -> bool:
        return self._launcher.begun(self._name)

    def end(self) -> None:
        if self.poll() is None:
            self._launcher.send({"end": self._name})


class Launcher:
    """Starts executing processes; as a context manager it ends those still running.

    Args:
        environment: environment of every process; each gets its own additions.
        cwd: working folder of every process.
        chapters: how many will be executed. From ``WARM_FROM`` on they are forks, on Linux; elsewhere libraries do not survive a fork.
    """

    def __init__(self, environment: Mapping[str, str], cwd: Path, chapters: int) -> None:
        self._environment, self._cwd = dict(environment), cwd
        self._warm: subprocess.Popen[bytes] | None = None
        self._begun: set[str] = set()
        self._statuses: dict[str, int] = {}
        self._started = 0
        self._buffer = b""
        if chapters >= WARM_FROM and sys.platform == "linux":
            # a kernel would set this itself, but matplotlib reads it when it is imported, before the fork
            inline = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
            self._warm = subprocess.Popen(
                [sys.executable, "-P", str(_FOLDER / "warm.py")],
                env=self._environment | inline,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=cwd,
            )
            assert self._warm.stdout is not None
            os.set_blocking(self._warm.stdout.fileno(), False)

    def start(self, specification: Path, additions: Mapping[str, str], log: Path) -> Handle:
        """Start executing the notebook of a specification."""
        if self._warm is not None and self._warm.poll() is None:
            self._started += 1
            name = f"{specification.parent.name}-{self._started}"
            request = {"name": name, "specification": str(specification), "environment": dict(additions), "log": str(log)}
            if self.send(request):
                return Forked(self, name)
        return Fresh(specification, {**self._environment, **additions}, log, self._cwd)

    def send(self, request: Mapping[str, object]) -> bool:
        """Hand the warm process a request; False if it is gone."""
        assert self._warm is not None and self._warm.stdin is not None
        try:
            self._warm.stdin.write(json.dumps(request).encode() + b"\n")
            self._warm.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def begun(self, name: str) -> bool:
        """Whether a process has been forked."""
        self._listen()
        return name in self._begun

    def status(self, name: str) -> int | None:
        """Exit status of a forked process, None while it runs; that of a kill if the warm process itself is gone."""
        assert self._warm is not None
        gone = self._warm.poll() is not None
        self._listen()
        return self._statuses.get(name, -signal.SIGKILL if gone else None)

    def _listen(self) -> None:
        """Read the new answers of the warm process."""
        assert self._warm is not None and self._warm.stdout is not None
        while received := self._warm.stdout.read():
            *lines, self._buffer = (self._buffer + received).split(b"\n")
            for answer in map(json.loads, lines):
                if "status" in answer:
                    self._statuses[answer["name"]] = answer["status"]
                else:
                    self._begun.add(answer["name"])

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._warm is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self._warm.communicate()  # closes its input, which ends it and its forks
