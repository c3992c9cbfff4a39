"""Execute one notebook with papermill; run as a process of its own: ``python worker.py SPECIFICATION.json``.

Nothing of ``cm2`` is imported here, so that a broken package shows up in the chapter's own cell, where the message names it.
"""

import json
import os
import sys
from pathlib import Path

# exit status by which the runner tells a cell that raised from a notebook that could not be run at all
CELL_RAISED = 3


def main(specification: Path) -> int:
    """Execute the notebook that the specification (``input``, ``output``, ``parameters``, ``cwd``, ``sockets``) names."""
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    wanted = json.loads(specification.read_text(encoding="utf-8"))
    config = Config()
    if os.name == "posix":
        # sockets in this process's own folder: TCP ports of parallel kernels can collide
        config.KernelManager.transport = "ipc"
        config.KernelManager.ip = wanted["sockets"]
    try:
        papermill.execute_notebook(
            wanted["input"],
            wanted["output"],
            parameters=wanted["parameters"],
            kernel_name="python3",
            cwd=wanted["cwd"],
            progress_bar=False,
            log_output=False,
            config=config,
        )
    except PapermillExecutionError as error:
        failure = {"cell": error.cell_index, "name": error.ename, "value": error.evalue}
        Path(wanted["output"]).with_name("failure.json").write_text(json.dumps(failure), encoding="utf-8")
        return CELL_RAISED
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
