"""The flow of the cohort, its labels and its splits, computed again from the rows written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cm2.cohorts.missingness import stable_uniform

STEPS = (
    *("ICU stays", "one care unit", "known admission and patient", "only stay of its admission"),
    *("18 years or older", "listed diagnosis", "48 hours or longer", "an event in the first 48 hours"),
)
SHARES = {3: (0.15, 0.18), 4: (0.20, 0.10)}


@dataclass(frozen=True)
class Tables:
    """The small tables, names in lower case and times as datetimes; ``stay_id``, ``icd_code`` and ``icd_version`` for both editions."""

    edition: int
    patients: pd.DataFrame
    admissions: pd.DataFrame
    icustays: pd.DataFrame
    diagnoses: pd.DataFrame
    codes: pd.DataFrame
    test: pd.DataFrame
    valid: pd.DataFrame


def first_steps(tables: Tables) -> list[pd.DataFrame]:
    """The stays left after steps 1 to 7, each with the columns of its admission and patient from step 3 on."""
    stays = tables.icustays
    one_unit = stays["first_careunit"] == stays["last_careunit"]
    if tables.edition == 3:
        one_unit &= stays["first_wardid"] == stays["last_wardid"]
    left = [stays, stays[one_unit]]
    left.append(left[-1].merge(tables.admissions, on=["subject_id", "hadm_id"]).merge(tables.patients, on="subject_id"))
    left.append(left[-1][left[-1].groupby("hadm_id")["stay_id"].transform("size") == 1])
    left.append(left[-1][_age(left[-1], tables.edition) >= 18])
    listed = set(zip(tables.codes["icd_code"], tables.codes["icd_version"], strict=True))
    has = [pair in listed for pair in zip(tables.diagnoses["icd_code"], tables.diagnoses["icd_version"], strict=True)]
    left.append(left[-1][left[-1]["hadm_id"].isin(tables.diagnoses["hadm_id"][has])])
    left.append(left[-1][24 * left[-1]["los"].fillna(-1) >= 48 - 1e-6])
    return left


def _age(stays: pd.DataFrame, edition: int) -> pd.Series:
    if edition == 4:
        return stays["anchor_age"]
    years = (stays["intime"] - stays["dob"]).dt.total_seconds() / (365 * 86400)
    return years.mask((years > 89) | (years < 0), 90)


def mortality(stays: pd.DataFrame, variant: str) -> pd.Series:
    """Death in hospital of stays as returned by ``first_steps``, bool."""
    if variant == "corrected":
        return stays["hospital_expire_flag"] == 1
    within = lambda time: stays["admittime"].le(time) & stays["dischtime"].ge(time)
    return within(stays["dod"]) | within(stays["deathtime"])


def readmission(adults: pd.DataFrame, admissions: pd.DataFrame, variant: str) -> pd.Series:
    """Readmission within 30 days or death in hospital, bool, by index of ``adults``, the stays left after step 5."""
    if variant == "released":
        ordered = adults.sort_values(["subject_id", "admittime", "dischtime"])
        gap = ordered.groupby("subject_id")["admittime"].shift(-1) - ordered["dischtime"]
        soon = gap.dt.total_seconds() / 86400 < 30  # False for a subject's last stay, whose gap is missing
        return soon.reindex(adults.index) | mortality(adults, variant)
    pairs = adults[["subject_id", "dischtime"]].reset_index().merge(admissions[["subject_id", "admittime"]], on="subject_id")
    since = pairs["admittime"] - pairs["dischtime"]
    again = pairs["index"][(since >= pd.Timedelta(0)) & (since < pd.Timedelta(days=30))]
    return pd.Series(adults.index.isin(again), index=adults.index) | mortality(adults, variant)


def splits(subject_id: pd.Series, tables: Tables) -> pd.DataFrame:
    """``split`` by hash and ``split_lists`` by the lists of subjects ``(n,)``."""
    name, (test, valid) = f"mimic{tables.edition}", SHARES[tables.edition]
    ids = subject_id.to_numpy().astype(np.int64)
    by_hash = np.where(stable_uniform(0, ids, f"{name} validation") < valid, "valid", "train")
    by_hash = np.where(stable_uniform(0, ids, f"{name} test") < test, "test", by_hash)
    flagged = lambda rows: subject_id.isin(rows["subject_id"][rows["flag"] == 1]).to_numpy()
    by_lists = np.where(flagged(tables.test), "test", np.where(flagged(tables.valid), "valid", "train"))
    return pd.DataFrame({"split": by_hash, "split_lists": by_lists}, index=subject_id.index)
