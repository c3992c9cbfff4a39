"""Optional libraries: the one place that knows which extra brings a library, and the one error for a library that is not there.

What an extra brings stands in ``pyproject.toml`` and is read from the metadata of the installed package, so nothing is listed twice.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec

PACKAGE = "cm2"
# where the name to import is not the distribution's with underscores
_IMPORTED_AS = {
    "pillow": "PIL",
    "pyyaml": "yaml",
    "pytest-xdist": "xdist",
    "sphinx-mathjax-offline": "sphinx-mathjax-offline",
    "sphinxcontrib-bibtex": "sphinxcontrib.bibtex",
}


class MissingExtraError(ImportError):
    """An optional library is not installed; the message names the extra that brings it and what to type."""


def install_command(extra: str) -> str:
    """What installs an extra, from the root of a checkout: no package index holds this package."""
    return f"pip install -e '.[{extra}]'"


@cache
def modules() -> Mapping[str, tuple[str, ...]]:
    """By extra, the libraries it brings, under the names they are imported by; empty where this package is not installed."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, list[str]] = {}
    for requirement in map(Requirement, _requirements()):
        if extra := re.search(r'extra == "([^"]+)"', str(requirement.marker)):
            name = canonicalize_name(requirement.name)
            found.setdefault(extra[1], []).append(_IMPORTED_AS.get(name, name.replace("-", "_")))
    return {extra: tuple(names) for extra, names in found.items()}


def require(*names: str) -> None:
    """Checks that libraries can be imported, without importing them.

    Args:
        names: what an import statement would say, for example ``PIL``.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    for name in names:
        if not _is_installed(name):
            raise MissingExtraError(_remedy(name), name=name)


def require_extra(extra: str) -> None:
    """Checks that every library of an extra can be imported. Raises MissingExtraError for the first that cannot."""
    require(*modules().get(extra, ()))


def explain(error: ImportError) -> str | None:
    """What to do about a failed import, in one line; None if no extra would mend it."""
    if isinstance(error, MissingExtraError):
        return str(error)
    return _remedy(error.name) if isinstance(error, ModuleNotFoundError) and error.name and _extra_of(error.name) else None


def _requirements() -> list[str]:
    from importlib import metadata  # a third of the time that the command line takes to start

    try:
        return metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return []


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:
        return False


def _extra_of(name: str) -> str | None:
    return next((extra for extra, known in modules().items() if {name, name.partition(".")[0]} & set(known)), None)


def _remedy(name: str) -> str:
    extra = _extra_of(name)
    how = f"type in the checkout: {install_command(extra)}" if extra else "install it with pip"
    return f"this needs the library {name}, which is not installed; {how}"
