"""The stages between raw tables and a cohort: stays, events, series, then notes or radiographs and reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cm2.cohorts.disclosure import FABRICATED, Disclosure
from cm2.cohorts.format import SEPARATOR
from cm2.durable import new_array
from cm2.errors import InputError
from cm2.progress import Progress
from data_prep.channels import feature_names, units
from data_prep.mimic.events import clean_events, known_channels, read_events
from data_prep.mimic.films import SHORT_SIDE, VIEW, Films, decode_films, last_films
from data_prep.mimic.flow import Flow, draw_flow
from data_prep.mimic.inputs import source_of
from data_prep.mimic.labels import TASKS, in_hospital_mortality, readmission
from data_prep.mimic.note_tables import last_notes_of_stays
from data_prep.mimic.notes import LAST, first_events, last_notes, read_notes
from data_prep.mimic.phenotypes import phenotypes
from data_prep.mimic.quirks import SENTENCES, Quirks
from data_prep.mimic.raw import Release
from data_prep.mimic.reports import Reports, report_path, report_sections
from data_prep.mimic.series import STEP_HOURS, bin_events, channel_health, discretise
from data_prep.mimic.splits import split_subjects
from data_prep.mimic.stays import admissions, listed_diagnoses, long_enough, patients_of_one_stay
from data_prep.mimic.tables import Tables
from data_prep.writer import PreparedCohort, PreparedModality

VERSION = "preparation 3"
ABOUT_NOTES = {"documents": LAST, "separator": "form feed"}


@dataclass
class Stages:
    """One preparation in progress.

    Args:
        raw: folder of the tables.
        release: release of the tables.
        quirks: quirks of the released preparation that are switched on.
        lists: files of test and validation subjects, or None.
        tables: connection, folder for intermediate files, progress, and counts, which the stages fill.
        jobs: number of threads.
        image_size: side of the radiographs in pixels.
        folders: see ``inputs.find_inputs``.
        fabricated: whether the raw files are made up.
        records: filled by the stages with what names single records: films, reports and notes that cannot be read.
    """

    raw: Path
    release: Release
    quirks: Quirks
    lists: tuple[Path, Path] | None
    tables: Tables
    jobs: int
    image_size: int
    folders: dict[str, Path]
    fabricated: bool = False
    records: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.connection, self.work = self.tables.connection, self.tables.work
        self.progress, self.counts = self.tables.progress, self.tables.counts

    @property
    def disclosure(self) -> Disclosure:
        """What may be shown of the cohort."""
        return Disclosure(credentialed=True, fabricated=self.fabricated)

    def cohort(self, modalities: Sequence[str], parameters: dict[str, Any]) -> PreparedCohort:
        """Runs every stage; the parameters identify the cohort."""
        stays, flow, values, became = self._stays()
        stays["split"], unlisted = split_subjects(stays["subject_id"].to_numpy(), self.release.name, self.lists)
        if not (stays["split"] == "train").any():
            raise InputError(
                f"no training stay among {self.disclosure.count(len(stays))}: the lists flag every subject; give the lists of this release"
            )
        self.counts["stays_whose_subject_no_list_names"] = unlisted
        self.progress.stage("series")
        fitted = stays["split"].isin(("train", "valid") if self.quirks.normaliser_sees_validation else ("train",)).to_numpy()
        series, statistics = discretise(values, fitted, self.quirks)
        self.counts["channels"] = channel_health(
            values, (stays["split"] == "train").to_numpy(), became, known_channels(self.release.sources)
        )
        split = "train and valid" if self.quirks.normaliser_sees_validation else "train"
        about = {"step_hours": STEP_HOURS}
        everyone = np.ones(len(stays), dtype=bool)
        prepared = {"series": PreparedModality("series", series, everyone, feature_names(), units(), {"split": split} | statistics, about)}
        if "note" in modalities:
            self.progress.stage("notes")
            prepared["note"] = self._notes(stays)
        if "image" in modalities:
            self.progress.stage("films")
            prepared["image"], films = self._films(stays)
            if "report" in modalities:
                self.progress.stage("reports")
                prepared["report"] = self._reports(len(stays), films)
        self.counts["quirks"] = {name: sentence for name, sentence in SENTENCES.items() if getattr(self.quirks, name)}
        flow.steps += _modality_steps(prepared)
        self.counts["modalities_that_no_stay_has"] = [name for name, modality in prepared.items() if not modality.present.any()]
        prepared = {name: modality for name, modality in prepared.items() if modality.present.any()}
        draw = lambda folder: draw_flow(self.disclosure.flow(flow.steps), folder / "flow.svg", FABRICATED if self.fabricated else "")
        source = f"{FABRICATED} Layout: {self.release.title}." if self.fabricated else source_of(self.counts["source"], self.release)
        return PreparedCohort(
            self.release.name,
            source,
            VERSION,
            parameters,
            stays,
            prepared,
            TASKS,
            flow.steps,
            self.counts,
            extra=draw,
            fabricated=self.fabricated,
            records=self.records,
        )

    def _stays(self) -> tuple[pd.DataFrame, Flow, np.ndarray, dict[str, dict[str, int]]]:
        self.progress.stage("stays")
        hospital = admissions(self.connection, self.raw, self.release)
        stays, flow = patients_of_one_stay(self.connection, self.raw, self.release, hospital)
        mortality = in_hospital_mortality(stays, self.quirks)
        stays["in_hospital_mortality"] = mortality
        stays["readmission"] = readmission(stays, mortality, hospital, self.quirks)
        self.progress.stage("reading events")
        self.counts["events"] = read_events(self.connection, self.raw, self.release, stays, self.quirks)
        diagnoses = listed_diagnoses(self.connection, self.raw, self.release)
        stays = long_enough(stays, diagnoses, flow)
        self.progress.stage("cleaning events")
        self.counts["events"] |= clean_events(self.connection, self.quirks)
        self.progress.stage("binning events")
        values, used, became = bin_events(self.connection, stays, self.quirks)
        self.counts["events"] |= used
        charted = (~np.isnan(values)).any(axis=(1, 2))
        stays = flow.keep(stays, pd.Series(charted), "an event in the first 48 hours", "of the 17 variables")
        labels, self.counts["phenotypes"] = phenotypes(stays, diagnoses)
        stays = pd.concat([stays, labels], axis=1)
        order = stays["stay_id"].argsort().to_numpy()
        return stays.iloc[order].reset_index(drop=True), flow, values[charted][order], became

    def _notes(self, stays: pd.DataFrame) -> PreparedModality:
        if self.release.name == "mimic4":
            documents, self.counts["notes"] = last_notes_of_stays(self.connection, self.folders["notes"], stays)
            texts = [SEPARATOR.join(parts) or None for parts in documents]
            return PreparedModality("text", texts, np.array([bool(parts) for parts in documents]), notes=ABOUT_NOTES)
        notes, self.counts["notes"] = read_notes(self.connection, self.raw, stays, self.quirks)
        first = first_events(self.connection, stays) if self.quirks.notes_beyond_48h else None
        chosen = last_notes(notes, stays, first, self.quirks)
        texts = [SEPARATOR.join(frame["text"]) if len(frame) else None for frame in chosen]
        present = np.array([text is not None for text in texts])
        self.records["notes"] = self.counts["notes"].pop("damaged_row_ids")
        self.counts["notes"]["damaged"] = len(self.records["notes"])
        self.counts["notes"]["stays_with_notes"] = int(present.sum())
        return PreparedModality("text", texts, present, notes=ABOUT_NOTES)

    def _films(self, stays: pd.DataFrame) -> tuple[PreparedModality, pd.DataFrame]:
        films, self.counts["films"] = last_films(self.connection, self.folders["films"], stays)
        shape = (len(stays), self.image_size, self.image_size)
        # on disk: all images of a full cohort need not fit into memory
        images = new_array(self.work / "images.npy", np.uint8, shape)
        damaged = decode_films(Films.of(self.folders), films, images, self.jobs) if len(films) else {}
        self.records["films"], self.counts["films"]["damaged"] = damaged, _by_reason(damaged)
        read = ~films["dicom_id"].isin([Path(path).stem for path in damaged])
        present = np.zeros(len(stays), dtype=bool)
        present[films["row"][read]] = True
        about = {"view": VIEW, "short_side": round(self.image_size * SHORT_SIDE)}
        return PreparedModality("image", images, present, notes=about), films

    def _reports(self, n: int, films: pd.DataFrame) -> PreparedModality:
        texts: list[str | None] = [None] * n
        counts: dict[str, Any] = {"missing": 0, "empty": 0, "damaged": {}}
        reports = Reports(self.folders["reports"])
        with Progress("", len(films), "report") as progress:
            for row, subject_id, study_id in progress.each(films[["row", "subject_id", "study_id"]].itertuples(index=False)):
                path = report_path(subject_id, study_id)
                try:
                    texts[row] = SEPARATOR.join(report_sections(reports.read(path)).values()) or None
                    counts["empty"] += texts[row] is None
                except FileNotFoundError:
                    counts["missing"] += 1
                except (OSError, UnicodeDecodeError) as error:
                    counts["damaged"][path] = type(error).__name__
        if len(films) and counts["missing"] == len(films):
            raise InputError(
                f"none of {self.disclosure.count(len(films))} reports is below {self.folders['reports']};"
                " give the whole of them, or leave out report"
            )
        self.records["reports"], counts["damaged"] = counts["damaged"], _by_reason(counts["damaged"])
        self.counts["reports"] = counts
        present = np.array([text is not None for text in texts])
        return PreparedModality("text", texts, present, notes={"separator": "form feed"})


def _by_reason(damaged: Mapping[str, str]) -> dict[str, int]:
    """How many files could not be read, by the reason; which ones they are is not for the manifest."""
    return dict(sorted(Counter(damaged.values()).items()))


def _modality_steps(prepared: Mapping[str, PreparedModality]) -> list[dict[str, Any]]:
    steps, names, here = [], list(prepared), np.ones(len(prepared["series"].present), dtype=bool)
    for size in range(2, len(names) + 1):
        before = int(here.sum())
        here = here & prepared[names[size - 1]].present
        step = {"step": "with " + " and ".join(names[:size]), "stays": int(here.sum()), "dropped": before - int(here.sum())}
        steps.append(step | {"note": "the others stay in the cohort"})
    return steps
