"""Optional libraries: which extra installs which library, and the error for a library that is missing.

Without an extra the package brings torch, NumPy and SciPy, which is all that ``cm2.copulas``, ``cm2.marginals`` and ``cm2.joint`` need;
what the rest needs are the extras. The libraries of an extra are declared in ``pyproject.toml`` and read from the metadata of the
installed package; nothing is listed twice.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "cm2"
# distributions whose import name is not their own name with underscores
_IMPORTED_AS = {
    "pandas-stubs": "pandas-stubs",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "pytest-xdist": "xdist",
    "scikit-learn": "sklearn",
    "sphinx-mathjax-offline": "sphinx-mathjax-offline",
    "sphinxcontrib-bibtex": "sphinxcontrib.bibtex",
    "types-pyyaml": "yaml-stubs",
}
_CHECKOUT = Path(__file__).resolve().parents[2]


class MissingExtraError(ImportError):
    """An optional library is not installed; the message names the extra that installs it and the command."""


def install_command(extra: str) -> str:
    """The command that installs an extra from where this package came from: the checkout, a file or address, or a package index."""
    if (_CHECKOUT / "pyproject.toml").is_file():
        return f"pip install -e '.[{extra}]'"
    origin = _origin()
    return f"pip install '{PACKAGE}[{extra}]{f' @ {origin}' if origin else ''}'"


@cache
def modules() -> Mapping[str, tuple[str, ...]]:
    """Import names of the libraries that each extra adds; empty where this package is not installed.

    An extra that only stands for others is left out.
    """
    found: dict[str, list[str]] = {}
    for name, _, extra in _requirements():
        if extra and name != PACKAGE:
            found.setdefault(extra, []).append(_IMPORTED_AS.get(name, name.replace("-", "_")))
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
    for each in _with_those_it_includes(extra):
        require(*modules().get(each, ()))


def explain(error: ImportError) -> str | None:
    """How to fix a failed import, in one line; None if no extra provides the library."""
    if isinstance(error, MissingExtraError):
        return str(error)
    return _remedy(error.name) if isinstance(error, ModuleNotFoundError) and error.name and _extra_of(error.name) else None


def _requirements() -> Iterator[tuple[str, tuple[str, ...], str]]:
    """What this package declares: a distribution, its extras, and the extra of this package that asks for it, or nothing."""
    from importlib import metadata  # imported late: a third of the start-up time of the command line

    try:
        declared = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return
    for text in declared:  # packaging would parse them, but is itself the library of an extra
        name, brackets = re.match(r"([\w.-]+)\s*(?:\[([^]]*)\])?", text).groups()  # type: ignore[union-attr]  # a name always begins it
        extra = re.search(r"""extra == ["']([^"']+)["']""", text)
        wanted = tuple(word.strip() for word in (brackets or "").split(",") if word)
        yield re.sub(r"[-_.]+", "-", name).lower(), wanted, extra[1] if extra else ""


def _with_those_it_includes(extra: str) -> list[str]:
    """Extras that an extra stands for: those that it includes, in their order, and itself."""
    included = [each for name, wanted, of in _requirements() if of == extra and name == PACKAGE for each in wanted]
    return [*(one for each in included for one in _with_those_it_includes(each)), extra]


def _origin() -> str:
    """Address that the installed package came from, as pip writes it behind ``@``; empty if it was an index."""
    from importlib import metadata

    try:
        told = json.loads(metadata.distribution(PACKAGE).read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        return ""
    vcs = told.get("vcs_info")
    return f"{vcs['vcs']}+{told['url']}@{vcs['commit_id']}" if vcs else told.get("url", "")


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:
        return False


def _extra_of(name: str) -> str | None:
    return next((extra for extra, known in modules().items() if {name, name.partition(".")[0]} & set(known)), None)


def _remedy(name: str) -> str:
    extra = _extra_of(name)
    where = " in the checkout" if (_CHECKOUT / "pyproject.toml").is_file() else ""
    how = f"type{where}: {install_command(extra)}" if extra else "install it with pip"
    return f"this needs the library {name}, which is not installed; {how}"
