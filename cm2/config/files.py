"""JSON and TOML files: read, parsed and checked against a schema, with one clear error that names the file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from cm2.config.schema import Schema, check
from cm2.errors import InputError, of_the_system

REMEDY = "mend the file, or give another"


def read_text(path: Path, remedy: str = REMEDY, encoding: str = "utf-8") -> str:
    """The text of a file.

    Args:
        path: of the file.
        remedy: the end of the error.
        encoding: of the file; ``utf-8-sig`` drops a mark at its beginning.

    Raises:
        InputError: a file that is missing, cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; {remedy}") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise _unread(path, error, remedy) from None


def read_json(path: Path, schema: Schema = dict, remedy: str = REMEDY) -> Any:
    """What a JSON file holds.

    Args:
        path: of the file.
        schema: see `cm2.config.schema`; by default a group of entries.
        remedy: the end of every error.

    Raises:
        InputError: a file that is missing or no JSON, or an entry that is not as the schema says.
    """
    text = read_text(path, remedy)
    try:
        tree = json.loads(text)
        if "\\ud" in text.lower():  # half a pair of UTF-16, which nothing can write
            json.dumps(tree, ensure_ascii=False).encode()
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); {remedy}") from None
    except RecursionError:
        raise InputError(f"{path}: its entries are nested too deeply; {remedy}") from None
    return _checked(tree, schema, path, remedy)


def read_toml(path: Path, schema: Schema = dict, remedy: str = REMEDY) -> Any:
    """What a TOML file holds; arguments and errors are those of `read_json`."""
    text = read_text(path, remedy)
    try:
        tree = tomllib.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: not valid TOML ({error}); {remedy}") from None
    except RecursionError:
        raise InputError(f"{path}: its entries are nested too deeply; {remedy}") from None
    return _checked(tree, schema, path, remedy)


def _checked(tree: Any, schema: Schema, path: Path, remedy: str) -> Any:
    try:
        check(tree, schema, str(path))
    except ValueError as error:
        raise InputError(f"{error}; {remedy}") from None
    except RecursionError:
        raise InputError(f"{path}: its entries are nested too deeply; {remedy}") from None
    return tree


def _unread(path: Path, error: OSError | ValueError, remedy: str) -> InputError:
    said = of_the_system(error) if isinstance(error, OSError) else None
    return InputError(said or f"{path}: cannot be read ({error}); {remedy}")
