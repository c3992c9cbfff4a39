"""The API page lists what there is: the marker ``<!-- modules -->`` becomes one section for each public module of the package."""

import pkgutil
import re
from importlib.util import find_spec
from typing import Any

from sphinx.application import Sphinx

MARKER = "<!-- modules -->"
# reading order: the laws first, then what is built from them
_FIRST = (
    "copulas",
    "marginals",
    "joint",
    "batch",
    "config",
    "encoders",
    "fusion",
    "alignment",
    "model",
    "cohorts",
    "training",
    "experiments",
    "metrics",
)
_LAST = ("figures", "plots", "results", "book", "numerics")
_LEFT_OUT = ("cli",)
# literals, mathematics and emphasis stay; any other star or bar is meant as it stands: shapes such as (*shape, dim), absolute values
_MARKUP = re.compile(r"(``.+?``|:\w+:`[^`]*`|`[^`]*`|(?<![\w*(\\])\*\w[^*]*?(?<=\w)\*(?![\w*]))|([*|])")


def modules() -> list[str]:
    """Full names of the public modules and packages directly below ``cm2`` and of ``data_prep``, in reading order."""
    spec = find_spec("cm2")
    found = [
        module.name for module in pkgutil.iter_modules(spec.submodule_search_locations if spec else None) if not module.name.startswith("_")
    ]
    found = [name for name in found if name not in _LEFT_OUT]
    order = [*_FIRST, *sorted(set(found) - set(_FIRST) - set(_LAST)), *_LAST]
    return [f"cm2.{name}" for name in order if name in found] + (["data_prep"] if find_spec("data_prep") else [])


def _section(module: str) -> str:
    package = find_spec(module)
    imported = "   :imported-members:\n" if package and package.submodule_search_locations else ""
    return f"## `{module}`\n\n```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n   :show-inheritance:\n{imported}```\n"


def _fill(app: Sphinx, page: str, source: list[str]) -> None:
    if MARKER in source[0]:
        source[0] = source[0].replace(MARKER, "\n".join(_section(module) for module in modules()))


def _escape(app: Sphinx, what: str, name: str, documented: Any, options: Any, lines: list[str]) -> None:
    """The docstrings are written to be read in the source: keep their stars and bars from being taken for markup."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "... ")):
            lines[number] = _MARKUP.sub(lambda match: match[1] or "\\" + match[2], line)


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    # before napoleon, whose own markup must stay
    app.connect("autodoc-process-docstring", _escape, priority=400)
    app.connect("source-read", _fill)
