"""Synthetic raw files in the layout of MIMIC-III v1.4, and the truth about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cm2.durable import whole_or_nothing
from cm2.progress import Progress
from data_prep.fabricate import dictionaries
from data_prep.fabricate.common import Hospital, admit, check, moments, numbers, shuffled
from data_prep.fabricate.files import Habit, count_habits, write_tables
from data_prep.fabricate.layouts import TABLES3
from data_prep.fabricate.notes import draw_note_table
from data_prep.fabricate.splits import split_lists, write_lists
from data_prep.fabricate.truth.cohort import Tables
from data_prep.fabricate.truth.notes import readable_notes, used_notes
from data_prep.fabricate.truth.write import write_summary, write_truth
from data_prep.made_up import mark
from data_prep.synthetic.law import MODALITIES

HABITS = {"ICUSTAYS": Habit(plain=True), "PATIENTS": Habit(mark=True), "ADMISSIONS": Habit(windows=True)}
EVENTS = {"chart": "CHARTEVENTS", "lab": "LABEVENTS", "output": "OUTPUTEVENTS"}


def fabricate_mimic3(out: Path | str, stays: int = 2000, seed: int = 0) -> Path:
    """Writes synthetic raw files in the layout of MIMIC-III v1.4, with the flaws of the real ones, and the cohort that follows from them.

    Series and notes are drawn from ``data_prep.synthetic``; no patient's data. ``truth/`` holds the cohort, its labels, series and notes
    under the rules of the released code and under the corrected ones, computed from the rows written. Equal arguments give equal files.

    Args:
        out: the raw folder; must not exist, or be empty.
        stays: number of rows of ICUSTAYS, at least 50.
        seed: random seed.

    Returns:
        ``out``.

    Raises:
        ValueError: an argument outside its range, or an ``out`` that is not empty.
    """
    out = Path(out)
    check(out, stays, seed)
    with Progress("fabricating mimic3", 3, even=False) as progress, whole_or_nothing(out) as folder:
        progress.stage("people and events")
        hospital = admit(3, stays, seed)
        tables, dirt = _tables(hospital)
        progress.stage("writing")
        files = write_tables(folder, tables, TABLES3, HABITS)
        test, valid = split_lists(3, hospital.icu["subject_id"].to_numpy(), hospital.rng)
        files += write_lists(folder, test, valid) + mark(folder)
        progress.stage("truth")
        _write_truth(folder / "truth", tables, test, valid, dirt, files)
    return out


def _tables(hospital: Hospital) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    rng = hospital.rng
    notes, note_dirt = draw_note_table(hospital.factors[:, MODALITIES.index("note")], hospital.icu, rng)
    codes, chart_items, lab_items = dictionaries.diagnosis_codes(3), dictionaries.chart_items(), dictionaries.lab_items()
    renamed = lambda frame, **names: _upper(frame.rename(columns=names))
    tables = {
        "PATIENTS": _patients(hospital, rng),
        "ADMISSIONS": _admissions(hospital, rng),
        "ICUSTAYS": _icustays(hospital, rng),
        **_events(hospital),
        "D_ITEMS": renamed(chart_items, source="dbsource", unit="unitname").assign(CATEGORY="Made up", PARAM_TYPE="Text"),
        "D_LABITEMS": _upper(lab_items),
        "DIAGNOSES_ICD": renamed(shuffled(hospital.diagnoses, rng), icd_code="icd9_code"),
        "D_ICD_DIAGNOSES": renamed(codes, icd_code="icd9_code", title="long_title").assign(SHORT_TITLE="Made up"),
        "NOTEEVENTS": _upper(notes.assign(chartdate=moments(notes["chartdate"]), charttime=moments(notes["charttime"]))),
    }
    for name, frame in tables.items():
        if name != "NOTEEVENTS":
            frame.insert(0, "ROW_ID", np.arange(1, len(frame) + 1))
    return tables, dict(hospital.dirt + note_dirt + count_habits(HABITS))


def _upper(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename(columns=str.upper)


def _patients(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    people = [person for person in hospital.people if person.listed]
    death = moments(pd.Series([person.death for person in people]))
    frame = pd.DataFrame(
        {"SUBJECT_ID": [person.subject_id for person in people], "GENDER": ["M" if person.male else "F" for person in people]}
    )
    frame = frame.assign(DOB=moments(pd.Series([person.birth for person in people])), DOD=death, DOD_SSN=death)
    return shuffled(frame.assign(EXPIRE_FLAG=death.notna().astype(int)), rng)


def _admissions(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    frame = hospital.admissions
    frame = frame.assign(**{column: moments(frame[column]) for column in ("admittime", "dischtime", "deathtime")})
    frame = frame.assign(admission_type="EMERGENCY", admission_location="EMERGENCY ROOM ADMIT", insurance="Medicare", ethnicity="UNKNOWN")
    frame["discharge_location"] = np.where(frame["hospital_expire_flag"] == 1, "DEAD/EXPIRED", "HOME")
    frame["diagnosis"] = rng.choice(["SEPSIS", "PNEUMONIA, MADE UP", 'FALL;"FOUND DOWN"'], len(frame))
    return shuffled(_upper(frame.assign(has_chartevents_data=1)), rng)


def _icustays(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    frame = hospital.icu.drop(columns=["seconds", "events"]).rename(columns={"stay_id": "icustay_id", "system": "dbsource"})
    return shuffled(_upper(frame.assign(intime=moments(frame["intime"]), outtime=moments(frame["outtime"]))), rng)


def _events(hospital: Hospital) -> dict[str, pd.DataFrame]:
    events = hospital.events
    tables = {}
    for table, name in EVENTS.items():
        rows = events[events["table"] == table].reset_index(drop=True)
        frame = rows[["subject_id", "hadm_id", "stay_id", "itemid", "value"]].rename(columns={"stay_id": "icustay_id"})
        frame = frame.assign(charttime=moments(rows["charttime"]), valuenum=numbers(rows["value"]), valueuom=rows["unit"])
        # a flag that no rule uses
        frame["error"] = (hospital.rng.random(len(rows)) < 0.002).astype(int)
        if table != "lab":
            frame = frame.assign(storetime=moments(rows["charttime"] + 420), cgid=20_001)
        tables[name] = _upper(frame).reindex(columns=TABLES3[name][1:])
    return tables


def _write_truth(
    folder: Path, tables: dict[str, pd.DataFrame], test: pd.DataFrame, valid: pd.DataFrame, dirt: dict[str, int], files: list[str]
) -> None:
    folder.mkdir()
    lower = {name: frame.rename(columns=str.lower) for name, frame in tables.items()}
    codes = {
        name: lower[name].rename(columns={"icd9_code": "icd_code"}).assign(icd_version=9) for name in ("DIAGNOSES_ICD", "D_ICD_DIAGNOSES")
    }
    stays = lower["ICUSTAYS"].rename(columns={"icustay_id": "stay_id"})
    patients, admissions = (lower[name].drop(columns="row_id") for name in ("PATIENTS", "ADMISSIONS"))
    facts = Tables(3, patients, admissions, stays, codes["DIAGNOSES_ICD"], codes["D_ICD_DIAGNOSES"], test, valid)
    columns = ["subject_id", "hadm_id", "stay_id", "itemid", "charttime", "value", "unit"]
    named = {"icustay_id": "stay_id", "valueuom": "unit"}
    events = pd.concat([lower[name].rename(columns=named).reindex(columns=columns) for name in EVENTS.values()], ignore_index=True)
    notes = readable_notes(lower["NOTEEVENTS"])
    report = write_truth(folder, facts, events, lambda v, left, kept: {f"{v}_notes": used_notes(notes, left, kept, v)})
    notes[["row_id", "clean"]].rename(columns={"clean": "text"}).sort_values("row_id").to_parquet(folder / "texts.parquet", index=False)
    told = lower["NOTEEVENTS"][["row_id", "text"]].dropna()
    report["unreadable_notes"] = sorted(set(told["row_id"].tolist()) - set(notes["row_id"].tolist()))
    report["empty_notes"] = sorted(notes["row_id"][notes["clean"] == ""].tolist())
    write_summary(folder, report, dirt, files)
