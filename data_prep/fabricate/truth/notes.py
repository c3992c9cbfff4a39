"""The notes of each stay and their cleaned texts, computed again from the rows written (MIMIC-III)."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from data_prep.fabricate.files import UNREADABLE

USED = 5
HIDDEN = re.compile(r"\[\*\*.*?\*\*\]", re.DOTALL)
SIGNATURE = re.compile(r"electronically signed|dictated by|transcribed by", re.IGNORECASE)


def clean_note(text: str) -> str:
    """A note in lower case, without de-identification placeholders, underscores and the text after its signature."""
    text = HIDDEN.sub(" ", text).replace("_", " ")
    return " ".join(SIGNATURE.split(text, maxsplit=1)[0].split()).lower()


def readable_notes(notes: pd.DataFrame) -> pd.DataFrame:
    """Notes with a readable text, with ``clean``: the cleaned text."""
    notes = notes.dropna(subset=["text"])
    notes = notes[~notes["text"].str.contains(UNREADABLE, regex=False)]
    return notes.assign(clean=[clean_note(text) for text in notes["text"]]).sort_values(["charttime", "row_id"])


def used_notes(notes: pd.DataFrame, stays: pd.DataFrame, events: pd.DataFrame, variant: str) -> dict[int, list[int]]:
    """The five ROW_IDs of every stay that has notes.

    Args:
        notes: as returned by ``readable_notes``.
        stays: ``stay_id``, ``hadm_id``, ``intime``.
        events: as returned by ``kept_events``, before cleaning.
        variant: ``released`` or ``corrected``.
    """
    notes = notes.dropna(subset=["subject_id", "hadm_id", "charttime"])
    notes = notes.merge(stays[["stay_id", "hadm_id", "intime"]], on="hadm_id").sort_values(["charttime", "row_id"])
    if variant == "released":
        notes = notes.drop_duplicates(["stay_id", "charttime"], keep="last")
        first = _first_event(stays, events)
        since: pd.Series[pd.Timedelta] = notes["charttime"] - notes["stay_id"].map(first)
        notes = notes[np.floor(since / pd.Timedelta(hours=1)) <= 48]
    else:
        notes = notes[(notes["iserror"] != "1") & (notes["charttime"] <= notes["intime"] + pd.Timedelta(hours=48))]
    notes = notes[notes["clean"] != ""]
    least = USED + 1 if variant == "released" else USED
    rows = {int(str(stay)): group["row_id"].tolist() for stay, group in notes.groupby("stay_id")}
    return {stay: ids[-USED:] for stay, ids in rows.items() if len(ids) >= least}


def _first_event(stays: pd.DataFrame, events: pd.DataFrame) -> pd.Series:
    timed = events[["hadm_id", "charttime"]].merge(stays[["stay_id", "hadm_id", "intime"]], on="hadm_id")
    since: pd.Series[pd.Timedelta] = timed["charttime"] - timed["intime"]
    return timed[np.floor(since / pd.Timedelta(hours=1)) > 0].groupby("stay_id")["charttime"].min()
