"""Dictionaries of items and diagnoses, and the diagnoses of the admissions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from data_prep.fabricate.dirt_rows import OTHERS
from data_prep.fabricate.facts import items
from data_prep.fabricate.people import CODES9, CODES10


def chart_items() -> pd.DataFrame:
    """Items of charts and outputs: ``itemid``, ``label``, ``source``, ``linksto``, ``unit``."""
    known = items()[items()["source"] != "lab"]
    frame = pd.DataFrame(
        {
            "itemid": known["itemid"],
            "label": known["variable"].str.lower() + " " + known["itemid"].astype(str),
            "source": known["source"],
            "linksto": "chartevents",
            "unit": known["unit"].replace("", None),
        }
    )
    others = [(item, f"other item {item}", "chartevents") for item in OTHERS["chart"]]
    others += [(item, f"output, item {item}", "outputevents") for item in OTHERS["output"]]
    rows = [
        {"itemid": item, "label": label, "linksto": table, "source": "carevue" if item < 220_000 else "metavision"}
        for item, label, table in others
    ]
    return pd.concat([frame, pd.DataFrame(rows)]).sort_values("itemid", ignore_index=True)


def lab_items() -> pd.DataFrame:
    """Items of the laboratory: ``itemid``, ``label``, ``fluid``, ``category``."""
    known = items()[items()["source"] == "lab"]
    names = dict(zip(known["itemid"].tolist(), known["variable"], strict=True)) | {item: f"Other, {item}" for item in OTHERS["lab"]}
    frame = pd.DataFrame({"itemid": list(names), "label": list(names.values()), "fluid": "Blood", "category": "Chemistry"})
    return frame.sort_values("itemid", ignore_index=True)


def diagnosis_codes(edition: int) -> pd.DataFrame:
    """The listed codes: ``icd_code``, ``icd_version``, ``title``."""
    rows = [(code, 9) for code in CODES9] + ([(code, 10) for code in CODES10] if edition == 4 else [])
    frame = pd.DataFrame(rows, columns=["icd_code", "icd_version"])
    return frame.assign(title=[f'Made-up title, "{code}", of version {version}' for code, version in rows])


def diagnoses(rows: list[dict[str, Any]], rng: np.random.Generator) -> pd.DataFrame:
    """Diagnoses of the admissions in random order: ``subject_id``, ``hadm_id``, ``seq_num``, ``icd_code``, ``icd_version``."""
    frame = pd.DataFrame(rows)
    return frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)
