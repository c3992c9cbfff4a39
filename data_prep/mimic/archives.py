"""Zip archives of whole releases, as the source serves them: with one folder at the top, and everything below it.

DuckDB reads files, so the tables that are needed are unpacked beside the result for as long as they are read. Of radiographs an archive
holds hundreds of gigabytes: they are read where they lie.
"""

from __future__ import annotations

import errno
import lzma
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from cm2.durable import full_disk
from cm2.errors import InputError, spelled
from cm2.progress import Progress
from data_prep.made_up import MARK
from data_prep.mimic.raw import FORMATS, Release
from data_prep.workplace import workplace

SUMS = "SHA256SUMS.txt"
"""The publisher's checksums."""
ZIP = ".zip"
FOLDERS = ("files", "hosp", "icu", "note")
"""Folders of the releases themselves: one of them at the top is not that of the archive."""

DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError, OverflowError)
"""What `zipfile` and what unpacks for it raise at bytes that are no archive, beside an OSError for a place before the beginning."""


class Archive:
    """A zip archive.

    Args:
        path: of the file.

    Attributes:
        members: by their paths below the folder that holds all of them, if there is one.

    Raises:
        ValueError: it is damaged, or cut.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.zip = zipfile.ZipFile(path)
        except (*DAMAGED, OSError) as error:
            raise InputError(f"{path} is no whole zip archive ({error}); copy it again") from None
        found = [info for info in self.zip.infolist() if not info.is_dir()]
        tops = {info.filename.partition("/")[0] for info in found if "/" in info.filename}
        alone = len(tops) == 1 and not tops & set(FOLDERS) and all("/" in info.filename for info in found)
        self.members = {info.filename.partition("/")[2] if alone else info.filename: info for info in found}

    def read(self, name: str, most: int) -> bytes:
        """A member's content.

        Args:
            name: path below the top folder.
            most: bytes that it may have as unpacked.

        Raises:
            OSError: it is missing, damaged or larger.
        """
        info = self.members.get(name)
        if info is None:
            raise FileNotFoundError(name)
        if info.file_size > most:
            raise OSError(f"{info.file_size:,} bytes, more than any such file")
        try:
            return self.zip.read(info)
        except DAMAGED as error:
            raise OSError(f"damaged in the archive ({error})") from None

    def unpack(self, names: Sequence[str], into: Path) -> None:
        """Unpacks members into a folder.

        Args:
            names: keys of ``members``.
            into: the folder.

        Raises:
            ValueError: a member is damaged, or there is no space for them.
        """
        needed, free = sum(self.members[name].file_size for name in names), shutil.disk_usage(into).free
        if needed > free:
            remedy = f"free some, or name another folder with {spelled('temporary=', '--temporary')}"
            raise InputError(f"{self.path}: its tables have {needed:,} bytes unpacked, and there are {free:,} free in {into}; {remedy}")
        with Progress(f"unpacking {self.path.name}", len(names), "file") as progress:
            for name in progress.each(names):
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                try:
                    with self.zip.open(self.members[name]) as source, full_disk(into), (into / name).open("wb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
                except (*DAMAGED, OSError) as error:
                    if isinstance(error, OSError) and error.errno != errno.EINVAL:
                        raise  # of the folder
                    raise InputError(f"{self.path}: {name} is damaged in the archive ({error}); copy it again") from None


def is_archive(path: Path) -> bool:
    """Whether a path is that of a zip archive, by its name."""
    return path.suffix.lower() == ZIP and path.is_file()


@contextmanager
def as_folders(
    places: Mapping[str, Path], wanted: Mapping[str, tuple[Release, Sequence[str]]], out: Path, temporary: Path | str | None
) -> Iterator[dict[str, Path]]:
    """Folders of tables, in place of archives.

    Args:
        places: folders or archives by name.
        wanted: by the same names, the release that is there and the tables that are read; archives under other names stay as they are.
        out: folder of the prepared cohort, beside which archives are unpacked.
        temporary: where they are unpacked instead.

    Yields:
        The places, folders in place of archives; they are gone afterwards. Errors name the archive.

    Raises:
        ValueError: an archive that is damaged or has a table at another depth, or no space.
    """
    packed = {name: place for name, place in places.items() if name in wanted and is_archive(place)}
    if not packed:
        yield dict(places)
        return
    with ExitStack() as stack:
        work = stack.enter_context(workplace(out.with_name(f"{out.name}.unpacked"), temporary))
        folders = {name: work / name for name in packed}
        try:
            for name, place in packed.items():
                folders[name].mkdir()
                archive, (release, tables) = Archive(place), wanted[name]
                archive.unpack(_of_tables(archive, release, tables), folders[name])
            yield {**places, **folders}
        except InputError as error:
            told = str(error)
            for name, place in packed.items():
                told = told.replace(str(folders[name]), str(place))
            raise InputError(told) from None


def _of_tables(archive: Archive, release: Release, tables: Sequence[str]) -> list[str]:
    """The members that are files of tables, or tell of the release.

    Raises:
        ValueError: a table that is only at another depth, as in an archive of several folders.
    """
    table_of = {f"{table}{ending}": table for table in tables for ending in FORMATS}
    found, there, elsewhere = [], set(), dict[str, str]()
    for name in sorted(archive.members):
        path = PurePosixPath(name)
        folder, table = "" if str(path.parent) == "." else str(path.parent), table_of.get(path.name.lower())
        if (folder in release.folders and table) or name in (SUMS, MARK, *release.beside):
            found.append(name)
            there.add(table)
        elif table:
            elsewhere.setdefault(table, archive.members[name].filename)
    if lost := next((table for table in elsewhere if table not in there), None):
        expected = " or ".join(f"{folder}/" if folder else "no folder" for folder in release.folders)
        raise InputError(
            f"{archive.path}: the table {lost} of {release.title} is not where the source has it, in {expected} below one at the top, "
            f"but is {elsewhere[lost][:100]!r}; give the archive as the source serves it, or unpack it (unzip) and give the folder"
        )
    return found


def listed_sums(path: Path) -> Iterator[tuple[str, str]]:
    """Files and their SHA-256 of a list of checksums.

    Raises:
        ValueError: a line that is none of one.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        parts = line.split(maxsplit=1)
        if line.strip() and (len(parts) != 2 or len(parts[0]) != 64):
            raise InputError(f"{path}, line {number}: expected a checksum and a file; copy the official list again, or remove it")
        if parts:
            yield parts[1].lstrip("*").removeprefix("./"), parts[0].lower()
