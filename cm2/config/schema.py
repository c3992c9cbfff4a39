"""Schemas of JSON and TOML files: what an entry must be, checked where a file is read, with one clear error.

A schema is a type (``int`` means a whole number, ``float`` any number, neither a truth value), a list with the schema of every item, a
mapping with a schema for each key (``"name?"`` may be missing, ``"*"`` stands for every other key), a tuple of alternatives, or a function
that raises ValueError. Keys that a schema does not name are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cm2.errors import InputError

Schema = type | list[Any] | Mapping[str, Any] | tuple[Any, ...] | Callable[[Any], object]
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "a group of entries", list: "a list"}


def check(value: Any, schema: Schema, where: str) -> None:
    """Checks a tree of plain values.

    Args:
        value: as JSON and TOML hold it.
        schema: see the module.
        where: the file and the entry, the beginning of the error.

    Raises:
        ValueError: the first entry that is missing or something else.
    """
    if isinstance(schema, Mapping):
        _is(value, dict, where)
        for key, inner in schema.items():
            if key != "*" and key.rstrip("?") in value:
                check(value[key.rstrip("?")], inner, f"{where}: {key.rstrip('?')}")
            elif key != "*" and not key.endswith("?"):
                raise InputError(f"{where}: the entry {key!r} is missing")
        if "*" in schema:
            for key in value.keys() - {name.rstrip("?") for name in schema}:
                check(value[key], schema["*"], f"{where}: {plain_name(key, where)}")
    elif isinstance(schema, list):
        _is(value, list, where)
        for place, item in enumerate(value):
            check(item, schema[0], f"{where}: item {place + 1}")
    elif isinstance(schema, tuple):
        _check_any(value, schema, where)
    elif isinstance(schema, type):
        _is(value, schema, where)
    else:
        try:
            schema(value)
        except ValueError as error:
            raise InputError(f"{where}: {error}") from None


def plain_name(name: Any, what: str = "") -> str:
    """A name that can stand on a page, in a table of a spreadsheet and on a terminal as it is.

    Raises:
        ValueError: no text, empty, with a control character, with one that begins markup or code, or that begins a formula.
    """
    before = f"{what}: " if what else ""
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{before}{name!r:.60} is no name; give a text that is not empty")
    wrong = next((character for character in name if not character.isprintable() or character in "<`{}$"), None)
    if wrong is None and name[0] in "=+-@":
        wrong = name[0]
    if wrong is not None:
        raise InputError(f"{before}the name {name!r:.60} has the character {wrong!r}, which pages, spreadsheets or terminals take for code")
    return name


def _is(value: Any, kind: type, where: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = (number and (kind is float or isinstance(value, int))) if kind in (int, float) else isinstance(value, kind)
    if not fits:
        raise InputError(f"{where}: expected {_WORDS.get(kind, kind.__name__)}, got {value!r:.60}")


def _check_any(value: Any, alternatives: tuple[Any, ...], where: str) -> None:
    errors = []
    for alternative in alternatives:
        if alternative is None and value is None:
            return
        try:
            if alternative is not None:
                check(value, alternative, where)
                return
        except ValueError as error:
            errors.append(error)
    raise errors[-1]
