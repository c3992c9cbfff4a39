"""Chest radiographs of MIMIC-CXR-JPG: the last anterior-posterior one of the first 48 hours, as a small grey-scale image."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import duckdb
import joblib
import numpy as np
import pandas as pd

from cm2.errors import InputError
from cm2.progress import Progress
from data_prep.mimic.archives import SUMS, Archive, listed_sums
from data_prep.mimic.raw import FILMS, read_table
from data_prep.mimic.stays import HOURS

if TYPE_CHECKING:
    from PIL import Image

VIEW = "AP"
FORMATS = ("JPEG", "PNG")
MOST_BYTES = 1 << 28
"""Limit of a radiograph's file; those of MIMIC-CXR-JPG have a few million bytes."""
MOST_PIXELS = 64_000_000
"""Limit of a radiograph in pixels; the largest of MIMIC-CXR have about 8 million."""
UNREADABLE = (OSError, SyntaxError, ValueError, LookupError, TypeError, ArithmeticError, struct.error)
"""What Pillow raises for damaged files, and for damaged EXIF in them."""
_IN_MEMORY = re.compile("<_io.BytesIO object at 0x[0-9a-f]+>")
"""How Pillow calls a file without a name: by its place in memory, which is another every time."""
LEAST_CONTRAST = 8
"""Least difference between the brightest and the darkest pixel of a radiograph, of 255."""
SHORT_SIDE = 256 / 224
"""Short side of the scaled radiograph, as a multiple of the side of the square cropped from its centre."""


def last_films(connection: duckdb.DuckDBPyConnection, folder: Path, stays: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The radiograph of each stay.

    Args:
        connection: connection to DuckDB.
        folder: folder of MIMIC-CXR-JPG, with the metadata.
        stays: n stays with ``subject_id`` and ``intime``.

    Returns:
        ``row, subject_id, study_id, dicom_id, hours`` for the stays that have one, and the number of radiographs left after each rule.

    Raises:
        ValueError: metadata that are missing or damaged.
    """
    table = "mimic-cxr-2.0.0-metadata"
    films = read_table(connection, folder, FILMS, table)
    films["time"] = _study_times(films["studydate"], films["studytime"])
    joined = films.merge(stays[["subject_id", "intime"]].assign(row=np.arange(len(stays))), on="subject_id")
    within = (joined["time"] >= joined["intime"]) & (joined["time"] <= joined["intime"] + pd.Timedelta(hours=HOURS))
    frontal = within & (joined["viewposition"] == VIEW)
    chosen = joined[frontal].sort_values(["row", "time", "dicom_id"]).groupby("row").tail(1)
    since: pd.Series[pd.Timedelta] = chosen["time"] - chosen["intime"]
    chosen = chosen.assign(hours=since / pd.Timedelta(hours=1))
    counts = {
        "films": len(films),
        "films_without_time": int(films["time"].isna().sum()),
        "of_the_cohorts_subjects": len(joined),
        "within_48_hours": int(within.sum()),
        f"view_{VIEW}": int(frontal.sum()),
        "stays_with_a_film": len(chosen),
    }
    return chosen[["row", "subject_id", "study_id", "dicom_id", "hours"]].reset_index(drop=True), counts


def _study_times(date: pd.Series, time: pd.Series) -> pd.Series:
    """Times from ``YYYYMMDD`` and ``HMMSS.fff`` (without leading zeros), to the microsecond; NaT where either is invalid."""
    parts = time.str.strip().str.partition(".")
    whole = pd.to_datetime(date.str.strip() + parts[0].str.zfill(6), format="%Y%m%d%H%M%S", errors="coerce")
    fraction = pd.to_numeric("0." + parts[2].where(parts[2] != "", "0"), errors="coerce")
    return (whole + pd.to_timedelta((fraction * 1e6).round(), unit="us")).astype("datetime64[us]")


def film_path(subject_id: int, study_id: int, dicom_id: str) -> str:
    """Path of a radiograph in MIMIC-CXR-JPG."""
    return f"files/p{subject_id // 1_000_000}/p{subject_id}/s{study_id}/{dicom_id}.jpg"


class Films:
    """The radiographs of MIMIC-CXR-JPG, in a folder or in the archive that the source serves, compared with the publisher's checksums.

    Args:
        folder: with ``files/``, and perhaps ``SHA256SUMS.txt``.
        archive: that has ``files/`` instead.

    Raises:
        ValueError: there are none, or the archive is damaged.
    """

    def __init__(self, folder: Path, archive: Path | None = None) -> None:
        self.folder, self.place = folder, archive or folder
        self.archive = None if archive is None else Archive(archive)
        packed = self.archive.members if self.archive is not None else ()
        if not ((folder / "files").is_dir() or any(name.startswith("files/") for name in packed)):
            remedy = "give the one that has, as the source serves it, or leave out the modality image"
            raise InputError(f"no radiographs: {self.place} has no folder files/; {remedy}")
        self.sums: dict[str, str] = {}

    @classmethod
    def of(cls, folders: Mapping[str, Path]) -> Films:
        """From the entries ``films`` and, perhaps, ``packed_films`` of a preparation's folders."""
        return cls(folders["films"], folders.get("packed_films"))

    def compare(self, paths: Iterable[str]) -> None:
        """Takes the checksums of radiographs from the publisher's list, if it is there; from then on they are compared as they are read.

        Raises:
            ValueError: a line that is none of a list of checksums.
        """
        wanted = set(paths)
        if (self.folder / SUMS).is_file():
            self.sums = {path: value for path, value in listed_sums(self.folder / SUMS) if path in wanted}

    def read(self, path: str) -> bytes:
        """The content of a radiograph's file.

        Raises:
            OSError: it is missing, damaged, far too large or not the official one.
        """
        if self.archive is not None:
            content = self.archive.read(path, MOST_BYTES)
        elif (size := (self.folder / path).stat().st_size) > MOST_BYTES:
            raise OSError(f"{size:,} bytes, more than any radiograph")
        else:
            content = (self.folder / path).read_bytes()
        if path in self.sums and hashlib.sha256(content).hexdigest() != self.sums[path]:
            raise OSError(f"not the official file: {SUMS} lists another checksum")
        return content


def read_film(film: Path | BinaryIO, size: int) -> np.ndarray:
    """A radiograph as a grey-scale square ``(size, size)`` uint8: short side scaled to ``256 / 224 size`` pixels, centre cropped.

    It is turned upright as its EXIF orientation says. Of more than 8 bits, the range of its values becomes 0 to 255.

    Raises:
        OSError: the file is missing, truncated or neither JPEG nor PNG.
        ValueError: far too many pixels, or next to no contrast: not a radiograph, whatever else it is.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(film, formats=FORMATS) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise InputError(f"{picture.width} x {picture.height} pixels, more than {MOST_PIXELS:,}")
            picture.draft("L", (2 * size, 2 * size))  # the JPEG decoder may downscale to no less than this, which is faster
            grey = _grey(ImageOps.exif_transpose(picture))
    except Image.DecompressionBombError:
        raise InputError(f"more than {MOST_PIXELS:,} pixels") from None
    scale = round(size * SHORT_SIDE) / min(grey.size)
    shape = [max(round(side * scale), size) for side in grey.size]
    left, top = ((side - size) // 2 for side in shape)
    resized = grey.resize((shape[0], shape[1]), Image.Resampling.BILINEAR)
    square = np.asarray(resized.crop((left, top, left + size, top + size)))
    if int(square.max()) - int(square.min()) < LEAST_CONTRAST:
        raise InputError(f"next to no contrast: every pixel lies between {square.min()} and {square.max()}")
    return square


def _grey(film: Image.Image) -> Image.Image:
    """8 bits of grey; deeper images, which Pillow would clip, by the range of their values."""
    from PIL import Image

    if not film.mode.startswith(("I", "F")):
        return film.convert("L")
    deep = np.asarray(film, dtype=np.float64)
    low, high = deep.min(), deep.max()
    return Image.fromarray(np.round(255 * (deep - low) / max(high - low, 1)).astype(np.uint8))


def decode_films(place: Films, films: pd.DataFrame, images: np.ndarray, jobs: int) -> dict[str, str]:
    """Decodes radiographs in parallel into the rows of ``images``.

    Args:
        place: where they are.
        films: as returned by ``last_films``.
        images: ``(n, size, size)`` uint8, filled in place.
        jobs: number of threads.

    Returns:
        The error of each radiograph that could not be read, or is not the official one, by its path; its row stays zero.

    Raises:
        ValueError: no radiograph could be read.
    """
    failures: dict[str, str] = {}

    def decode(row: int, subject_id: int, study_id: int, dicom_id: str) -> None:
        path = film_path(subject_id, study_id, dicom_id)
        try:
            images[row] = read_film(BytesIO(place.read(path)), images.shape[1])
        except UNREADABLE as error:
            told = _IN_MEMORY.sub("'the file'", str(error)).replace(str(place.folder / path), "the file")
            failures[path] = "missing" if isinstance(error, FileNotFoundError) else told

    place.compare(film_path(*key) for key in films[["subject_id", "study_id", "dicom_id"]].itertuples(index=False, name=None))
    rows = films[["row", "subject_id", "study_id", "dicom_id"]].itertuples(index=False, name=None)
    with Progress("", len(films), "film") as progress:
        threads = joblib.Parallel(n_jobs=jobs, prefer="threads", return_as="generator_unordered")
        for _ in progress.each(threads(joblib.delayed(decode)(*row) for row in rows)):
            pass
    if len(films) and len(failures) == len(films):
        reason = next(iter(failures.values()))
        raise InputError(f"none of the radiographs of these stays in {place.place} can be read ({reason}); give the folder with files/")
    return dict(sorted(failures.items()))
