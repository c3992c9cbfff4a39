"""Render a staged book with Jupyter Book, in a separate process: ``python sphinx_process.py STAGE HTML DOCTREES STRICT``.

Sphinx keeps global state and Jupyter Book writes to the screen, so neither runs inside the caller's process.
"""

import sys
from pathlib import Path


def main(stage: Path, html: Path, doctrees: Path, strict: bool) -> int:
    """Exit status of the build: 0 if every page was made and, if strict, without a warning."""
    from jupyter_book.sphinx import build_sphinx

    overrides = {"external_toc_path": str(stage / "_toc.yml"), "latex_individualpages": False, "nitpicky": strict}
    status = build_sphinx(
        stage,
        html,
        noconfig=True,
        path_config=stage / "_config.yml",
        confoverrides=overrides,
        doctreedir=doctrees,
        warningiserror=strict,
        keep_going=strict,
        quiet=True,
    )
    return status if isinstance(status, int) else 2


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "strict"))
