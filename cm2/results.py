"""Numbers that leave a notebook: recorded with their provenance, read by other chapters and by the ``{res}`` role of the book.

A file ``<chapter>.json`` holds ``{name: {"value": 0.83, "format": ".3f", "provenance": {"cohort": "synthetic", ...}}}``.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cm2.config.files import read_json
from cm2.durable import Lock, write_json
from cm2.environment.machine import describe
from cm2.errors import InputError

SCHEMA = {"*": {"value": (float, str), "format?": str, "provenance?": dict}}
"""What a file of results holds; see `cm2.config.schema`."""
REMEDY = "remove it, and execute the chapter again"


def home() -> Path:
    """Folder of all computed files: ``$CM2_HOME``, else ``.cm2`` beside the nearest ``pyproject.toml`` above, else ``./.cm2``."""
    return Path(os.environ["CM2_HOME"]) if "CM2_HOME" in os.environ else (_checkout() or Path.cwd()) / ".cm2"


def _checkout() -> Path | None:
    here = Path.cwd()
    return next((parent for parent in (here, *here.parents) if (parent / "pyproject.toml").is_file()), None)


def folder() -> Path:
    """Where results are recorded: ``$CM2_RESULTS`` (set while the book is built), else ``results`` in ``home()``."""
    return Path(os.environ["CM2_RESULTS"]) if os.environ.get("CM2_RESULTS") else home() / "results"


def kept() -> Path | None:
    """Folder of the committed results, whose computation takes too long for a build of the book; None outside a checkout."""
    root = _checkout()
    return root / "results" if root else None


def record(
    chapter: str,
    name: str,
    value: float | int | str,
    format: str = "",
    provenance: Mapping[str, Any] | None = None,
    into: Path | None = None,
) -> None:
    """Record one number (or string) of a chapter; an earlier value with the same name is replaced.

    Args:
        chapter: the chapter's name, which becomes the file's.
        name: the result's name within the chapter; ``{res}`` refers to it as ``chapter:name``.
        value: a finite number (tensors and arrays of one element included) or a string.
        format: format specification for printing the value, such as ``.3f``.
        provenance: where it comes from: cohort, profile, seeds, interval, run; shown as a tooltip. The machine is added unless it is
            given.
        into: folder of the file; default ``folder()``.

    Raises:
        ValueError: a name with a colon or slash, a value that is neither finite nor a string, a format that does not fit the value.
    """
    for part in (chapter, name):
        if not part or set(part) & set(":/\\`"):
            raise InputError(f"{part!r} cannot name a result: use letters, digits, dashes and underscores")
    plain = _plain(value, f"{chapter}:{name}")
    try:
        f"{plain:{format}}"
    except ValueError as error:
        raise InputError(f"result {chapter}:{name}: format {format!r} does not fit {plain!r} ({error})") from error
    source = {"machine": describe(), **(provenance or {})}
    entry = {"value": plain, "format": format, "provenance": {key: _words(item) for key, item in source.items()}}
    _update((into or folder()) / f"{chapter}.json", {name: entry})


def read(chapter: str, name: str) -> float | int | str:
    """The recorded value, of this build or committed under ``results/``.

    Raises:
        ValueError: there is no such result; the message names those there are.
    """
    found: dict[str, Any] = {}
    for path in (*([at / f"{chapter}.json"] if (at := kept()) else []), folder() / f"{chapter}.json"):
        if path.is_file():
            found |= read_json(path, SCHEMA, REMEDY)
    if name not in found:
        known = ", ".join(sorted(found)) or "none: execute that chapter first"
        raise InputError(f"chapter {chapter!r} has no result {name!r}; recorded: {known}")
    return found[name]["value"]


def _plain(value: Any, where: str) -> float | int | str:
    if isinstance(value, str):
        return value
    item = value.item() if hasattr(value, "item") else value
    if isinstance(item, bool) or not isinstance(item, int | float) or not math.isfinite(item):
        raise InputError(f"result {where} must be a finite number or a string, got {value!r}")
    return item


def _words(item: Any) -> Any:
    """A provenance entry converted to JSON types."""
    if isinstance(item, np.ndarray | list | tuple | range | set):
        return [_words(element) for element in item]
    if hasattr(item, "item"):
        return item.item()
    return item if isinstance(item, str | int | float | bool | None) else str(item)


def _update(path: Path, entries: Mapping[str, Any]) -> None:
    """Add entries to a file of results, atomically and under a lock: several processes may write to the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Lock(path.with_name(f".{path.name}.lock")):
        stored = read_json(path, SCHEMA, REMEDY) if path.is_file() else {}
        write_json(path, stored | dict(entries), ensure_ascii=False, sort_keys=True)
