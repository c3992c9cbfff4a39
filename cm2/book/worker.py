"""Execute one notebook with papermill: ``python worker.py SPECIFICATION.json``, or ``main`` in a process forked for it.

Nothing of ``cm2`` is imported here: an error in the package is then raised in the chapter's own cell, where the message names it.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# exit statuses that distinguish a cell that raised, and a kernel that died, from a notebook that could not be run at all
CELL_RAISED = 3
KERNEL_DIED = 4


def main(specification: Path, kernel_manager: type | None = None) -> int:
    """Execute the notebook that the specification (``input``, ``output``, ``parameters``, ``cwd``, ``sockets``) names.

    Args:
        specification: a JSON file.
        kernel_manager: class of the kernel manager; by default the one that starts an interpreter.

    Returns:
        0, ``CELL_RAISED`` or ``KERNEL_DIED``; the executed or half-executed notebook is written to ``output``.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    wanted = json.loads(specification.read_text(encoding="utf-8"))
    options: dict[str, Any] = {} if kernel_manager is None else {"kernel_manager_class": kernel_manager}
    try:
        papermill.execute_notebook(
            wanted["input"],
            wanted["output"],
            parameters=wanted["parameters"],
            kernel_name="python3",
            cwd=wanted["cwd"],
            progress_bar=False,
            log_output=False,
            config=_config(wanted),
            **options,
        )
    except PapermillExecutionError:
        return CELL_RAISED
    except DeadKernelError:
        return KERNEL_DIED
    return 0


def _config(wanted: Mapping[str, Any]) -> Any:
    """Uses sockets in this process's own folder, since the TCP ports of parallel kernels can collide."""
    from traitlets.config import Config

    config = Config()
    if os.name == "posix":
        config.KernelManager.transport = "ipc"
        config.KernelManager.ip = wanted["sockets"]
    return config


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
