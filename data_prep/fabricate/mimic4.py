"""Synthetic raw files in the layouts of MIMIC-IV v2.2, MIMIC-CXR-JPG and MIMIC-CXR, and the truth about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cm2.durable import whole_or_nothing
from cm2.errors import InputError
from cm2.progress import Progress
from data_prep.fabricate import dictionaries
from data_prep.fabricate.common import Hospital, admit, check, moments, numbers, shuffled
from data_prep.fabricate.files import Habit, count_habits, write_tables
from data_prep.fabricate.films import draw_films
from data_prep.fabricate.layouts import FINDINGS, TABLES4
from data_prep.fabricate.reports import draw_reports
from data_prep.fabricate.splits import split_lists, write_lists
from data_prep.fabricate.truth.cohort import Tables
from data_prep.fabricate.truth.films import film_path, is_readable, report_path, report_text, selected
from data_prep.fabricate.truth.write import write_summary, write_truth
from data_prep.made_up import mark
from data_prep.synthetic.law import MODALITIES

LEAST_SIZE = 32
CXR = "mimic-cxr-jpg/mimic-cxr-2.0.0-"
EVENTS = {"chart": "icu/chartevents", "lab": "hosp/labevents", "output": "icu/outputevents"}
HABITS = {name: Habit(quoted=name in EVENTS.values()) for name in TABLES4} | {
    "hosp/patients": Habit(mark=True, quoted=False),
    "hosp/admissions": Habit(windows=True, quoted=False),
    "icu/icustays": Habit(plain=True, quoted=False),
    f"{CXR}split": Habit(plain=True, quoted=False),
}


def fabricate_mimic4(out: Path | str, stays: int = 2000, seed: int = 0, image_size: int = 96) -> Path:
    """Writes synthetic raw files in the layouts of MIMIC-IV v2.2, MIMIC-CXR-JPG v2.0.0 and MIMIC-CXR, with flaws and correct answers.

    Series, radiographs and reports are drawn from ``data_prep.synthetic``; no patient's data. ``truth/`` holds the cohort, its labels,
    series, radiographs and reports under the rules of the released code and under the corrected ones, computed from the rows written.
    Equal arguments give equal tables.

    Args:
        out: the raw folder; must not exist, or be empty.
        stays: number of rows of icustays, at least 50.
        seed: random seed.
        image_size: short side of the radiographs in pixels, at least 32.

    Returns:
        ``out``.

    Raises:
        ValueError: an argument outside its range, or an ``out`` that is not empty.
    """
    out = Path(out)
    check(out, stays, seed)
    if image_size < LEAST_SIZE:
        raise InputError(f"image_size: got {image_size}; anatomy needs at least {LEAST_SIZE} pixels")
    with Progress("fabricating mimic4", 4, even=False) as progress, whole_or_nothing(out) as folder:
        progress.stage("people and events")
        hospital = admit(4, stays, seed)
        progress.stage("films and reports")
        films, files, dirt = draw_films(hospital.factors[:, MODALITIES.index("image")], hospital.icu, image_size, hospital.rng)
        reports, report_dirt = draw_reports(films, hospital.factors, hospital.rng)
        files |= reports
        dirt += hospital.dirt + report_dirt + count_habits(HABITS)
        tables = _tables(hospital, films, dirt)
        progress.stage("writing")
        names = write_tables(folder, tables, TABLES4, HABITS) + _write_files(folder, files)
        test, valid = split_lists(4, hospital.icu["subject_id"].to_numpy(), hospital.rng)
        names += write_lists(folder, test, valid) + mark(folder)
        progress.stage("truth")
        _write_truth(folder / "truth", tables, test, valid, files, dict(dirt), names)
    return out


def _write_files(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return list(files)


def _tables(hospital: Hospital, films: pd.DataFrame, dirt: Counter[str]) -> dict[str, pd.DataFrame]:
    rng = hospital.rng
    chart_items = dictionaries.chart_items().rename(columns={"unit": "unitname"})
    return {
        "hosp/patients": _patients(hospital, rng),
        "hosp/admissions": _admissions(hospital, rng),
        "icu/icustays": shuffled(_timed(hospital.icu, "intime", "outtime"), rng),
        **_events(hospital),
        "icu/d_items": chart_items[chart_items["source"] == "metavision"].assign(category="Made up", param_type="Text"),
        "hosp/d_labitems": dictionaries.lab_items(),
        "hosp/diagnoses_icd": shuffled(hospital.diagnoses, rng),
        "hosp/d_icd_diagnoses": dictionaries.diagnosis_codes(4).rename(columns={"title": "long_title"}),
        f"{CXR}metadata": films.assign(
            PerformedProcedureStepDescription="CHEST (PORTABLE AP)", PatientOrientationCodeSequence_CodeMeaning="Erect"
        ),
        f"{CXR}split": films.assign(split="train"),
        f"{CXR}chexpert": _findings(films, rng, dirt),
    }


def _timed(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    return frame.assign(**{column: moments(frame[column]) for column in columns})


def _patients(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    first = hospital.icu.groupby("subject_id")["intime"].min()
    people = [person for person in hospital.people if person.listed]
    frame = pd.DataFrame(
        {"subject_id": [person.subject_id for person in people], "gender": ["M" if person.male else "F" for person in people]}
    )
    frame["anchor_age"] = [int(person.age) for person in people]
    frame["anchor_year"] = moments(first.reindex(frame["subject_id"]).reset_index(drop=True)).dt.year
    death = moments(pd.Series([person.death for person in people]))
    return shuffled(frame.assign(anchor_year_group="2014 - 2016", dod=death.dt.strftime("%Y-%m-%d")), rng)


def _admissions(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    frame = _timed(hospital.admissions, "admittime", "dischtime", "deathtime")
    frame = frame.assign(admission_type="EW EMER.", admission_location="EMERGENCY ROOM", insurance="Other", language="?", race="UNKNOWN")
    frame["discharge_location"] = np.where(frame["hospital_expire_flag"] == 1, "DIED", "HOME")
    frame["marital_status"] = rng.choice(["SINGLE", 'MARRIED, "MADE UP"'], len(frame))
    return shuffled(frame, rng)


def _events(hospital: Hospital) -> dict[str, pd.DataFrame]:
    tables = {}
    for table, name in EVENTS.items():
        rows = hospital.events[hospital.events["table"] == table].reset_index(drop=True)
        frame = rows[["subject_id", "hadm_id", "stay_id", "itemid", "value"]]
        frame = frame.assign(charttime=moments(rows["charttime"]), storetime=moments(rows["charttime"] + 420), valueuom=rows["unit"])
        frame = frame.assign(valuenum=numbers(rows["value"]), caregiver_id=20_001, warning=0)
        if table == "lab":
            number = np.arange(1, len(frame) + 1)
            frame = frame.assign(labevent_id=number, specimen_id=70_000_000 + number, priority="ROUTINE")
        tables[name] = frame.reindex(columns=TABLES4[name])
    return tables


def _findings(films: pd.DataFrame, rng: np.random.Generator, dirt: Counter[str]) -> pd.DataFrame:
    frame = films[["subject_id", "study_id"]].drop_duplicates().sort_values("study_id", ignore_index=True)
    labels = rng.choice([1.0, 0.0, -1.0, np.nan], (len(frame), len(FINDINGS)), p=[0.2, 0.1, 0.05, 0.65])
    frame = pd.concat([frame, pd.DataFrame(labels, columns=list(FINDINGS))], axis=1)
    dirt["study_not_in_chexpert"] += 1
    return frame.drop(index=int(rng.integers(len(frame))))


def _write_truth(
    folder: Path,
    tables: dict[str, pd.DataFrame],
    test: pd.DataFrame,
    valid: pd.DataFrame,
    files: Mapping[str, bytes],
    dirt: dict[str, int],
    names: list[str],
) -> None:
    folder.mkdir()
    patients = tables["hosp/patients"].assign(dod=pd.to_datetime(tables["hosp/patients"]["dod"]))
    admissions, stays, diagnoses = (tables[name] for name in ("hosp/admissions", "icu/icustays", "hosp/diagnoses_icd"))
    facts = Tables(4, patients, admissions, stays, diagnoses, tables["hosp/d_icd_diagnoses"], test, valid)
    columns = ["subject_id", "hadm_id", "stay_id", "itemid", "charttime", "value", "unit"]
    named = {"valueuom": "unit"}
    events = pd.concat([tables[name].rename(columns=named).reindex(columns=columns) for name in EVENTS.values()], ignore_index=True)
    texts: dict[int, str] = {}
    unreadable: list[str] = []
    everyone = facts.icustays["stay_id"].tolist()

    def further(_: str, survivors: pd.DataFrame, __: pd.DataFrame) -> dict[str, dict[int, Any]]:
        # both variants have the same stays, and so the same radiographs
        texts.clear()
        unreadable.clear()
        chosen, films = {}, {}
        for stay, subject, study, dicom in selected(tables[f"{CXR}metadata"], survivors).itertuples(index=False):
            chosen[stay] = dicom
            if is_readable(film_path(subject, study, dicom), files):
                films[stay] = dicom
            else:
                unreadable.append(dicom)
            if text := report_text(files.get(report_path(subject, study))):
                texts[stay] = text
        return {"film": films, "film_selected": chosen, "report": {stay: stay in texts for stay in everyone}}

    report = write_truth(folder, facts, events, further)
    pd.DataFrame({"stay_id": list(texts), "text": list(texts.values())}).to_parquet(folder / "texts.parquet", index=False)
    write_summary(folder, report | {"unreadable_films": unreadable}, dirt, names)
