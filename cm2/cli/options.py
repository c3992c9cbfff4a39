"""What several commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

Absent = Annotated[list[str], typer.Option("--absent", metavar="MODALITY=FRACTION", help="Take a modality away from a fraction of stays.")]


def pairs(settings: list[str], convert: Callable[[str], Any] = float) -> dict[str, Any]:
    """Words ``NAME=VALUE`` as a dictionary.

    Raises:
        ValueError: a word without ``=``, or a value that is not what ``convert`` reads.
    """
    found = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator:
            raise ValueError(f"expected NAME=VALUE, got {setting!r}")
        try:
            found[name] = convert(value)
        except ValueError as error:
            raise ValueError(f"{name}: {f'expected a number, got {value!r}' if convert is float else error}") from None
    return found
