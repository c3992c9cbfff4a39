"""The 25 acute care phenotypes of the MIMIC benchmarks, from the diagnoses of a hospital admission.

A phenotype is a category of the Clinical Classifications Software (CCS) of the Healthcare Cost and Utilization Project for ICD-9-CM, single
level, 2015 (Agency for Healthcare Research and Quality, public domain). Harutyunyan et al. (Scientific Data 2019, table 3) chose the 25.
``phenotypes.csv`` has their codes: each entry stands for all codes that begin with it, or with ``=`` at its end for that code alone, such
that of the 15,072 codes that CCS lists the same ones belong to the category.

CCS for ICD-9-CM does not classify codes of ICD-10-CM, which MIMIC-IV has of its later admissions, and the labels of an admission
with such a code are unknown: general equivalence mappings lead from one ICD-9 code to many, or to none, and CCS for ICD-10-CM draws the
categories in other places.

Diagnoses are coded after discharge, for billing, and are those of the whole admission: they may be older than the ICU stay, or newer than
the 48 hours that are read.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cm2.tasks import Multilabel

NAME = "phenotyping"
TABLE = Path(__file__).with_name("phenotypes.csv")
UNKNOWN = -1


@cache
def definitions() -> pd.DataFrame:
    """The phenotypes: ``ccs``, number of the category; ``kind``, ``acute`` or ``chronic``; ``phenotype``; ``icd9``, its codes."""
    frame = pd.read_csv(TABLE, dtype={"icd9": str})
    return frame.assign(icd9=frame["icd9"].str.split())


@cache
def task() -> Multilabel:
    """The task of a prepared cohort."""
    description = "25 acute care phenotypes: CCS categories of the ICD-9 diagnoses of the hospital admission (Harutyunyan et al. 2019)"
    return Multilabel(NAME, description, labels=tuple(definitions()["phenotype"]))


def phenotypes_of(codes: pd.Series) -> NDArray:
    """Which codes of ICD-9-CM, without a point, belong to which phenotypes: bool ``(n, 25)``."""
    text = codes.astype(str).str.strip().str.upper().str.replace(".", "", regex=False)
    belongs = np.zeros((len(text), len(definitions())), dtype=bool)
    for at, entries in enumerate(definitions()["icd9"]):
        begins = tuple(entry for entry in entries if not entry.endswith("="))
        alone = [entry.rstrip("=") for entry in entries if entry.endswith("=")]
        belongs[:, at] = text.str.startswith(begins) | text.isin(alone)
    return belongs


def phenotypes(stays: pd.DataFrame, diagnoses: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Labels of stays, and how many of them are unknown and why.

    Args:
        stays: n stays with ``hadm_id``.
        diagnoses: listed diagnoses, ``hadm_id`` and ``icd9_code``, or ``icd_code`` and ``icd_version``.

    Returns:
        The task's columns for the n stays, -1 where unknown; stays ``known``, with codes ``of_icd10``, and ``without_diagnosis``.
    """
    code = "icd9_code" if "icd9_code" in diagnoses else "icd_code"
    old = pd.Series(True, index=diagnoses.index)
    if code == "icd_code":
        old = pd.to_numeric(diagnoses["icd_version"], errors="coerce") == 9
    coded, other = diagnoses[old], set(diagnoses.loc[~old, "hadm_id"])
    found = pd.DataFrame(phenotypes_of(coded[code]), columns=list(task().columns))
    by_admission = found.groupby(coded["hadm_id"].to_numpy()).any()
    labels = by_admission.reindex(stays["hadm_id"]).astype("float64").fillna(UNKNOWN).astype("int8").set_index(stays.index)
    mixed, lacking = stays["hadm_id"].isin(other).to_numpy(), ~stays["hadm_id"].isin(diagnoses["hadm_id"]).to_numpy()
    labels[mixed] = UNKNOWN
    known = int((~mixed & ~lacking).sum())
    return labels, {"known": known, "of_icd10": int(mixed.sum()), "without_diagnosis": int(lacking.sum())}
