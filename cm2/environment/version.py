"""The version of this package. Its one source is ``pyproject.toml``; an installation carries it in its metadata."""

import tomllib
from functools import cache
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


@cache
def version() -> str:
    """Version of the installed package; of the checkout where nothing is installed, as with a checkout on ``PYTHONPATH``."""
    from importlib import metadata  # imported late: a third of the start-up time of the command line

    try:
        return metadata.version("cm2")
    except metadata.PackageNotFoundError:
        return str(tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]["version"])
