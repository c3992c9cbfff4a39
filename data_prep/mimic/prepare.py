"""From the raw files of MIMIC-III or MIMIC-IV to a prepared cohort."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from cm2.config.names import did_you_mean
from cm2.errors import InputError
from data_prep.made_up import is_made_up
from data_prep.mimic.archives import as_folders
from data_prep.mimic.inputs import check_inputs, find_inputs, tables_of
from data_prep.mimic.note_tables import NOTES
from data_prep.mimic.quirks import Quirks
from data_prep.mimic.raw import FILMS, MIMIC3, MIMIC4, Release, described
from data_prep.mimic.splits import split_subjects
from data_prep.mimic.stages import VERSION, Stages
from data_prep.mimic.tables import Means, Tables, prepare_from_tables
from data_prep.once import Asked
from data_prep.writer import PreparedCohort

MODALITIES = {"mimic3": ("series", "note"), "mimic4": ("series", "image", "report", "note")}
STAGES = 6  # plus one for each modality


def prepare_mimic3(
    raw: Path | str,
    out: Path | str,
    modalities: Sequence[str] = MODALITIES["mimic3"],
    variant: str = "corrected",
    quirks: Mapping[str, bool] | None = None,
    split_lists: tuple[Path | str, Path | str] | None = None,
    memory_limit: str = "3GB",
    jobs: int = 2,
    temporary: Path | str | None = None,
    allow_incomplete: bool = False,
) -> Path:
    """Prepares MIMIC-III v1.4: charted series and clinical notes of adults' ICU stays of 48 hours or more.

    Args:
        raw: folder of the tables, ``.csv``, ``.csv.gz`` or ``.parquet``, with columns in upper or lower case; or the release's zip archive,
            as the source serves it, whose tables are unpacked for the time being; or a DuckDB file of them.
        out: folder of the prepared cohort, written whole or not at all.
        modalities: ``series`` and, optionally, ``note``.
        variant: for this and the following arguments see ``prepare_mimic4``.
        quirks: individual quirks to switch on or off, by name.
        split_lists: files of test and of validation subjects.
        memory_limit: memory limit of DuckDB.
        jobs: number of threads.
        temporary: folder for data that do not fit into memory.
        allow_incomplete: prepare files that are not as published, too; the manifest says which.

    Returns:
        ``out``. If it already holds this very cohort, nothing is written.

    Raises:
        ValueError: a table that is missing, damaged, of another release or not separated by commas; a step of the
            flow chart that leaves no stay; no space left; or an ``out`` that holds something else.
    """
    return _prepare(Path(raw), Path(out), MIMIC3, modalities, variant, quirks, split_lists, memory_limit, jobs, temporary, allow_incomplete)


def prepare_mimic4(
    raw: Path | str,
    out: Path | str,
    modalities: Sequence[str] = ("series", "image", "report"),
    variant: str = "corrected",
    quirks: Mapping[str, bool] | None = None,
    films: Path | str | None = None,
    reports: Path | str | None = None,
    notes: Path | str | None = None,
    image_size: int = 224,
    split_lists: tuple[Path | str, Path | str] | None = None,
    memory_limit: str = "3GB",
    jobs: int = 2,
    temporary: Path | str | None = None,
    allow_incomplete: bool = False,
) -> Path:
    """Prepares MIMIC-IV (v2.0 to v3.1): series, chest radiographs, their reports and notes of adults' ICU stays of 48 hours or more.

    Args:
        raw: folder with ``hosp/`` and ``icu/``, or with all tables in one place; or the release's zip archive; or a DuckDB file of them.
        out: folder of the prepared cohort, written whole or not at all.
        modalities: ``series`` and, optionally, ``image``, or ``image`` and ``report``, and ``note``.
        variant: ``corrected``, or ``released`` with every quirk of the released preparation (``SENTENCES``).
        quirks: individual quirks to switch on or off, by name.
        films: folder of MIMIC-CXR-JPG, or its zip archive, in which the radiographs stay; default ``raw/mimic-cxr-jpg``.
        reports: folder of MIMIC-CXR's report texts, or ``mimic-cxr-reports.zip``; default ``raw/mimic-cxr``.
        notes: folder of MIMIC-IV-Note, or its zip archive, for the modality ``note``; default ``raw/mimic-iv-note``.
        image_size: side of the radiographs in pixels.
        split_lists: files of test and of validation subjects (rows ``subject_id,flag``); default: a stable hash of the subject.
        memory_limit: memory limit of DuckDB; larger data spill to disk.
        jobs: number of threads.
        temporary: folder for the data that spill; default: beside ``out``.
        allow_incomplete: prepare files that are not as published (their checksums, or else their numbers of rows), too; the manifest
            says which.

    Returns:
        ``out``. If it already holds this very cohort, nothing is written.

    Raises:
        ValueError: as ``prepare_mimic3``.
    """
    folders = {"films": Path(films or Path(raw) / "mimic-cxr-jpg"), "reports": Path(reports or Path(raw) / "mimic-cxr")}
    folders["notes"] = Path(notes or Path(raw) / "mimic-iv-note")
    return _prepare(
        Path(raw),
        Path(out),
        MIMIC4,
        modalities,
        variant,
        quirks,
        split_lists,
        memory_limit,
        jobs,
        temporary,
        allow_incomplete,
        image_size,
        folders,
    )


def _prepare(
    raw: Path,
    out: Path,
    release: Release,
    modalities: Sequence[str],
    variant: str,
    quirks: Mapping[str, bool] | None,
    split_lists: tuple[Path | str, Path | str] | None,
    memory_limit: str,
    jobs: int,
    temporary: Path | str | None,
    allow_incomplete: bool,
    image_size: int = 224,
    folders: Mapping[str, Path] | None = None,
) -> Path:
    chosen = Quirks.of(variant, quirks)
    lists = None if split_lists is None else (Path(split_lists[0]), Path(split_lists[1]))
    _check_modalities(release, modalities)
    if image_size < 1 or jobs < 1:
        raise InputError(f"image_size and jobs are 1 or more, got {image_size} and {jobs}")
    if lists is not None:
        split_subjects(np.empty(0, dtype=np.int64), release.name, lists)  # a list that cannot be read is found now
    given = {"raw": raw, **(folders or {})}
    wanted: dict[str, tuple[Release, Sequence[str]]] = {"raw": (release, tables_of(release, modalities))}
    wanted |= {"films": (FILMS, [*FILMS.tables])} if "image" in modalities else {}
    wanted |= {"notes": (NOTES, [*NOTES.tables])} if "note" in modalities else {}
    with as_folders(given, wanted, out, temporary) as places:
        if places.get("films") != given.get("films"):
            places["packed_films"] = given["films"]  # which stay where they are
        inputs = find_inputs(places["raw"], release, modalities, places)
        parameters = {
            "modalities": list(modalities),
            "variant": variant,
            "quirks": asdict(chosen),
            "split": "hash of the subject" if lists is None else [hashlib.sha256(_bytes(path)).hexdigest() for path in lists],
            "raw": described(inputs.paths),
        } | ({"image_size": image_size} if "image" in modalities else {})
        fabricated = is_made_up(raw, places["raw"], *_used(modalities, given), *_used(modalities, places))
        asked = Asked(out, release.name, VERSION, parameters, fabricated=fabricated)

        def made(tables: Tables) -> PreparedCohort:
            stages = Stages(places["raw"], release, chosen, lists, tables, jobs, image_size, places, fabricated)
            return stages.cohort(modalities, parameters)

        check = partial(check_inputs, inputs=inputs, allow_incomplete=allow_incomplete)
        means = Means(memory_limit, jobs, temporary)
        return prepare_from_tables(asked, places["raw"], means, STAGES + len(modalities), check, made)


def _check_modalities(release: Release, modalities: Sequence[str]) -> None:
    known = MODALITIES[release.name]
    if strange := [name for name in modalities if name not in known]:
        raise InputError(f"unknown modality {strange[0]!r}; {release.title} has {', '.join(known)}{did_you_mean(strange[0], known)}")
    if "series" not in modalities or ("report" in modalities and "image" not in modalities):
        raise InputError(f"modalities: got {', '.join(modalities)}; series is always read, and a report belongs to an image")


def _used(modalities: Sequence[str], folders: Mapping[str, Path]) -> list[Path]:
    """The folders of films, reports and notes that are read."""
    needed = (("films", "image"), ("reports", "report"), ("notes", "note"))
    return [folders[name] for name, modality in needed if modality in modalities and name in folders]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise InputError(f"{path} is not a file; give the benchmark's list, rows subject_id,flag") from None
