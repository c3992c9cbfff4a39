"""The format of a prepared cohort, shared by what writes one (``data_prep``) and what reads one.

A cohort is a folder with ``manifest.json``, ``stays.parquet`` (``stay_id``, ``split``, a column for each outcome with 0, 1 or -1 for
unknown, and ``present_<modality>``) and one file for each modality, all in the row order of ``stays.parquet``. Rows of a stay that lacks a
modality are placeholders: zeros, or a null text.
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
"""Before a modality's name: the column that says which stays have it."""
SEPARATOR = "\f"
"""Between the documents of a stay's text."""
REQUIRED = ("name", "modalities", "tasks", "splits", "sizes", "checksums", "checksum")
"""Entries of a manifest that a cohort cannot be read without."""


def credentialed(manifest: Mapping[str, Any]) -> bool:
    """Whether a cohort's data are under a use agreement; one whose manifest does not say so is taken to be."""
    return manifest.get("credentialed", True) is not False


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def combined_checksum(checksums: Mapping[str, str]) -> str:
    """SHA-256 over the lines ``<sha256>  <file>``, sorted by file."""
    return hashlib.sha256("".join(f"{checksums[file]}  {file}\n" for file in sorted(checksums)).encode()).hexdigest()


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes ``manifest.json``: beside, then renamed."""
    text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    part = folder / f".{MANIFEST}.part"
    part.write_text(text)
    part.replace(folder / MANIFEST)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a prepared cohort.

    Raises:
        ValueError: there is none, it is no JSON, of another format, or lacks an entry.
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
