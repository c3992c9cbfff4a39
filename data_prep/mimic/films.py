"""Chest radiographs of MIMIC-CXR-JPG: the last anterior-posterior one of the first 48 hours, as a small grey-scale image."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import joblib
import numpy as np
import pandas as pd

from cm2.errors import InputError
from cm2.progress import Progress
from data_prep.mimic.raw import FILMS, read_table
from data_prep.mimic.stays import HOURS

if TYPE_CHECKING:
    from PIL import Image

VIEW = "AP"
FORMATS = ("JPEG", "PNG")
MOST_PIXELS = 64_000_000
"""Limit of a radiograph in pixels; the largest of MIMIC-CXR have about 8 million."""
UNREADABLE = (OSError, SyntaxError, ValueError, LookupError, TypeError, ArithmeticError, struct.error)
"""What Pillow raises for damaged files, and for damaged EXIF in them."""
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


def film_path(folder: Path, subject_id: int, study_id: int, dicom_id: str) -> Path:
    """Path of a radiograph in MIMIC-CXR-JPG."""
    return folder / "files" / f"p{subject_id // 1_000_000}" / f"p{subject_id}" / f"s{study_id}" / f"{dicom_id}.jpg"


def read_film(path: Path, size: int) -> np.ndarray:
    """A radiograph as a grey-scale square ``(size, size)`` uint8: short side scaled to ``256 / 224 size`` pixels, centre cropped.

    It is turned upright as its EXIF orientation says. Of more than 8 bits, the range of its values becomes 0 to 255.

    Raises:
        OSError: the file is missing, truncated or neither JPEG nor PNG.
        ValueError: far too many pixels, or next to no contrast: not a radiograph, whatever else it is.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=FORMATS) as film:
            if film.width * film.height > MOST_PIXELS:
                raise InputError(f"{film.width} x {film.height} pixels, more than {MOST_PIXELS:,}")
            film.draft("L", (2 * size, 2 * size))  # the JPEG decoder may downscale to no less than this, which is faster
            grey = _grey(ImageOps.exif_transpose(film))
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


def decode_films(folder: Path, films: pd.DataFrame, images: np.ndarray, jobs: int) -> dict[str, str]:
    """Decodes radiographs in parallel into the rows of ``images``.

    Args:
        folder: folder of MIMIC-CXR-JPG.
        films: as returned by ``last_films``.
        images: ``(n, size, size)`` uint8, filled in place.
        jobs: number of threads.

    Returns:
        The error of each radiograph that could not be read, by its path below ``folder``; its row stays zero.

    Raises:
        ValueError: no radiograph could be read.
    """
    failures: dict[str, str] = {}

    def decode(row: int, subject_id: int, study_id: int, dicom_id: str) -> None:
        path = film_path(folder, subject_id, study_id, dicom_id)
        try:
            images[row] = read_film(path, images.shape[1])
        except UNREADABLE as error:
            reason = "missing" if isinstance(error, FileNotFoundError) else str(error).replace(str(path), "the file")
            failures[path.relative_to(folder).as_posix()] = reason

    rows = films[["row", "subject_id", "study_id", "dicom_id"]].itertuples(index=False, name=None)
    with Progress("", len(films), "film") as progress:
        threads = joblib.Parallel(n_jobs=jobs, prefer="threads", return_as="generator_unordered")
        for _ in progress.each(threads(joblib.delayed(decode)(*row) for row in rows)):
            pass
    if len(films) and len(failures) == len(films):
        reason = next(iter(failures.values()))
        raise InputError(f"none of the radiographs of these stays in {folder} can be read ({reason}); give the folder with files/")
    return dict(sorted(failures.items()))
