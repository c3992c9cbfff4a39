"""Finding and opening the raw tables of MIMIC-III and MIMIC-IV with DuckDB."""

from __future__ import annotations

import csv
import errno
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, cast

import duckdb
import pandas as pd

from cm2.errors import InputError

IDS = ("row_id", "subject_id", "hadm_id", "icustay_id", "stay_id", "itemid", "study_id")
TIMES = ("intime", "outtime", "admittime", "dischtime", "deathtime", "dob", "dod")
NUMBERS = ("los", "anchor_age", "hospital_expire_flag", "first_wardid", "last_wardid", "iserror")
PARQUET = ".parquet"
FORMATS = (".csv", ".csv.gz", PARQUET)
DATABASES = (".duckdb", ".db", ".ddb")
ATTACHED = "raw_copy"
"""Name under which a DuckDB file's tables are known."""
HASHED_BYTES = 1 << 26
"""Largest file whose SHA-256 is recorded."""


@dataclass(frozen=True)
class Release:
    """One release of MIMIC: its tables, their folders and the columns that are read.

    Args:
        name: ``mimic3`` or ``mimic4``.
        title: name in messages.
        tables: for each table the columns that are read, in lower case, separated by spaces.
        folders: folders that may hold a table, below the raw folder.
        sources: sources of items that it has, see ``events.items``.
        foreign: columns that only the other release has.
        other: the other release's name and title.
        beside: further files that tell of the release.
    """

    name: str
    title: str
    tables: dict[str, str]
    folders: tuple[str, ...]
    sources: tuple[str, ...]
    foreign: frozenset[str]
    other: tuple[str, str]
    beside: tuple[str, ...] = ()

    def columns(self, table: str) -> list[str]:
        """The columns of a table that are read."""
        return self.tables[table].split()


MIMIC3 = Release(
    "mimic3",
    "MIMIC-III v1.4",
    {
        "icustays": "subject_id hadm_id icustay_id first_careunit last_careunit first_wardid last_wardid intime outtime los",
        "admissions": "subject_id hadm_id admittime dischtime deathtime hospital_expire_flag",
        "patients": "subject_id dob dod",
        "diagnoses_icd": "hadm_id icd9_code",
        "d_icd_diagnoses": "icd9_code",
        "chartevents": "subject_id hadm_id icustay_id itemid charttime value valueuom",
        "labevents": "subject_id hadm_id itemid charttime value valueuom",
        "outputevents": "subject_id hadm_id icustay_id itemid charttime value valueuom",
        "noteevents": "row_id subject_id hadm_id charttime iserror text",
    },
    ("",),
    ("lab", "carevue", "metavision"),
    frozenset({"stay_id", "anchor_age", "icd_code"}),
    ("mimic4", "MIMIC-IV"),
)
MIMIC4 = Release(
    "mimic4",
    "MIMIC-IV",
    {
        "icustays": "subject_id hadm_id stay_id first_careunit last_careunit intime outtime los",
        "admissions": "subject_id hadm_id admittime dischtime deathtime hospital_expire_flag",
        "patients": "subject_id anchor_age dod",
        "diagnoses_icd": "hadm_id icd_code icd_version",
        "d_icd_diagnoses": "icd_code icd_version",
        "chartevents": "subject_id hadm_id stay_id itemid charttime value valueuom",
        "labevents": "subject_id hadm_id itemid charttime value valueuom",
        "outputevents": "subject_id hadm_id stay_id itemid charttime value valueuom",
    },
    ("hosp", "icu", ""),
    ("lab", "metavision"),
    frozenset({"icustay_id", "dob", "icd9_code"}),
    ("mimic3", "MIMIC-III"),
)
FILMS = Release(
    "mimic-cxr-jpg",
    "MIMIC-CXR-JPG v2",
    {
        "mimic-cxr-2.0.0-metadata": "dicom_id subject_id study_id viewposition studydate studytime",
    },
    ("",),
    (),
    frozenset(),
    ("", ""),
    ("mimic-cxr-2.1.0-test-set-labeled.csv",),
)


def find_table(raw: Path, release: Release, table: str) -> Path:
    """The file of a table: ``.csv``, ``.csv.gz`` or ``.parquet``, in upper or lower case, in any folder of the release; or ``raw`` itself,
    if it is a DuckDB file.

    Raises:
        ValueError: no such folder, no such file, or two of them; a format that is not read, with the way to convert it.
    """
    if raw.suffix in DATABASES and raw.is_file():
        return raw
    if raw.is_file():
        raise InputError(_how_to_convert(raw))
    if not raw.is_dir():
        raise InputError(f"{raw} is not a folder; give the one that holds the tables of {release.title}")
    found = []
    for folder in release.folders:
        here = {path.name.lower(): path for path in (raw / folder).iterdir()} if (raw / folder).is_dir() else {}
        found += [here[name] for name in (f"{table}{suffix}" for suffix in FORMATS) if name in here]
    if len(found) > 1:
        raise InputError(f"table {table} is there twice, {found[0]} and {found[1]}; remove the one that is not whole")
    if found:
        return found[0]
    shown = table.upper() if release.name == "mimic3" else table
    if release.name == "mimic3" and (raw / "hosp").is_dir():
        raise InputError(f"{raw} has a folder hosp/, as MIMIC-IV has; use `cm2 prepare mimic4` or another folder")
    if release.name == "mimic4" and (raw / "core").is_dir():
        raise InputError(f"{raw} has a folder core/, as MIMIC-IV had before v2.0, which is not read; download v2.2 or later")
    if other := _of_another_format(raw, release, table):
        raise InputError(f"table {shown} of {release.title}: {_how_to_convert(other)}")
    places = " or ".join(str(raw / folder) for folder in release.folders)
    remedy = _where_it_may_be(raw, release, table) or "copy it there"
    raise InputError(
        f"table {shown} of {release.title} is missing: no {shown}.csv, {shown}.csv.gz or {shown}.parquet in {places}; {remedy}"
    )


def _where_it_may_be(raw: Path, release: Release, table: str) -> str:
    """What to give instead of a folder that lacks a table: the one folder in it, or the archive; empty if neither may have it."""
    names = {f"{table}{suffix}" for suffix in FORMATS}
    for inner in sorted(path for path in raw.iterdir() if path.is_dir()):
        for folder in (inner / name for name in release.folders):
            if folder.is_dir() and names & {path.name.lower() for path in folder.iterdir()}:
                return f"it is in {folder}: give {inner}"
    packed = sorted(raw.glob("*.zip"))
    return f"if it is in the archive {packed[0].name}, give {packed[0]} itself" if packed else ""


def _of_another_format(raw: Path, release: Release, table: str) -> Path | None:
    folders = [raw / folder for folder in release.folders if (raw / folder).is_dir()]
    return next((path for folder in folders for path in sorted(folder.iterdir()) if path.name.lower().startswith(f"{table}.")), None)


def _how_to_convert(path: Path) -> str:
    """What to do with a file that is not read."""
    way = {
        ".zip": "give the archive of the whole release, or unpack it (unzip) and give the folder",
        ".tar": "unpack it (tar -xf) and give the folder",
        ".7z": "unpack it (7z x) and give the folder",
        ".feather": "convert it: pyarrow.feather.read_table, then pyarrow.parquet.write_table",
        ".sqlite": "convert it in DuckDB: ATTACH it (TYPE sqlite), then COPY each table TO 'table.parquet'",
        ".xz": "unpack it (unxz)",
        ".bz2": "unpack it (bunzip2)",
        ".zst": "unpack it (unzstd)",
    }
    remedy = way.get(path.suffix, "convert it to CSV or Parquet, for example in DuckDB: COPY (FROM ...) TO 'table.parquet'")
    return f"{path} is not read; {remedy}"


def attach(connection: duckdb.DuckDBPyConnection, raw: Path) -> None:
    """Makes the tables of a DuckDB file known to a connection, which cannot change them; nothing for a folder.

    Raises:
        ValueError: no DuckDB file, or one that another program holds open.
    """
    if raw.suffix in DATABASES and raw.is_file():
        with reading(raw):
            connection.execute(f"ATTACH IF NOT EXISTS {quoted(str(raw))} AS {ATTACHED} (READ_ONLY)")


def open_text(path: Path) -> IO[str]:
    """A possibly compressed CSV file as text; a byte-order mark is skipped, bytes that are not UTF-8 become lone surrogates."""
    opened = gzip.open if path.suffix == ".gz" else open
    return cast(IO[str], opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline=""))


def header(path: Path, release: Release, table: str) -> list[str]:
    """Column names of a table, lower case.

    Raises:
        ValueError: an unreadable file, another delimiter, the other release's table, or a missing column.
    """
    line, names = _first_line(path), []
    if path.suffix == PARQUET:
        with reading(path), duckdb.connect() as connection:
            rows = connection.execute(f"DESCRIBE FROM read_parquet({quoted(str(path))})").fetchall()
        names = [str(name).lower() for name, *_ in rows]
    elif path.suffix in DATABASES:
        names = [name.lower() for name in _in_database(path, table)[1]]
    else:
        names = [name.strip().lower() for name in next(csv.reader([line]), [])]
    lacking = [column for column in release.columns(table) if column not in names]
    if not lacking:
        return names
    if len(names) < 2 and any(mark in line for mark in ";\t|"):
        raise InputError(f"{path}, line 1: not separated by commas; use the official file")
    if release.foreign & set(names):
        other, title = release.other
        raise InputError(f"{path} is a table of {title}, not of {release.title}; use `cm2 prepare {other}` or another folder")
    # without a header the first line is a row of the data, which no message quotes
    known = [name for name in names if name in " ".join(release.tables.values()).split()]
    found = f"; known columns there: {', '.join(known)[:200]}" if known else ", and no known one; is the header missing?"
    raise InputError(f"{path}, line 1: no column {lacking[0]!r}{found}; use the official file of {release.title}")


def _first_line(path: Path) -> str:
    if path.suffix == PARQUET or path.suffix in DATABASES:
        return ""
    with reading(path), open_text(path) as file:
        return file.readline(1 << 20)


@lru_cache(maxsize=64)  # a file that is attached need not be opened once more
def _in_database(path: Path, table: str) -> tuple[str, list[str]]:
    """A table of a DuckDB file as SQL names it, whatever its schema, and its columns.

    Raises:
        ValueError: no such table, or one in two schemas.
    """
    with reading(path), duckdb.connect() as connection:
        attach(connection, path)
        found = connection.execute(
            "SELECT schema_name, table_name, list(column_name ORDER BY column_index) FROM duckdb_columns() "
            "WHERE database_name = ? AND lower(table_name) = ? GROUP BY ALL ORDER BY ALL",
            [ATTACHED, table],
        ).fetchall()
    if len(found) != 1:
        schemas = " and ".join(schema for schema, *_ in found)
        raise InputError(
            f"{path}: the table {table} is " + (f"in the schemas {schemas}; drop one" if found else "not there; load it first")
        )
    schema, name, columns = found[0]
    return f'{ATTACHED}."{schema}"."{name}"', columns


def source(path: Path, release: Release, table: str) -> str:
    """SQL that reads a table: ids as BIGINT, times as TIMESTAMP (except ``charttime``), numbers as DOUBLE, the rest as text."""
    names = header(path, release, table)
    if path.suffix == PARQUET or path.suffix in DATABASES:
        typed = ", ".join(f'CAST("{name}" AS {_type(name)}) AS "{name}"' for name in release.columns(table))
        place = f"read_parquet({quoted(str(path))})" if path.suffix == PARQUET else _in_database(path, table)[0]
        return f"(SELECT {typed} FROM {place})"
    columns = ", ".join(f"{quoted(name)}: '{_type(name)}'" for name in names)
    options = "delim=',', quote='\"', escape='\"', header=true, auto_detect=false, nullstr=''"
    return f"read_csv({quoted(str(path))}, {options}, columns={{{columns}}})"


def read_table(connection: duckdb.DuckDBPyConnection, raw: Path, release: Release, table: str) -> pd.DataFrame:
    """A small table, with only the columns needed.

    Raises:
        ValueError: see ``find_table`` and ``header``; a damaged file or a row that cannot be read, with its line.
    """
    path = find_table(raw, release, table)
    columns = ", ".join(f'"{column}"' for column in release.columns(table))
    with reading(path):
        frame = connection.execute(f"SELECT {columns} FROM {source(path, release, table)}").df()
    return frame.rename(columns={"icustay_id": "stay_id"})


def query_share(connection: duckdb.DuckDBPyConnection) -> float:
    """Fraction of the running query that is done, from 0 to 1, as estimated by DuckDB; may be called from another thread."""
    return max(0.0, connection.query_progress()) / 100


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns any error while a file is read into one error that names the file."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is damaged or cut ({error}); copy it again and compare its checksum with the official one") from None
    except csv.Error as error:
        raise InputError(f"{path}: {error}; use the official file") from None
    except duckdb.OutOfMemoryException as error:
        raise InputError(f"{path}: {reason(error)}; raise the memory limit or choose a temporary folder with more space") from None
    except duckdb.Error as error:
        if "No space left" in str(error):
            raise OSError(errno.ENOSPC, reason(error), str(path)) from None
        raise InputError(f"{path} cannot be read: {reason(error)}; use the official file, undamaged") from None
    except RuntimeError as error:  # of the C++ below DuckDB, at some bytes that are no UTF-8
        raise InputError(f"{path} cannot be read ({error}); use the official file, undamaged") from None


def described(paths: Sequence[Path]) -> dict[str, dict[str, int | str]]:
    """Name, size and, unless it is too large, SHA-256 of each raw file: they distinguish two copies."""
    found: dict[str, dict[str, int | str]] = {}
    for path in paths:
        found[path.name] = {"bytes": path.stat().st_size}
        if path.stat().st_size <= HASHED_BYTES:
            found[path.name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _type(column: str) -> str:
    kinds = ((IDS, "BIGINT"), (TIMES, "TIMESTAMP"), (NUMBERS, "DOUBLE"))
    return next((kind for names, kind in kinds if column in names), "VARCHAR")


def quoted(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def reason(error: Exception) -> str:
    """DuckDB's message and the number of the line, without the line itself: it may hold a patient's data."""
    message = re.sub(r"^[\w ]+ Error: ", "", str(error))
    line = re.search(r"CSV Error on Line: (\d+)", message)
    said = [part.strip() for part in message.splitlines() if part.strip() and not re.match(r"CSV Error|Original Line", part.strip())]
    told = re.sub(r"""string "[^"]*"|(?<=[ (:])'[^']*'""", "its text", said[0]) if said else "unreadable"
    return (f"line {line[1]}: " if line else "") + told[:300]
