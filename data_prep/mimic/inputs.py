"""The raw folders, looked at before anything is prepared: what is missing, cut, doubled or of which release."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from cm2.errors import InputError, spelled
from cm2.progress import Progress
from data_prep.mimic.archives import SUMS, listed_sums
from data_prep.mimic.editions import TELLING, Edition, recognised
from data_prep.mimic.films import Films
from data_prep.mimic.note_tables import NOTES, note_tables
from data_prep.mimic.raw import FILMS, Release, find_table, header, reading, source
from data_prep.mimic.reports import Reports

METADATA = "mimic-cxr-2.0.0-metadata"
(OF_FILMS_2_1,) = FILMS.beside
"""A file that MIMIC-CXR-JPG has from version 2.1.0 on; its tables kept the names of 2.0.0."""
FILM_DOIS = {"2.0.0": "10.13026/8360-t248", "2.1.0": "10.13026/jsn5-t979"}
BLOCK = 1 << 20
DEPTH = 3
"""Folders above a file that may hold the checksums: the table's, the release's and one more."""


@dataclass(frozen=True)
class Inputs:
    """The files of a preparation.

    Args:
        raw: folder of the tables.
        release: release of the tables.
        tables: file of each table.
        metadata: the table of the films, if they are read.
        notes: tables of MIMIC-IV-Note, if they are read.
    """

    raw: Path
    release: Release
    tables: dict[str, Path]
    metadata: Path | None
    notes: dict[str, Path]

    @property
    def paths(self) -> list[Path]:
        """All tables."""
        return [*self.tables.values(), *([self.metadata] if self.metadata else []), *self.notes.values()]


def find_inputs(raw: Path, release: Release, modalities: Sequence[str], folders: Mapping[str, Path]) -> Inputs:
    """Finds every table and folder that will be read.

    Args:
        raw: folder of the tables.
        release: release of the tables.
        modalities: what is prepared.
        folders: folders of ``films``, ``reports`` and ``notes``; the archive of the radiographs, if they are in one, is ``packed_films``.

    Raises:
        ValueError: a table or folder that is missing, there twice, empty, cut within a line, or without a column that is needed.
    """
    tables = {table: find_table(raw, release, table) for table in tables_of(release, modalities)}
    metadata = None
    if "image" in modalities:
        metadata = find_table(folders["films"], FILMS, METADATA)
        Films.of(folders)
    if "report" in modalities:
        Reports(folders["reports"])
    for table, path in tables.items():
        whole(path)
        header(path, release, table)
    if metadata:
        whole(metadata)
        header(metadata, FILMS, METADATA)
    notes = note_tables(folders["notes"]) if "note" in modalities and release.name == "mimic4" else {}
    for table, path in notes.items():
        whole(path)
        header(path, NOTES, table)
    return Inputs(raw, release, tables, metadata, notes)


def tables_of(release: Release, modalities: Sequence[str]) -> list[str]:
    """The tables of a release that are read."""
    return [table for table in release.tables if table != "noteevents" or "note" in modalities]


def check_inputs(connection: duckdb.DuckDBPyConnection, inputs: Inputs, allow_incomplete: bool) -> dict[str, Any]:
    """Compares the files with the publisher's checksums, or else their numbers of rows with the published ones.

    Args:
        connection: connection to DuckDB.
        inputs: as returned by ``find_inputs``.
        allow_incomplete: record what disagrees instead of refusing it.

    Returns:
        For the manifest: ``release`` (None if the rows do not tell), ``doi``, ``films`` (version of MIMIC-CXR-JPG), ``checked`` by file
        (``checksum``, ``rows`` or ``not checked``) and ``incomplete``, what disagrees.

    Raises:
        ValueError: a file that is not as published.
    """
    problems: list[str] = []
    checked = dict.fromkeys((path.name for path in inputs.paths), "not checked")
    with Progress("", len(inputs.paths), "file") as progress:
        for path in progress.each(inputs.paths):
            listed = compare_checksum(path)
            if listed is not None:
                checked[path.name] = "checksum"
                problems += [listed] if listed else []
    rows = {table: _rows(connection, inputs, table) for table in TELLING}
    edition = recognised(inputs.release.name, rows)
    if edition is not None:
        unchecked = [table for table, path in inputs.tables.items() if table not in rows and checked[path.name] == "not checked"]
        with Progress("", len(unchecked), "table") as progress:
            rows |= {table: _rows(connection, inputs, table) for table in progress.each(unchecked) if table in edition.rows}
        problems += _not_as_published(edition, inputs, rows)
        for table in rows:
            name = inputs.tables[table].name
            checked[name] = "rows" if checked[name] == "not checked" else checked[name]
    if problems and not allow_incomplete:
        remedy = spelled("pass allow_incomplete=True", "add --allow-incomplete")
        raise InputError(f"{problems[0]}; copy it again, or {remedy} if you mean to prepare a part")
    return _described(edition, inputs, checked, problems)


def source_of(found: Mapping[str, Any], release: Release) -> str:
    """Where the data come from, one sentence for the manifest.

    Args:
        found: as returned by ``check_inputs``.
        release: release of the tables.
    """
    name = release.title.partition(" v")[0]
    said = f"{found['release']}, https://doi.org/{found['doi']}" if found["release"] else f"{name}, of no release that its rows tell"
    paper = {"mimic3": "Scientific Data 2016;3:160035", "mimic4": "Scientific Data 2023;10:1"}[release.name]
    if found["films"]:
        said += f", and MIMIC-CXR-JPG v{found['films']}, https://doi.org/{FILM_DOIS[found['films']]}"
        paper += " and 2019;6:317"
    return f"{said}; Johnson et al., {paper}"


def whole(path: Path) -> None:
    """Checks that a file holds something and that a text file ends with a line.

    Raises:
        ValueError: it does not.
    """
    if not path.stat().st_size:
        raise InputError(f"{path} is empty; copy it again")
    if path.suffix != ".csv":
        return
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) not in (b"\n", b"\r"):
            raise InputError(f"{path} ends within a line, as a file does that was cut; copy it again (a whole file ends with a line end)")


def _rows(connection: duckdb.DuckDBPyConnection, inputs: Inputs, table: str) -> int:
    path = inputs.tables[table]
    with reading(path):
        return int(connection.execute(f"SELECT count(*) FROM {source(path, inputs.release, table)}").fetchall()[0][0])


def compare_checksum(path: Path) -> str | None:
    """Compares a file with the checksums in its folder or one above it: None if none lists it, else what is wrong, or nothing."""
    for folder in list(path.parents)[:DEPTH]:
        if not (folder / SUMS).is_file():
            continue
        sums, inside = dict(listed_sums(folder / SUMS)), path.relative_to(folder).as_posix()
        for name in (inside, inside.removesuffix(".gz")):
            if name in sums:
                same = _sha256(path, unpacked=name != inside) == sums[name]
                return "" if same else f"{path} is not the official file: {folder / SUMS} lists another checksum"
    return None


def _sha256(path: Path, unpacked: bool) -> str:
    digest = hashlib.sha256()
    with reading(path), gzip.open(path) if unpacked else path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _not_as_published(edition: Edition, inputs: Inputs, rows: Mapping[str, int]) -> list[str]:
    return [
        f"{inputs.tables[table]} has {found:,} rows, and {edition.title} has {there:,}, the release that the other tables are of"
        for table, (found, there) in edition.lacking(rows).items()
    ]


def _described(edition: Edition | None, inputs: Inputs, checked: dict[str, str], problems: list[str]) -> dict[str, Any]:
    films = None
    if inputs.metadata:
        films = "2.1.0" if (inputs.metadata.parent / OF_FILMS_2_1).exists() else "2.0.0"
    return {
        "release": edition.title if edition else None,
        "doi": edition.doi if edition else None,
        "films": films,
        "checked": checked,
        "incomplete": [problem.replace(str(inputs.raw), inputs.raw.name) for problem in problems],
    }
