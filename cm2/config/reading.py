"""Plain trees of values, as TOML and JSON hold them, made into frozen dataclasses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass, replace
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from cm2.config.names import did_you_mean
from cm2.errors import InputError


def later(default: Any) -> Any:
    """A dataclass field that came after runs had been stored: at its default it is no part of a run's key, which stays what it was."""
    return field(default=default, metadata={"later": True, "default": default})


LATER_EMPTY = {"later": True, "default": {}}
"""Metadata of such a field that is an empty group by default."""


def aside(default: Any) -> Any:
    """A dataclass field that changes how fast a result is there, and the result by rounding at most: never part of a run's key."""
    return field(default=default, metadata={"aside": True})


def without_asides(config: Any) -> Any:
    """The group of fields with every `aside` one at its default."""
    return replace(config, **{each.name: each.default for each in fields(config) if each.metadata.get("aside")})


def keyed(config: Any) -> dict[str, Any]:
    """Tree of the fields that make up a run's key: all but the `aside` ones, and the `later` ones that are at their defaults."""
    tree = {}
    for each in fields(config):
        value = getattr(config, each.name)
        if not each.metadata.get("aside") and not (each.metadata.get("later") and value == each.metadata["default"]):
            tree[each.name] = keyed(value) if is_dataclass(value) else value
    return tree


def merge(tree: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Puts the values of another tree into this one, group by group."""
    for name, value in other.items():
        if isinstance(value, Mapping):
            merge(tree.setdefault(name, {}), value)
        else:
            tree[name] = value


def build(cls: type, tree: Mapping[str, Any], prefix: str = "") -> Any:
    """A dataclass from a tree; ValueError for a field it does not have or a value of another type."""
    hints = get_type_hints(cls)
    adopt = getattr(cls, "adopt", None)
    tree = tree if adopt is None else adopt(tree)
    unknown = sorted(set(tree) - set(hints))
    if unknown:
        known = [f.name for f in fields(cls)]
        raise InputError(f"unknown field {prefix}{unknown[0]}; known here: {', '.join(known)}{did_you_mean(unknown[0], known)}")
    return cls(**{name: _convert(hints[name], value, f"{prefix}{name}") for name, value in tree.items()})


def _convert(kind: Any, value: Any, name: str) -> Any:
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise InputError(f"{name}: a group of fields, got {value!r}; set one of its fields, for example {name}.{fields(kind)[0].name}")
        return build(kind, value, f"{name}.")
    if get_origin(kind) in (Union, UnionType):
        if value is None:
            return None
        kind = next(k for k in get_args(kind) if k is not type(None))
    if get_origin(kind) is dict:
        return value if get_args(kind)[1] is not float else _rates(value, name)
    if get_origin(kind) is tuple:
        parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
            raise InputError(f"{name}: expected names, got {value!r:.60}")
        return tuple(parts)
    if kind is bool:
        if str(value).lower() not in ("true", "false"):
            raise InputError(f"{name}: expected true or false, got {value!r:.60}")
        return str(value).lower() == "true"
    return _scalar(kind, value, name)


def _scalar(kind: Any, value: Any, name: str) -> Any:
    try:
        if isinstance(value, bool | Mapping | list | tuple | None):
            raise TypeError
        converted = kind(value)
        whole = kind is not int or isinstance(value, str) or float(value) == converted
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name}: expected {kind.__name__}, got {value!r:.60}") from error
    if not whole:
        raise InputError(f"{name}: expected a whole number, got {value!r}")
    if kind is str and not converted.isprintable():
        raise InputError(f"{name}: expected text without control characters, got {value!r:.60}")
    return converted


def _rates(value: Any, name: str) -> dict[str, float]:
    """Numbers by name, given as such or as JSON."""
    try:
        pairs = json.loads(value) if isinstance(value, str) else value
        return {str(key): float(number) for key, number in pairs.items()}
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        raise InputError(f'{name}: expected a number for each name, as in {{"image": 0.5}}, got {value!r:.60}') from None
