"""From the raw files of MIMIC-III or MIMIC-IV to a prepared cohort."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from tqdm import tqdm

from data_prep.channels import feature_names, units
from data_prep.mimic.events import clean_events, read_events
from data_prep.mimic.films import SHORT_SIDE, VIEW, decode_films, last_films
from data_prep.mimic.flow import Flow, draw_flow
from data_prep.mimic.labels import TASKS, in_hospital_mortality, readmission
from data_prep.mimic.notes import LAST, SEPARATOR, first_events, last_notes, read_notes
from data_prep.mimic.quirks import SENTENCES, Quirks
from data_prep.mimic.raw import FILMS, MIMIC3, MIMIC4, Release, described, find_table
from data_prep.mimic.reports import read_report, report_path, report_sections
from data_prep.mimic.series import STEP_HOURS, bin_events, discretise
from data_prep.mimic.splits import split_subjects
from data_prep.mimic.stays import admissions, long_enough, patients_of_one_stay
from data_prep.mimic.workplace import no_space_left, workplace
from data_prep.writer import PreparedCohort, PreparedModality, already_prepared, write_cohort

VERSION = "preparation 1"
SOURCES = {
    "mimic3": "MIMIC-III Clinical Database v1.4, https://doi.org/10.13026/C2XW26; Johnson et al., Scientific Data 2016;3:160035",
    "mimic4": "MIMIC-IV v2.2, https://doi.org/10.13026/6mm1-ek67, and MIMIC-CXR-JPG, https://doi.org/10.13026/8360-t248; "
    "Johnson et al., Scientific Data 2023;10:1 and 2019;6:317",
}
MODALITIES = {"mimic3": ("series", "note"), "mimic4": ("series", "image", "report")}
STAGES = 8


def prepare_mimic3(raw: Path | str, out: Path | str, modalities: Sequence[str] = MODALITIES["mimic3"], **options: Any) -> Path:
    """Prepares MIMIC-III v1.4: charted series and clinical notes of adults' ICU stays of 48 hours or more.

    Args:
        raw: folder of the tables, ``.csv`` or ``.csv.gz``, headers in either case.
        out: folder of the prepared cohort, written whole or not at all.
        modalities: ``series`` and, if the notes are to be read, ``note``.
        **options: see ``prepare_mimic4``, without those of films and reports.

    Returns:
        ``out``. If it holds this very cohort already, nothing is written.

    Raises:
        ValueError: a table that is missing, damaged, of another release or not separated by commas; an unknown option; a step of the
            flow chart that leaves no stay; no space left; or an ``out`` that is something else.
    """
    return _prepare(Path(raw), Path(out), MIMIC3, modalities, **options)


def prepare_mimic4(
    raw: Path | str,
    out: Path | str,
    modalities: Sequence[str] = MODALITIES["mimic4"],
    variant: str = "corrected",
    quirks: Mapping[str, bool] | None = None,
    films: Path | str | None = None,
    reports: Path | str | None = None,
    image_size: int = 224,
    split_lists: tuple[Path | str, Path | str] | None = None,
    memory_limit: str = "3GB",
    jobs: int = 2,
    temporary: Path | str | None = None,
) -> Path:
    """Prepares MIMIC-IV v2.2: charted series, chest films and radiology reports of adults' ICU stays of 48 hours or more.

    Args:
        raw: folder with ``hosp/`` and ``icu/``, or with all tables in one place.
        out: folder of the prepared cohort, written whole or not at all.
        modalities: ``series`` and, of ``image`` and ``report``, what is to be read.
        variant: ``corrected``, or ``released`` with every quirk of the released preparation (``SENTENCES``).
        quirks: single quirks to be switched on or off, by name.
        films: folder of MIMIC-CXR-JPG; default ``raw/mimic-cxr-jpg``.
        reports: folder of MIMIC-CXR's report texts; default ``raw/mimic-cxr``.
        image_size: side of the films in pixels.
        split_lists: files of test and of validation subjects (rows ``subject_id,flag``); default: a stable hash of the subject.
        memory_limit: of DuckDB; what does not fit is kept on disk.
        jobs: threads.
        temporary: folder for what does not fit; default: beside ``out``.

    Returns:
        ``out``. If it holds this very cohort already, nothing is written.

    Raises:
        ValueError: as ``prepare_mimic3``.
    """
    folders = {"films": Path(films or Path(raw) / "mimic-cxr-jpg"), "reports": Path(reports or Path(raw) / "mimic-cxr")}
    options = {"variant": variant, "quirks": quirks, "split_lists": split_lists, "memory_limit": memory_limit, "jobs": jobs}
    return _prepare(Path(raw), Path(out), MIMIC4, modalities, temporary=temporary, image_size=image_size, folders=folders, **options)


def _prepare(
    raw: Path,
    out: Path,
    release: Release,
    modalities: Sequence[str],
    variant: str = "corrected",
    quirks: Mapping[str, bool] | None = None,
    split_lists: tuple[Path | str, Path | str] | None = None,
    memory_limit: str = "3GB",
    jobs: int = 2,
    temporary: Path | str | None = None,
    image_size: int = 224,
    folders: Mapping[str, Path] | None = None,
) -> Path:
    chosen = Quirks.of(variant, quirks)
    lists = None if split_lists is None else (Path(split_lists[0]), Path(split_lists[1]))
    _check_modalities(release, modalities)
    if image_size < 1 or jobs < 1:
        raise ValueError(f"image_size and jobs are 1 or more, got {image_size} and {jobs}")
    paths = [find_table(raw, release, table) for table in release.tables if table != "noteevents" or "note" in modalities]
    if "image" in modalities:
        paths.append(find_table((folders or {})["films"], FILMS, "mimic-cxr-2.0.0-metadata"))
    parameters = {
        "modalities": list(modalities),
        "variant": variant,
        "quirks": asdict(chosen),
        "split": "hash of the subject" if lists is None else [hashlib.sha256(_bytes(path)).hexdigest() for path in lists],
        "raw": described(paths),
    } | ({"image_size": image_size} if "image" in modalities else {})
    if already_prepared(out, release.name, VERSION, parameters):
        return out
    with workplace(out, temporary) as work, no_space_left(out), tqdm(total=STAGES, disable=None, leave=False) as bar:
        connection = duckdb.connect(str(work / "events.duckdb"))
        try:
            connection.execute(f"SET memory_limit = '{memory_limit}'; SET threads = {jobs}; SET preserve_insertion_order = false")
            connection.execute(f"SET temp_directory = '{work / 'spill'}'")
        except duckdb.Error:
            raise ValueError(f"memory_limit: got {memory_limit!r}; give a number with a unit, for example 3GB") from None
        with suppress(duckdb.InvalidInputException):  # in a notebook without widgets there is no bar, and none can be set
            connection.execute("SET enable_progress_bar = false")
        task = _Task(raw, release, chosen, lists, connection, work, bar, jobs, image_size, dict(folders or {}))
        cohort = task.cohort(modalities, parameters, variant)
        connection.close()
        bar.set_description("writing")
        return write_cohort(out, cohort)


class _Task:
    """One preparation under way: what its stages share."""

    def __init__(
        self,
        raw: Path,
        release: Release,
        quirks: Quirks,
        lists: tuple[Path, Path] | None,
        connection: duckdb.DuckDBPyConnection,
        work: Path,
        bar: tqdm,
        jobs: int,
        image_size: int,
        folders: dict[str, Path],
    ) -> None:
        self.raw, self.release, self.quirks, self.lists = raw, release, quirks, lists
        self.connection, self.work, self.bar, self.jobs = connection, work, bar, jobs
        self.image_size, self.folders = image_size, folders
        self.counts: dict[str, Any] = {}

    def cohort(self, modalities: Sequence[str], parameters: dict[str, Any], variant: str) -> PreparedCohort:
        stays, flow, values = self._stays()
        stays["split"], unlisted = split_subjects(stays["subject_id"].to_numpy(), self.release.name, self.lists)
        if not (stays["split"] == "train").any():
            raise ValueError(f"no training stay among {len(stays)}: the lists flag every subject; give the lists of this release")
        self.counts["stays_whose_subject_no_list_names"] = unlisted
        self._stage("series")
        fitted = stays["split"].isin(("train", "valid") if self.quirks.normaliser_sees_validation else ("train",)).to_numpy()
        series, statistics = discretise(values, fitted)
        split = "train and valid" if self.quirks.normaliser_sees_validation else "train"
        about = {"step_hours": STEP_HOURS}
        everyone = np.ones(len(stays), dtype=bool)
        prepared = {"series": PreparedModality("series", series, everyone, feature_names(), units(), {"split": split} | statistics, about)}
        if "note" in modalities:
            self._stage("notes")
            prepared["note"] = self._notes(stays)
        if "image" in modalities:
            self._stage("films")
            prepared["image"], films = self._films(stays)
            if "report" in modalities:
                self._stage("reports")
                prepared["report"] = self._reports(len(stays), films)
        self.counts["quirks"] = {name: sentence for name, sentence in SENTENCES.items() if getattr(self.quirks, name)}
        flow.steps += _modality_steps(prepared)
        self.counts["modalities_that_no_stay_has"] = [name for name, modality in prepared.items() if not modality.present.any()]
        prepared = {name: modality for name, modality in prepared.items() if modality.present.any()}
        draw = lambda folder: draw_flow(flow.steps, folder / "flow.svg")
        source = SOURCES[self.release.name]
        return PreparedCohort(self.release.name, source, VERSION, parameters, stays, prepared, TASKS, flow.steps, self.counts, extra=draw)

    def _stage(self, name: str) -> None:
        self.bar.set_description(f"{self.release.name}: {name}")
        self.bar.update()

    def _stays(self) -> tuple[pd.DataFrame, Flow, np.ndarray]:
        self._stage("stays")
        hospital = admissions(self.connection, self.raw, self.release)
        stays, flow = patients_of_one_stay(self.connection, self.raw, self.release, hospital)
        mortality = in_hospital_mortality(stays, self.quirks)
        stays["in_hospital_mortality"] = mortality
        stays["readmission"] = readmission(stays, mortality, hospital, self.quirks)
        self._stage("reading events")
        self.counts["events"] = read_events(self.connection, self.raw, self.release, stays, self.quirks)
        stays = long_enough(self.connection, self.raw, self.release, stays, flow)
        self._stage("cleaning events")
        self.counts["events"]["not_read_by_variable"] = clean_events(self.connection, self.quirks)
        self._stage("binning events")
        values, used = bin_events(self.connection, stays)
        self.counts["events"] |= used
        charted = (~np.isnan(values)).any(axis=(1, 2))
        stays = flow.keep(stays, pd.Series(charted), "an event in the first 48 hours", "of the 17 variables")
        order = stays["stay_id"].argsort().to_numpy()
        return stays.iloc[order].reset_index(drop=True), flow, values[charted][order]

    def _notes(self, stays: pd.DataFrame) -> PreparedModality:
        notes, self.counts["notes"] = read_notes(self.raw, stays, self.quirks)
        first = first_events(self.connection, stays) if self.quirks.notes_beyond_48h else None
        chosen = last_notes(notes, stays, first, self.quirks)
        texts = [SEPARATOR.join(frame["text"]) if len(frame) else None for frame in chosen]
        present = np.array([text is not None for text in texts])
        self.counts["notes"]["stays_with_notes"] = int(present.sum())
        return PreparedModality("text", texts, present, notes={"documents": LAST, "separator": "form feed"})

    def _films(self, stays: pd.DataFrame) -> tuple[PreparedModality, pd.DataFrame]:
        films, self.counts["films"] = last_films(self.connection, self.folders["films"], stays)
        shape = (len(stays), self.image_size, self.image_size)
        images = np.lib.format.open_memmap(self.work / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
        damaged = decode_films(self.folders["films"], films, images, self.jobs) if len(films) else {}
        self.counts["films"]["damaged"] = damaged
        read = ~films["dicom_id"].isin([Path(path).stem for path in damaged])
        present = np.zeros(len(stays), dtype=bool)
        present[films["row"][read]] = True
        about = {"view": VIEW, "short_side": round(self.image_size * SHORT_SIDE)}
        return PreparedModality("image", images, present, notes=about), films

    def _reports(self, n: int, films: pd.DataFrame) -> PreparedModality:
        texts: list[str | None] = [None] * n
        counts: dict[str, Any] = {"missing": 0, "empty": 0, "damaged": {}}
        for row, subject_id, study_id in films[["row", "subject_id", "study_id"]].itertuples(index=False):
            path = report_path(self.folders["reports"], subject_id, study_id)
            try:
                texts[row] = SEPARATOR.join(report_sections(read_report(path)).values()) or None
                counts["empty"] += texts[row] is None
            except FileNotFoundError:
                counts["missing"] += 1
            except (OSError, UnicodeDecodeError) as error:
                counts["damaged"][path.relative_to(self.folders["reports"]).as_posix()] = type(error).__name__
        if len(films) and counts["missing"] == len(films):
            raise ValueError(
                f"none of {len(films)} reports is below {self.folders['reports']}; give the folder with files/, or leave out report"
            )
        self.counts["reports"] = counts
        present = np.array([text is not None for text in texts])
        return PreparedModality("text", texts, present, notes={"separator": "form feed"})


def _modality_steps(prepared: Mapping[str, PreparedModality]) -> list[dict[str, Any]]:
    steps, names, here = [], list(prepared), np.ones(len(prepared["series"].present), dtype=bool)
    for size in range(2, len(names) + 1):
        before = int(here.sum())
        here = here & prepared[names[size - 1]].present
        step = {"step": "with " + " and ".join(names[:size]), "stays": int(here.sum()), "dropped": before - int(here.sum())}
        steps.append(step | {"note": "the others stay in the cohort"})
    return steps


def _check_modalities(release: Release, modalities: Sequence[str]) -> None:
    known = MODALITIES[release.name]
    if strange := [name for name in modalities if name not in known]:
        raise ValueError(f"unknown modality {strange[0]!r}; {release.title} has {', '.join(known)}")
    if "series" not in modalities or ("report" in modalities and "image" not in modalities):
        raise ValueError(f"modalities: got {', '.join(modalities)}; series is always read, and a report belongs to an image")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise ValueError(f"{path} is not a file; give the benchmark's list, rows subject_id,flag") from None
