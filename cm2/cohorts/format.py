"""File format of a prepared cohort, shared by writer (``cm2.cohorts.writing``) and reader.

A cohort is a folder with ``manifest.json``, ``stays.parquet`` (``stay_id``, ``split``, the columns of each task's labels,
and ``present_<modality>``) and one file for each modality, all in the row order of ``stays.parquet``. Missing values are
placeholders: zeros, or a null text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cm2.config.files import read_json
from cm2.config.schema import check, plain_name
from cm2.durable import write_json
from cm2.errors import InputError
from cm2.tasks import Task, task_of

FORMAT = 1
"""Version of the format; a reader refuses any other."""
SPLITS = ("train", "valid", "test")
MANIFEST = "manifest.json"
PRIVATE = "private.json"
"""What the manifest of a credentialed cohort does not show: the exact counts, and what names single records."""
STAYS = "stays.parquet"
PRESENT = "present_"
"""Prefix of the columns with the mask of a modality."""
MEASURED = "measured values"
"""Entry ``of`` of a modality's ``normalisation`` where mean and deviation are those of what was measured, without what was filled in."""
SEPARATOR = "\f"
"""Separator of the documents of a stay's text."""


def _file_name(name: Any) -> None:
    """A file in the cohort's folder: no path that leads elsewhere."""
    plain = isinstance(name, str) and name and name.isprintable() and "\\" not in name
    if not plain or name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
        raise InputError(f"expected a file in the folder of the cohort, got {name!r:.60}")


def _checksum(value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise InputError(f"expected 64 hexadecimal digits, got {value!r:.80}")


AGAIN = "prepare the cohort again"
"""What to do about a cohort that cannot be read."""
_COUNT = (int, None)  # None: a small count that is not shown
_COUNTS = {"channels?": {"*": {"state?": str, "*": _COUNT}}}  # what else is counted is for people
SCHEMA = {
    "name": plain_name,
    "stays?": int,
    "splits": dict.fromkeys(SPLITS, _COUNT),
    "credentialed?": bool,
    "fabricated?": bool,
    "modalities": {
        "*": {
            "kind": str,
            "file": _file_name,
            "shape": [int],
            "features": [plain_name],
            "units?": [str],
            "present?": _COUNT,
            "variables?": dict,
        }
    },
    "tasks": {
        "*": {
            "description": str,
            "type?": str,
            "unknown?": _COUNT,
            "positives?": _COUNT,
            "positives_by_split?": dict.fromkeys(SPLITS, int),
            "counts?": {"*": {"known": _COUNT, "positives": _COUNT}},
        }
    },
    "flow?": [{"step": str, "stays": _COUNT, "dropped": _COUNT, "note?": str}],
    "sizes": {"*": int},
    "checksums": {"*": _checksum},
    "checksum": _checksum,
    "source?": str,
    "version?": str,
    "created?": str,
    "parameters?": dict,
    "counts?": _COUNTS,
    "normalisation?": {"*": dict},
}
"""What a manifest holds; see `cm2.config.schema`. Other entries are for people."""
_SCHEMA_OF_PRIVATE = {f"{name.rstrip('?')}?": inner for name, inner in SCHEMA.items()} | {"records?": dict}


def credentialed(manifest: Mapping[str, Any]) -> bool:
    """Whether a cohort's data are under a use agreement; assumed unless the manifest says otherwise."""
    return manifest.get("credentialed", True) is not False


def fabricated(manifest: Mapping[str, Any]) -> bool:
    """Whether a cohort's data are made up in the layout of a credentialed source, so that no number of it is about a patient."""
    return manifest.get("fabricated") is True


def tasks_of(manifest: Mapping[str, Any]) -> dict[str, Task]:
    """The tasks of a manifest by name; one without a type is binary.

    Raises:
        ValueError: an unknown type, or an entry that its type lacks.
    """
    return {name: task_of(name, entry) for name, entry in manifest["tasks"].items()}


def combined_checksum(checksums: Mapping[str, str]) -> str:
    """SHA-256 over the lines ``<sha256>  <file>``, sorted by file."""
    return hashlib.sha256("".join(f"{checksums[file]}  {file}\n" for file in sorted(checksums)).encode()).hexdigest()


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replaces ``manifest.json``.

    Raises:
        ValueError: an entry that no reader would accept, such as a modality's name with markup in it.
    """
    check(manifest, SCHEMA, MANIFEST)
    write_json(folder / MANIFEST, manifest, ensure_ascii=False, allow_nan=False)


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads the manifest of a prepared cohort.

    Raises:
        ValueError: there is none, or it is not JSON, has another format or lacks an entry.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise InputError(f"{path} is not a prepared cohort: it has no {MANIFEST}; write one with `cm2 prepare`")
    manifest = read_json(file, object, AGAIN)
    given = manifest.get("format") if isinstance(manifest, dict) else None
    if given != FORMAT:
        raise InputError(f"{file}: format {given!r} is not supported, this version reads {FORMAT}; prepare the cohort again")
    try:
        check(manifest, SCHEMA, str(file))
        tasks_of(manifest)
        _check_files(manifest, str(file))
    except ValueError as error:
        raise InputError(f"{error}; {AGAIN}") from None
    return manifest


def read_exact(path: Path) -> dict[str, Any]:
    """The manifest of a prepared cohort with all counts, for checks and computations on this machine; nothing of it may be shown.

    Args:
        path: folder of the cohort.

    Returns:
        The manifest; of a credentialed cohort with its exact counts, and with ``records``, which name single stays and files.

    Raises:
        ValueError: see `read_manifest`; or a file beside it that is no JSON.
    """
    manifest = read_manifest(path)
    if PRIVATE not in manifest["sizes"]:
        return manifest
    private = read_json(path / PRIVATE, _SCHEMA_OF_PRIVATE, AGAIN)
    return manifest | private | {"counts": manifest.get("counts", {}) | private.get("counts", {})}


def _check_files(manifest: Mapping[str, Any], where: str) -> None:
    """Checks that whatever is read is checksummed.

    Raises:
        ValueError: a file without size or checksum.
    """
    read = {STAYS, *(entry["file"] for entry in manifest["modalities"].values())}
    for name in sorted(read | manifest["sizes"].keys() | manifest["checksums"].keys()):
        check(name, _file_name, where)
        if name not in manifest["sizes"] or name not in manifest["checksums"]:
            raise InputError(f"{where}: the file {name} has no size or no checksum")
