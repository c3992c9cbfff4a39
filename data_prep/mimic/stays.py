"""From every ICU stay to the candidates of the cohort: the first seven steps of the flow chart.

The steps are those of the MIMIC-III benchmarks (Harutyunyan et al., Scientific Data 2019) and of the paper's two tasks: adults with one
ICU stay in their admission, no transfer, at least 48 hours, a listed diagnosis. The eighth, an event within 48 hours, follows when the
events have been read.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from cm2.errors import InputError
from data_prep.mimic.flow import Flow
from data_prep.mimic.raw import Release, read_table

HOURS = 48
TOLERANCE = 1e-6
ADULT = 18
OLDEST = 90


def admissions(connection: duckdb.DuckDBPyConnection, raw: Path, release: Release) -> pd.DataFrame:
    """Every admission: subject, times, and whether the patient survived it."""
    return read_table(connection, raw, release, "admissions")


def patients_of_one_stay(
    connection: duckdb.DuckDBPyConnection, raw: Path, release: Release, hospital: pd.DataFrame
) -> tuple[pd.DataFrame, Flow]:
    """Adults' stays without transfer that are the only one of their admission (steps 1 to 5).

    Args:
        connection: connection to DuckDB.
        raw: folder of the tables.
        release: release of the tables.
        hospital: as returned by ``admissions``.

    Returns:
        One row for each stay: ``subject_id, hadm_id, stay_id, intime, outtime, los, admittime, dischtime, deathtime,
        hospital_expire_flag, dod, age, episode`` (its number among the subject's stays, by entry); and the flow chart so far.

    Raises:
        ValueError: an identifier that occurs twice, a stay without a time or an identifier, or a step that leaves nothing.
    """
    stays = read_table(connection, raw, release, "icustays")
    patients = read_table(connection, raw, release, "patients")
    flow = Flow(len(stays), "ICU stays")
    for frame, key, name in ((stays, "stay_id", "icustays"), (hospital, "hadm_id", "admissions"), (patients, "subject_id", "patients")):
        _check_key(frame, key, name)
    lacking = stays[["subject_id", "hadm_id", "intime"]].isna().any(axis=1)
    if lacking.any():
        raise InputError(f"icustays: {int(lacking.sum())} stays lack an identifier or the time of entry; use the official file")
    one_unit = stays["first_careunit"] == stays["last_careunit"]
    if "first_wardid" in stays:
        one_unit &= stays["first_wardid"] == stays["last_wardid"]
    stays = flow.keep(stays, one_unit, "one care unit", "first care unit = last" + (", first ward = last" * ("first_wardid" in stays)))
    joined = stays.merge(hospital, on=["subject_id", "hadm_id"]).merge(patients, on="subject_id")
    stays = flow.keep(stays, stays["stay_id"].isin(joined["stay_id"]), "known admission and patient")
    stays = stays[["stay_id"]].merge(joined, on="stay_id")
    alone = ~stays["hadm_id"].duplicated(keep=False)
    stays = flow.keep(stays, alone, "only stay of its admission", "of the stays left")
    stays["age"] = _age(stays)
    adults = flow.keep(stays, stays["age"] >= ADULT, "18 years or older")
    ordered = adults.sort_values(["intime", "outtime"], kind="stable")
    adults["episode"] = ordered.groupby("subject_id").cumcount() + 1
    return adults, flow


def listed_diagnoses(connection: duckdb.DuckDBPyConnection, raw: Path, release: Release) -> pd.DataFrame:
    """Diagnoses of the admissions whose code is one of the dictionary: ``hadm_id`` and the columns of the code."""
    given = read_table(connection, raw, release, "diagnoses_icd")
    codes = read_table(connection, raw, release, "d_icd_diagnoses").drop_duplicates()
    return given.merge(codes, on=list(codes.columns))


def long_enough(stays: pd.DataFrame, listed: pd.DataFrame, flow: Flow) -> pd.DataFrame:
    """Stays with a listed diagnosis, of 48 hours or more (steps 6 and 7)."""
    stays = flow.keep(stays, stays["hadm_id"].isin(listed["hadm_id"]), "listed diagnosis", "a code of the dictionary of diagnoses")
    long = stays["los"].notna() & (24 * stays["los"] >= HOURS - TOLERANCE)
    return flow.keep(stays, long, "48 hours or longer", "length of stay known")


def _check_key(frame: pd.DataFrame, key: str, table: str) -> None:
    if frame[key].isna().any():
        raise InputError(f"{table}: {int(frame[key].isna().sum())} rows have no {key}; use the official file")
    if frame[key].duplicated().any():
        raise InputError(f"{table}: {key} occurs twice in {int(frame[key].duplicated().sum())} rows; use the official file")


def _age(stays: pd.DataFrame) -> np.ndarray:
    """Years of 365 days in MIMIC-III, where ages above 89 are shifted to 300 (here: 90); the age at the anchor year in MIMIC-IV."""
    if "anchor_age" in stays:
        return stays["anchor_age"].to_numpy(dtype=float)
    # in seconds: a difference of 300 years overflows 64-bit nanoseconds
    days = (stays["intime"].astype("datetime64[s]") - stays["dob"].astype("datetime64[s]")) / np.timedelta64(1, "D")
    years = days.to_numpy(dtype=float) / 365
    return np.where((years < 0) | (years >= OLDEST), OLDEST, years)
