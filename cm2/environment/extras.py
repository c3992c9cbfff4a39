"""Optional libraries: which extra installs which library, and the error for a library that is missing.

The libraries of an extra are declared in ``pyproject.toml`` and read from the metadata of the installed package; nothing is listed twice.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec

PACKAGE = "cm2"
# distributions whose import name is not their own name with underscores
_IMPORTED_AS = {
    "pandas-stubs": "pandas-stubs",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "pytest-xdist": "xdist",
    "sphinx-mathjax-offline": "sphinx-mathjax-offline",
    "sphinxcontrib-bibtex": "sphinxcontrib.bibtex",
    "types-pyyaml": "yaml-stubs",
}


class MissingExtraError(ImportError):
    """An optional library is not installed; the message names the extra that installs it and the command."""


def install_command(extra: str) -> str:
    """The command that installs an extra from the root of a checkout; the package is not on a package index."""
    return f"pip install -e '.[{extra}]'"


@cache
def modules() -> Mapping[str, tuple[str, ...]]:
    """Import names of the libraries of each extra; empty where this package is not installed."""
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
        names: names as in an import statement, for example ``PIL``.

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
    """How to fix a failed import, in one line; None if no extra provides the library."""
    if isinstance(error, MissingExtraError):
        return str(error)
    return _remedy(error.name) if isinstance(error, ModuleNotFoundError) and error.name and _extra_of(error.name) else None


def _requirements() -> list[str]:
    from importlib import metadata  # imported late: a third of the start-up time of the command line

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
