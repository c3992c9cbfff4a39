"""Tasks, and labels of the first two, which use only times of admission, discharge and death; no feature is computed from these."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cm2.tasks import Task
from data_prep.mimic import phenotypes
from data_prep.mimic.quirks import Quirks

READMISSION = pd.Timedelta(days=30)
TASKS: dict[str, str | Task] = {
    "in_hospital_mortality": "death in hospital",
    "readmission": "readmission within 30 days of discharge, or death in hospital",
    phenotypes.NAME: phenotypes.task(),
}


def in_hospital_mortality(stays: pd.DataFrame, quirks: Quirks) -> np.ndarray:
    """``(n,)`` int64, 1 where the patient died in hospital.

    The hospital's own flag; with ``death_by_date`` a time or date of death between admission and discharge, as in the benchmark.
    """
    if not quirks.death_by_date:
        return (stays["hospital_expire_flag"] == 1).to_numpy().astype(np.int64)
    within = [(stays[time] >= stays["admittime"]) & (stays[time] <= stays["dischtime"]) for time in ("dod", "deathtime")]
    return (within[0] | within[1]).to_numpy().astype(np.int64)


def readmission(stays: pd.DataFrame, mortality: np.ndarray, hospital: pd.DataFrame, quirks: Quirks) -> np.ndarray:
    """``(n,)`` int64, 1 where the patient came back within 30 days of discharge or died in hospital (paper, section 4.1).

    Args:
        stays: n stays with ``subject_id``, ``admittime`` and ``dischtime``, every one that passed the first five steps.
        mortality: their labels ``(n,)``.
        hospital: every admission.
        quirks: with ``readmission_inside_cohort`` only the subject's next stay in ``stays`` counts, in whole days.
    """
    came_back = _next_stay(stays) if quirks.readmission_inside_cohort else _next_admission(stays, hospital)
    return (came_back | (mortality == 1)).astype(np.int64)


def _next_stay(stays: pd.DataFrame) -> np.ndarray:
    ordered = stays.sort_values(["subject_id", "admittime", "dischtime"], kind="stable")
    days = (ordered.groupby("subject_id")["admittime"].shift(-1) - ordered["dischtime"]).dt.days
    return (days < READMISSION.days).reindex(stays.index).to_numpy()


def _next_admission(stays: pd.DataFrame, hospital: pd.DataFrame) -> np.ndarray:
    times = stays[["subject_id", "dischtime"]].assign(row=np.arange(len(stays)))
    pairs = times.merge(hospital[["subject_id", "admittime"]], on="subject_id")
    back = (pairs["admittime"] >= pairs["dischtime"]) & (pairs["admittime"] < pairs["dischtime"] + READMISSION)
    return np.isin(np.arange(len(stays)), pairs.loc[back, "row"].unique())
