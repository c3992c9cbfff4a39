"""Checks of a configuration's values: one clear error each."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from cm2.config.names import choose
from cm2.errors import InputError


def one_of(name: str, value: str, known: Iterable[str]) -> None:
    """Raises ValueError for a value that is not one of the known ones."""
    if value not in (known := tuple(known)):
        raise InputError(f"{name}: unknown value {value!r}; {choose(value, known)}")


LARGEST_WHOLE, LARGEST_RATE = 2**31, 1e30
"""What the libraries below can count with, and what a step of 32 bits can be multiplied by."""


def positive(**values: float) -> None:
    """Raises ValueError for the first value that is not above 0 and finite."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise InputError(f"{name}: expected a positive number, got {value}")
        _not_absurd(name, value)


def not_negative(**values: float) -> None:
    """Raises ValueError for the first value that is below 0 or not finite."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise InputError(f"{name}: expected 0 or a positive number, got {value}")
        _not_absurd(name, value)


def _not_absurd(name: str, value: float) -> None:
    limit = LARGEST_WHOLE if isinstance(value, int) else LARGEST_RATE
    if value >= limit:
        raise InputError(f"{name}: expected a number below {limit:g}, got {value:g}")


def rates(**values: float) -> None:
    """Raises ValueError for the first value that is not at least 0 and below 1, such as a dropout of everything."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise InputError(f"{name}: expected a rate from 0 to below 1, got {value}")


def all_positive(group: str, config: Any, but: tuple[str, ...] = ()) -> None:
    """Raises ValueError for the first number of a configuration that is not above 0; fields named in ``but`` may be."""
    values = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in but}
    positive(**{f"{group}.{name}": value for name, value in values.items() if isinstance(value, (int, float))})
