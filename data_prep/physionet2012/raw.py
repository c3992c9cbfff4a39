"""Reading the challenge's files, archives or folders of records and outcomes, and downloading them."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import re
import tarfile
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from cm2.config.files import read_text
from cm2.durable import FULL, replaced
from cm2.errors import InputError, spelled
from cm2.escape import one_line
from cm2.progress import Progress

BASE_URL = "https://physionet.org/files/challenge-2012/1.0.0/"
SUMS = "SHA256SUMS.txt"
HEADER = b"Time,Parameter,Value"
OUTCOMES = ["RecordID", "SAPS-I", "SOFA", "Length_of_stay", "Survival", "In-hospital_death"]
HOURS = 48
LARGEST_RECORD, LARGEST_SET, MOST_MEMBERS, DEEPEST = 1 << 20, 1 << 28, 100_000, 3
"""Bytes of a record and of a set as unpacked, files and depth of an archive: far above the official ones, which have 4,000 records of
15 KB at most."""


@dataclass(frozen=True)
class RawSet:
    """One set as read from its files.

    Args:
        name: ``a``, ``b`` or ``c``.
        record_id: ``(n,)`` int64, ascending.
        rows: ``record`` (position in ``record_id``), ``minute``, ``parameter`` (categorical) and ``value``, in file order.
        outcomes: one row per record, in the order of ``record_id``.
        checksums: SHA-256 of the records' contents and of the outcome file; the same for an archive and its unpacked folder.
    """

    name: str
    record_id: np.ndarray
    rows: pd.DataFrame
    outcomes: pd.DataFrame
    checksums: dict[str, str]


def read_set(raw: Path, name: str) -> RawSet:
    """One set, from ``set-<name>.tar.gz`` or the folder ``set-<name>/``, with ``Outcomes-<name>.txt``.

    Raises:
        ValueError: a missing, truncated or foreign file, a wrong header, a row that cannot be read, or records and outcomes that
            are not one to one.
    """
    sums = _checksums(raw / SUMS) if (raw / SUMS).is_file() else {}
    outcomes_file = raw / f"Outcomes-{name}.txt"
    if not outcomes_file.is_file():
        raise InputError(f"{outcomes_file} is missing; put the official file there or {spelled('pass download=True', 'add --download')}")
    contents = _records(raw, name, sums)
    digest = hashlib.sha256()
    parts, lines = [], []
    for record, content in contents:
        digest.update(b"%d\n" % record + content)
        parts.append(_body(record, content, f"set {name}, record {record}"))
        lines.append(parts[-1].count(b"\n"))
    record_id = np.array([record for record, _ in contents], dtype=np.int64)
    _verify(outcomes_file, sums)
    outcomes = _outcomes(outcomes_file, record_id, name)
    checksums = {"records": digest.hexdigest(), "outcomes": hashlib.sha256(outcomes_file.read_bytes()).hexdigest()}
    return RawSet(name, record_id, _parse(b"".join(parts), np.array(lines), record_id, name), outcomes, checksums)


def fetch(raw: Path, names: tuple[str, ...], base_url: str = BASE_URL) -> None:
    """Downloads the files of the sets missing from ``raw`` and verifies them against the publisher's ``SHA256SUMS.txt``.

    A file appears under its name only once it is complete and verified.

    Raises:
        ValueError: the server cannot be reached, does not list a file, or sends something else.
    """
    raw.mkdir(parents=True, exist_ok=True)
    folders = {f"set-{name}.tar.gz": raw / f"set-{name}" for name in names}
    wanted = [file for name in names for file in (f"set-{name}.tar.gz", f"Outcomes-{name}.txt")]
    missing = [file for file in wanted if not (raw / file).exists() and not (file in folders and folders[file].is_dir())]
    if not missing:
        return
    base_url = base_url.rstrip("/") + "/"
    _download(base_url + SUMS, raw / SUMS, None)
    sums = _checksums(raw / SUMS)
    for file in missing:
        if file not in sums:
            raise InputError(f"{base_url + SUMS} does not list {file}; download it by hand to {raw} and check it")
        _download(base_url + file, raw / file, sums[file])


def _records(raw: Path, name: str, sums: dict[str, str]) -> list[tuple[int, bytes]]:
    archive, folder = raw / f"set-{name}.tar.gz", raw / f"set-{name}"
    if archive.is_file():
        _verify(archive, sums)
        members = _archive_members(archive)
    elif folder.is_dir():
        members = ((path.name, _small(path)) for path in folder.iterdir() if path.is_file())
    else:
        remedy = spelled("pass download=True", "add --download")
        raise InputError(f"neither {archive} nor the folder {folder} exists; put one there or {remedy}")
    found: dict[int, bytes] = {}
    for file, content in members:
        if file.startswith("."):
            continue
        if not re.fullmatch(r"\d+\.txt", file):
            raise InputError(f"set {name}: {file} is not a record; only <RecordID>.txt belongs there")
        if int(file[:-4]) in found:
            raise InputError(f"set {name}: record {file[:-4]} occurs twice; remove one of the two files")
        found[int(file[:-4])] = content
    if not found:
        raise InputError(f"set {name}: no record in {archive if archive.is_file() else folder}; fetch the official archive")
    return sorted(found.items())


def _archive_members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files in an archive, which is read as a stream and never as a whole: a small one may unpack to anything.

    Raises:
        InputError: an archive that is cut off or no tar.gz, or a member that is no file, lies elsewhere, or is too large for a record.
    """
    members = total = 0
    try:
        _check_size(archive)
        with tarfile.open(archive, mode="r|gz") as tar:
            for member in tar:
                members += 1
                total += member.size
                _check_member(archive, member, members, total)
                if member.isfile() and (file := tar.extractfile(member)) is not None:
                    yield Path(member.name).name, file.read()
    except PermissionError:  # not a damaged archive
        raise
    except (EOFError, OSError, zlib.error, tarfile.TarError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{archive} is truncated or not a tar.gz archive ({one_line(error)}); fetch it again") from None


def _check_member(archive: Path, member: tarfile.TarInfo, members: int, total: int) -> None:
    name = f"{archive}: its member {member.name!r:.80}"
    if not (member.isfile() or member.isdir()):
        raise InputError(f"{name} is a link or a device, not a record; fetch the official archive")
    parts = Path(member.name).parts
    if member.name.startswith("/") or ".." in parts or len(parts) > DEEPEST:
        raise InputError(f"{name} lies outside the folder of its set; fetch the official archive")
    if member.size > LARGEST_RECORD:
        raise InputError(f"{name} has {member.size:,} bytes, a record at most {LARGEST_RECORD:,}; fetch the official archive")
    if members > MOST_MEMBERS or total > LARGEST_SET:
        most = f"{MOST_MEMBERS:,} files or {LARGEST_SET:,} bytes"
        raise InputError(f"{archive} unpacks to more than {most}, a set has 4,000 records; fetch the official archive")


def _check_size(archive: Path) -> None:
    """Unpacks to nowhere: a header of a tar is read whole, whatever its size, and the checksum of gzip is behind the tar's end."""
    size = 0
    with gzip.open(archive) as file:
        while block := file.read(1 << 20):
            size += len(block)
            if size > LARGEST_SET:
                raise InputError(f"{archive} unpacks to more than {LARGEST_SET:,} bytes; fetch the official archive")


def _small(path: Path) -> bytes:
    if (size := path.stat().st_size) > LARGEST_RECORD:
        raise InputError(f"{path} has {size:,} bytes, a record at most {LARGEST_RECORD:,}; use the official file")
    return path.read_bytes()


def _body(record: int, content: bytes, where: str) -> bytes:
    content = content.replace(b"\r\n", b"\n")
    header, _, body = content.partition(b"\n")
    if header.strip() != HEADER:
        shown = header[:60].decode(errors="replace")
        raise InputError(f"{where}: expected the header {HEADER.decode()!r}, got {shown!r}; use the official file")
    body = body.strip(b"\n")
    if b"\n\n" in body:
        body = re.sub(rb"\n{2,}", b"\n", body)
    return body + b"\n" if body else b""


def _parse(text: bytes, lines: np.ndarray, record_id: np.ndarray, name: str) -> pd.DataFrame:
    owner = np.repeat(np.arange(len(record_id)), lines)
    columns = {"time": pa.dictionary(pa.int32(), pa.string()), "parameter": pa.dictionary(pa.int32(), pa.string()), "value": pa.float64()}
    try:
        table = csv.read_csv(
            io.BytesIO(text or b"00:00,RecordID,0\n"),
            read_options=csv.ReadOptions(column_names=list(columns), use_threads=False),
            parse_options=csv.ParseOptions(quote_char=False),
            convert_options=csv.ConvertOptions(column_types=columns, null_values=[""], strings_can_be_null=False),
        ).combine_chunks()
    except pa.ArrowInvalid as error:
        raise InputError(_first_bad_line(text, owner, record_id, name, str(error))) from None
    frame = table.to_pandas()
    minutes = np.array([_minute(time) for time in frame["time"].cat.categories])[frame["time"].cat.codes]
    if (wrong := np.flatnonzero(minutes < 0)).size:
        given = frame["time"].iloc[wrong[0]]
        raise InputError(f"set {name}, record {record_id[owner[wrong[0]]]}: {given!r} is not a time HH:MM; use the official file")
    return pd.DataFrame({"record": owner, "minute": minutes, "parameter": frame["parameter"], "value": frame["value"]})


def _first_bad_line(text: bytes, owner: np.ndarray, record_id: np.ndarray, name: str, error: str) -> str:
    for row, line in enumerate(text.splitlines()):
        if not re.fullmatch(rb"[^,]*,[^,]*,\s*([-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)?\s*", line):
            shown = line[:60].decode(errors="replace")
            return (
                f"set {name}, record {record_id[owner[row]]}: cannot read the row {shown!r} as Time,Parameter,Value; use the official file"
            )
    return f"set {name}: its records cannot be read ({error}); use the official files"


def _minute(time: str) -> int:
    return int(time[:-3]) * 60 + int(time[-2:]) if re.fullmatch(r"\d{1,3}:[0-5]\d", time) else -1


def _outcomes(path: Path, record_id: np.ndarray, name: str) -> pd.DataFrame:
    text = read_text(path, "use the official file", "utf-8-sig")
    header = text.partition("\n")[0].strip()
    if header != ",".join(OUTCOMES):
        raise InputError(f"{path}: expected the header {','.join(OUTCOMES)!r}, got {header[:100]!r}; use the official file")
    try:
        frame = pd.read_csv(io.StringIO(text)).astype("int64")
    except (ValueError, OverflowError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: its rows are not whole numbers ({one_line(error)}); use the official file") from None
    if (twice := frame["RecordID"].duplicated()).any():
        raise InputError(f"{path}: record {frame['RecordID'][twice].iloc[0]} has two outcomes; use the official file")
    for have, need, what in (
        (frame["RecordID"], record_id, f"record {{}} of set {name} has no outcome in {path.name}"),
        (record_id, frame["RecordID"], f"{path.name} has an outcome for record {{}}, which is not in set {name}"),
    ):
        if lacking := sorted(set(map(int, need)) - set(map(int, have))):
            raise InputError(
                f"{what.format(lacking[0])} ({len(lacking)} such records); use archive and outcomes of the same set, unaltered"
            )
    if (odd := ~frame["In-hospital_death"].isin((0, 1))).any():
        raise InputError(f"{path}: In-hospital_death is {frame['In-hospital_death'][odd].iloc[0]}, not 0 or 1; use the official file")
    return frame.set_index("RecordID").loc[record_id].reset_index()


def _checksums(path: Path) -> dict[str, str]:
    found = {}
    for number, line in enumerate(read_text(path, "delete it, or download it again").splitlines(), start=1):
        checksum, _, name = line.strip().partition(" ")
        if line.strip() and not (re.fullmatch("[0-9a-fA-F]{64}", checksum) and name.strip()):
            raise InputError(f"{path}: line {number}: expected a SHA-256 and a name, got {line!r:.60}; delete it, or download it again")
        if line.strip():
            found[name.strip().lstrip("*./")] = checksum.lower()
    return found


def _verify(path: Path, sums: dict[str, str]) -> None:
    if path.name not in sums:
        return
    with path.open("rb") as file:
        given = hashlib.file_digest(file, "sha256").hexdigest()
    if given != sums[path.name]:
        raise InputError(f"{path}: checksum {given}, but {SUMS} beside it lists {sums[path.name]}; delete the file and download it again")


def _download(url: str, path: Path, checksum: str | None) -> None:
    digest = hashlib.sha256()
    try:
        with replaced(path) as part, part.open("wb") as file, urllib.request.urlopen(url, timeout=60) as answer:
            total = int(answer.headers.get("Content-Length") or 0) or None
            with Progress(path.name, total, "B") as progress:
                while block := answer.read(1 << 20):
                    digest.update(block)
                    file.write(block)
                    progress.advance(len(block))
            if checksum is not None and digest.hexdigest() != checksum:
                raise InputError(f"{url}: checksum {digest.hexdigest()}, expected {checksum}; nothing was saved, try again")
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        raise InputError(f"{url} cannot be downloaded ({error}); check the network or put {path.name} into {path.parent} by hand") from None
