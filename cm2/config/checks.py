"""Checks of a configuration's values: one clear error each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from cm2.config.names import choose


def one_of(name: str, value: str, known: Iterable[str]) -> None:
    """Raises ValueError for a value that is not one of the known ones."""
    if value not in (known := tuple(known)):
        raise ValueError(f"{name}: unknown value {value!r}; {choose(value, known)}")


def positive(**values: float) -> None:
    """Raises ValueError for the first value that is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}: expected a positive number, got {value}")


def all_positive(group: str, config: Any, but: tuple[str, ...] = ()) -> None:
    """Raises ValueError for the first number of a configuration that is not above 0; fields named in ``but`` may be."""
    values = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in but}
    positive(**{f"{group}.{name}": value for name, value in values.items() if isinstance(value, (int, float))})
