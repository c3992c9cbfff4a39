"""Modules that define parts: entry points of installed distributions, and those that an environment variable names."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from cm2.errors import InputError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PLUGINS = "CM2_PLUGINS"
"""Environment variable that names modules with parts, or Python files, separated by commas. Worker processes inherit it. A file may import
the files beside it."""


def installed(group: str) -> Mapping[str, EntryPoint]:
    """Entry points of a group by name, of all distributions on the path; nothing is imported.

    Raises:
        InputError: two distributions offer different objects under one name.
    """
    return _installed(group, tuple(sys.path))


@cache
def _installed(group: str, _: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    from importlib.metadata import entry_points  # late: a third of the start-up time of the command line

    found: dict[str, EntryPoint] = {}
    for each in entry_points(group=group):
        other = found.setdefault(each.name, each)
        if other.value != each.value:
            raise InputError(
                f"{group}: two installed distributions offer {each.name!r}: {_origin(other)} and {_origin(each)}; uninstall one of them"
            )
    return found


def _origin(point: EntryPoint) -> str:
    return f"{point.value} of {point.dist.name}" if point.dist is not None else point.value


def import_plugins() -> None:
    """Imports the modules that ``CM2_PLUGINS`` names, each once in a process.

    Raises:
        InputError: one is not there, or fails while it is imported.
    """
    for name in filter(None, (part.strip() for part in os.environ.get(PLUGINS, "").split(","))):
        if (file := Path(name)).suffix == ".py":
            _import_file(file.resolve())
        elif name not in sys.modules:
            try:
                import_module(name)
            except Exception as error:
                raise InputError(f"{PLUGINS}: {name} cannot be imported ({_reason(error)}); give a module or a file") from error


def load(point: EntryPoint, what: str) -> object:
    """What an entry point names, imported.

    Args:
        point: see `installed`.
        what: the word for such a part, for the error.

    Raises:
        InputError: the import fails.
    """
    try:
        return point.load()
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what} {point.name!r} ({_origin(point)}) cannot be imported: {_reason(error)}; mend or uninstall it") from error


def _import_file(path: Path) -> None:
    if (module := sys.modules.get(path.stem)) is not None:
        if getattr(module, "__file__", None) == str(path):
            return
        raise InputError(f"{PLUGINS}: {path} has the name of the module {path.stem}, which is imported already; rename the file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InputError(f"{PLUGINS}: there is no file {path}; give modules or Python files, separated by commas")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    if (folder := str(path.parent)) not in sys.path:  # files beside it can be imported, as by a script; at the end, they hide nothing
        sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[path.stem]
        raise InputError(f"{PLUGINS}: {path} cannot be imported ({_reason(error)}); mend it") from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:160]
