"""File format of a prepared cohort, shared by writer (``data_prep``) and reader.

A cohort is a folder with ``manifest.json``, ``stays.parquet`` (``stay_id``, ``split``, a column for each outcome with 0, 1 or -1 for
unknown, and ``present_<modality>``) and one file for each modality, all in the row order of ``stays.parquet``. Missing values are
placeholders: zeros, or a null text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT = 1
"""Version of the format; a reader refuses any other."""
SPLITS = ("train", "valid", "test")
MANIFEST = "manifest.json"
STAYS = "stays.parquet"
PRESENT = "present_"
"""Prefix of the columns with the mask of a modality."""
SEPARATOR = "\f"
"""Separator of the documents of a stay's text."""
REQUIRED = ("name", "modalities", "tasks", "splits", "sizes", "checksums", "checksum")
"""Entries of a manifest required to read a cohort."""


def credentialed(manifest: Mapping[str, Any]) -> bool:
    """Whether a cohort's data are under a use agreement; assumed unless the manifest says otherwise."""
    return manifest.get("credentialed", True) is not False


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def combined_checksum(checksums: Mapping[str, str]) -> str:
    """SHA-256 over the lines ``<sha256>  <file>``, sorted by file."""
    return hashlib.sha256("".join(f"{checksums[file]}  {file}\n" for file in sorted(checksums)).encode()).hexdigest()


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes ``manifest.json`` atomically, by renaming a temporary file."""
    text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    part = folder / f".{MANIFEST}.part"
    part.write_text(text)
    part.replace(folder / MANIFEST)


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads the manifest of a prepared cohort.

    Raises:
        ValueError: there is none, or it is not JSON, has another format or lacks an entry.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise ValueError(f"{path} is not a prepared cohort: it has no {MANIFEST}; write one with `cm2 prepare`")
    try:
        manifest = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON ({error}); prepare the cohort again") from None
    given = manifest.get("format") if isinstance(manifest, dict) else None
    if given != FORMAT:
        raise ValueError(f"{file}: format {given!r} is not supported, this version reads {FORMAT}; prepare the cohort again")
    if missing := [key for key in REQUIRED if key not in manifest]:
        raise ValueError(f"{file}: the entry {missing[0]!r} is missing; prepare the cohort again")
    return manifest
