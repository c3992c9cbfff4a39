"""Registries: classes by the name that configurations, tables and the command line call them; and what is said of an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from cm2.errors import InputError


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """The nearest known name as an end of an error message, ``" (did you mean 'gumbel'?)"``; empty where none is near."""
    near = difflib.get_close_matches(given, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def choose(given: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: ``choose one of clayton, frank (did you mean 'frank'?)``."""
    known = list(known)
    return "choose one of " + ", ".join(known) + did_you_mean(given, known)


def enter(registry: dict[str, Any], cls: type[Any], what: str, by: str = "name") -> None:
    """Enters a class that sets ``name`` into a registry; a class defined again, as in a notebook's cell, takes its own place.

    Args:
        registry: classes by name.
        cls: the class.
        what: what such a class is, for the error.
        by: the attribute that holds the name.

    Raises:
        ValueError: another class has the name.
    """
    name = vars(cls).get(by)
    if not isinstance(name, str):
        return
    known = registry.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise InputError(f"{what} {name!r} is {known.__module__}.{known.__qualname__} already; give {cls.__qualname__} another name")
    registry[name] = cls


def import_all(package: str, path: Iterable[str]) -> None:
    """Imports every module of a package, whose classes then enter themselves into their registry.

    Args:
        package: its name, ``__name__`` in its ``__init__``.
        path: its ``__path__``.
    """
    for module in iter_modules(path):
        import_module(f"{package}.{module.name}")
