"""Spread of the book's numbers between machines, and how many of their digits can therefore be printed.

``make portable`` executes the chapters under several instruction sets, numbers of threads and libraries, and stores the numbers in
``results/portability.json``: ``{"profile", "environments": [...], "numbers": {chapter: {name: [one value per environment]}}}``.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cm2.book.cache import PORTABILITY, Execution

_GLUE = "application/papermill.record/text/plain"
_FORMAT = re.compile(r"(?P<before>[^.a-zA-Z%]*)(?:\.(?P<digits>\d+))?(?P<kind>[a-zA-Z%]?)$")
_ROLE = re.compile(r"\{glue:text\}`([^`:]+)(?::([^`]*))?`")


def glued(content: Mapping[str, Any]) -> dict[str, float]:
    """Numbers glued in an executed notebook, by name."""
    found = {}
    for output in (output for cell in content["cells"] for output in cell.get("outputs", ())):
        text = output.get("data", {}).get(_GLUE)
        if text is not None:
            try:
                found[output["metadata"]["scrapbook"]["name"].removeprefix("application/papermill.record/")] = float("".join(text))
            except ValueError:
                continue  # a word
    return found


def numbers(execution: Execution) -> dict[str, float]:
    """Numbers of an executed chapter, by name: glued ones, and recorded ones as ``chapter:name``."""
    found = glued(json.loads(execution.notebook.read_text(encoding="utf-8")))
    for path in sorted(execution.results.glob("*.json")):
        entries = json.loads(path.read_text(encoding="utf-8"))
        found |= {f"{path.stem}:{name}": e["value"] for name, e in entries.items() if not isinstance(e["value"], str)}
    return found


def spreads(root: Path, profile: Any) -> dict[str, dict[str, float]]:
    """Largest minus smallest value over the environments, by chapter and name; empty if this profile has not been run."""
    path = root / "results" / PORTABILITY
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not kept or kept["profile"] != profile:
        return {}
    return {chapter: {name: spread(values) for name, values in found.items()} for chapter, found in kept["numbers"].items()}


def spread(values: list[float | None]) -> float:
    """Largest minus smallest of the finite values."""
    there = [value for value in values if value is not None and math.isfinite(value)]
    return max(there) - min(there) if there else 0.0


def printed(value: float, format: str, spread: float) -> str:
    """A number with only the digits that hold on every machine.

    The last digit shown is the first whose half is at least as large as the spread.

    Args:
        value: the number.
        format: the author's format specification, such as ``.3f``, ``,d``, ``.1%`` or ``.1e``.
        spread: largest minus smallest value over the environments.

    Example:
        >>> printed(0.83124, ".4f", 0.002), printed(1234, ",d", 20), printed(0.5, ".2f", 0.0)
        ('0.83', '1,200', '0.50')
    """
    wanted = _FORMAT.match(format)
    if not spread or not wanted or not math.isfinite(value):
        return f"{value:{format}}"
    shift = 2 if wanted["kind"] == "%" else 0
    places = -math.ceil(math.log10(2 * spread)) - shift  # decimals that hold, of the number as it is printed
    if wanted["kind"] in {"e", "E", "g", "G"}:
        places += math.floor(math.log10(abs(value))) if value else 0
        places += wanted["kind"] in {"g", "G"}
    without = {"d": 0, "": 17}.get(wanted["kind"], 6)  # decimals of a format that names none
    digits = int(wanted["digits"] or without)
    if places >= digits:
        return f"{value:{format}}"
    if places >= 0 and wanted["digits"]:
        return f"{value:{wanted['before']}.{places}{wanted['kind']}}"
    if 10.0 ** -(places + shift) > abs(value):
        return f"≈ {value:.1g}"  # not even its first digit holds
    rounded = round(value, places + shift)
    return f"{int(rounded) if wanted['kind'] == 'd' else rounded:{wanted['before']}{'.0' if wanted['digits'] else ''}{wanted['kind']}}"


def with_digits_that_hold(content: dict[str, Any], moved: Mapping[str, float]) -> dict[str, Any]:
    """The notebook with each ``{glue:text}`` replaced by its number if not all of the requested digits hold.

    Args:
        content: an executed notebook; its markdown cells are changed in place.
        moved: the spread of its glued numbers, by name.
    """
    values = glued(content)

    def text(match: re.Match[str]) -> str:
        name, format = match[1], match[2] or ""
        if name not in values or not moved.get(name):
            return match[0]
        shown = printed(values[name], format, moved[name])
        return match[0] if shown == f"{values[name]:{format}}" else shown

    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = _ROLE.sub(text, "".join(cell["source"]))
    return content
