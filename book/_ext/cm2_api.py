"""The API page lists what there is: the marker ``<!-- modules -->`` becomes one section for each public module of the package."""

import pkgutil
import re
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx

MARKER = "<!-- modules -->"
# reading order: distributions first, then what is built from them; others stand between
_FIRST = (
    "copulas",
    "marginals",
    "joint",
    "batch",
    "kinds",
    "config",
    "networks",
    "methods",
    "cohorts",
    "runs",
    "estimators",
    "evaluation",
    "metrics",
)
_LAST = ("tables", "figures", "plots", "results", "book", "progress", "environment", "containers", "numerics")
_LEFT_OUT = ("cli",)
# literals, mathematics and emphasis stay; any other star or bar is meant as it stands: shapes such as (*shape, dim), absolute values
_MARKUP = re.compile(r"(``.+?``|:\w+:`[^`]*`|`[^`]*`|(?<![\w*(\\])\*\w[^*]*?(?<=\w)\*(?![\w*]))|([*|])")


def modules() -> list[str]:
    """Full names of the public modules and packages directly below ``cm2`` and of ``data_prep``, in reading order.

    A package that names nothing in ``__all__`` is represented by its modules, and those that ``__all__`` names stand beside it.
    """
    found = [name for name in _below("cm2") if name not in _LEFT_OUT]
    order = [*_FIRST, *sorted(set(found) - set(_FIRST) - set(_LAST)), *_LAST]
    listed = [part for name in order if name in found for part in _shown(f"cm2.{name}")]
    return listed + (["data_prep"] if find_spec("data_prep") else [])


def _below(package: str) -> list[str]:
    """Names of the public modules directly inside a package."""
    spec = find_spec(package)
    names = (module.name for module in pkgutil.iter_modules(spec.submodule_search_locations if spec else None))
    return [name for name in names if not name.startswith("_")]


def _shown(module: str) -> list[str]:
    """A module itself, or the modules of a package."""
    spec = find_spec(module)
    if not spec or not spec.submodule_search_locations:
        return [module]
    package = import_module(module)
    named = getattr(package, "__all__", None)
    inside = [name for name in _below(module) if named is None or (name in named and isinstance(getattr(package, name), ModuleType))]
    return [*([] if named is None else [module]), *(part for name in inside for part in _shown(f"{module}.{name}"))]


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


def _generated(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leaves out methods that scikit-learn puts into every estimator, whose texts refer to labels of its own pages."""
    return True if name in ("set_fit_request", "set_score_request") else None


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    # before napoleon, whose own markup must stay
    app.connect("autodoc-process-docstring", _escape, priority=400)
    app.connect("autodoc-skip-member", _generated)
    app.connect("source-read", _fill)
