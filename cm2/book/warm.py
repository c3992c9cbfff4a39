"""A process that imports the chapters' libraries once and forks one executing process per chapter: ``python warm.py``.

Importing torch, lightning and transformers in each of nineteen kernels takes longer than executing many a chapter. A fork of a process
that has imported them starts at once and shares its memory. Nothing of ``cm2`` is imported here, and nothing is computed: no thread, no
random number and no socket exists before the fork, so a forked kernel gives the same results as a fresh one.

Requests are lines of JSON on the standard input, ``{"name", "specification", "environment", "log"}`` or ``{"end": name}``; answers are
lines on the standard output, ``{"name"}`` when a process has been forked and ``{"name", "status"}`` when it has ended. Closing the
input ends everything.
"""

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

MODULES = (
    *("papermill", "nbclient", "ipykernel.kernelapp", "ipykernel.ipkernel", "IPython", "nbformat", "myst_nb"),
    *("numpy", "scipy.stats", "scipy.integrate", "scipy.optimize", "pandas", "matplotlib.pyplot", "pyarrow.parquet", "sklearn.metrics"),
    *("sklearn.ensemble", "torch", "torchvision", "lightning", "transformers", "safetensors.torch", "joblib", "filelock", "mpmath"),
)
PAUSE = 0.02
"""Seconds between two checks for requests and ended processes."""


def _execute() -> Any:
    """``main`` of ``worker.py`` beside this file; this file runs as a script, outside any package, and cannot import it by name."""
    specification = importlib.util.spec_from_file_location("worker", Path(__file__).with_name("worker.py"))
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.main


class Waiting:
    """A kernel forked before anything in the executing process runs, waiting for the file that names its sockets.

    A kernel forked later would inherit the event loop and the sockets of papermill's client.
    """

    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._writing)
            _become_kernel(reading)
        os.close(reading)
        self.stdout = self.stderr = self.stdin = None
        self.returncode: int | None = None

    def begin(self, connection_file: str) -> None:
        """Let the kernel start."""
        os.write(self._writing, connection_file.encode())
        os.close(self._writing)

    # the part of the interface of subprocess.Popen that jupyter_client uses

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> int:
        """The exit status, once it has ended."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def _become_kernel(reading: int) -> None:
    """Wait for the connection file, then run as an IPython kernel until the end."""
    status = 1
    try:
        os.setpgid(0, 0)  # signals meant for the kernel must not reach the process that executes the notebook
        connection_file = os.read(reading, 4096).decode()
        if connection_file:
            from ipykernel.kernelapp import IPKernelApp

            IPKernelApp.launch_instance(["-f", connection_file, f"--IPKernelApp.parent_handle={os.getppid()}"])
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(status)


def _leave(status: int) -> None:
    """End this process without running the parent's exit handlers."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def kernel_manager(kernel: Waiting) -> type:
    """A kernel manager class whose kernel is the waiting one."""
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_client.provisioning import LocalProvisioner

    class Provisioner(LocalProvisioner):
        async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
            assert self.parent is not None
            kernel.begin(self.parent.connection_file)
            self.process = kernel  # type: ignore[assignment]  # it has the methods of Popen that are used
            self.pid = self.pgid = kernel.pid
            return self.connection_info

    class Manager(AsyncKernelManager):
        async def _async_pre_start_kernel(self, **options: Any) -> tuple[list[str], dict[str, Any]]:
            self.kernel_id = self.kernel_id or "forked"
            self.provisioner = Provisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
            return await super()._async_pre_start_kernel(**options)

        pre_start_kernel = _async_pre_start_kernel

    return Manager


def _become_worker(request: dict[str, Any]) -> None:
    """Execute the requested notebook and end with its status."""
    status = 1
    try:
        os.setsid()  # a process group, which the parent kills as a whole
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.environ.update(request["environment"])
        kernel = Waiting()
        try:
            status = _execute()(Path(request["specification"]), kernel_manager(kernel))
        finally:
            kernel.kill()
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(status)


class Parent:
    """Forks on request, and reports the exit status of every fork."""

    def __init__(self) -> None:
        self.running: dict[int, str] = {}
        self.buffer = b""

    def serve(self) -> None:
        """Serve requests until the input closes."""
        while self._requests():
            self._ended()
        for pid in self.running:
            self._kill(pid)

    def _requests(self) -> bool:
        if not select.select([0], [], [], PAUSE)[0]:
            return True
        received = os.read(0, 65536)
        *lines, self.buffer = (self.buffer + received).split(b"\n")
        for request in map(json.loads, lines):
            if "end" in request:
                for pid in [pid for pid, name in self.running.items() if name == request["end"]]:
                    self._kill(pid)
            else:
                self._fork(request)
        return bool(received)

    def _fork(self, request: dict[str, Any]) -> None:
        pid = os.fork()
        if pid == 0:
            _become_worker(request)
        self.running[pid] = request["name"]
        self._answer(name=request["name"])

    def _ended(self) -> None:
        for pid in list(self.running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._answer(name=self.running.pop(pid), status=os.waitstatus_to_exitcode(status))

    @staticmethod
    def _answer(**said: Any) -> None:
        os.write(1, json.dumps(said).encode() + b"\n")

    @staticmethod
    def _kill(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _as_in_a_notebook() -> None:
    """Sets the options that libraries choose at import to their values in a kernel."""
    if "pandas" in sys.modules:
        # imported outside a kernel, pandas chooses 0: as wide as the terminal
        sys.modules["pandas"].set_option("display.max_columns", 20)


def main() -> None:
    """Import, then serve."""
    for module in MODULES:
        # a failing import is reported by the chapter that needs it
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    _as_in_a_notebook()
    gc.collect()
    gc.freeze()  # the collectors of the forks then do not write to, and so copy, the shared pages
    Parent().serve()


if __name__ == "__main__":
    main()
