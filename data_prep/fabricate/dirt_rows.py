"""Errors in ids and times, and duplicate rows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from data_prep.fabricate.dirt import Charted
from data_prep.fabricate.people import HOUR

# real item ids that are not among the 114
OTHERS = {"chart": (113, 3450, 220074, 224700), "lab": (50813, 50912, 51221, 51301), "output": (40055, 40069, 226559, 226560)}
EDGES = {"at_0_h": 0, "at_2_h": 2 * HOUR, "at_48_h": 48 * HOUR, "second_before_0_h": -1, "second_after_48_h": 48 * HOUR + 1}


def soil_rows(charted: Charted, icu: pd.DataFrame, admissions: pd.DataFrame) -> None:
    """Injects wrong and missing ids, other times, other items and duplicates.

    Args:
        charted: the events.
        icu: the stays, as ``Population.icu``.
        admissions: as ``Population.admissions``.
    """
    _duplicates(charted)
    _ids(charted, icu, admissions)
    _times(charted, icu)
    _items(charted)


def _duplicates(charted: Charted) -> None:
    frame, everywhere = charted.frame, np.ones(len(charted.frame), dtype=bool)
    same_item, same_variable = charted.like("itemid"), charted.like("variable")
    column = lambda name, at: frame[name].to_numpy(dtype=object)[at]
    charted.add(charted.pick("exact_duplicate", everywhere, 0.01))
    at = charted.pick("other_value_at_same_time", everywhere, 0.02)
    charted.add(at, value=column("value", same_item[at]), unit=column("unit", same_item[at]))
    one_table = frame["table"].to_numpy() == frame["table"].to_numpy()[same_variable]
    at = charted.pick("other_item_at_same_time", one_table, 0.02)
    other = same_variable[at]
    charted.add(at, value=column("value", other), unit=column("unit", other), itemid=frame["itemid"].to_numpy()[other])
    at = charted.pick("later_in_the_bin", everywhere, 0.02)
    later = frame["charttime"].to_numpy()[at] + 60 * charted.rng.integers(1, 30, size=len(at))
    charted.add(at, charttime=later, value=column("value", same_item[at]), unit=column("unit", same_item[at]))


def _ids(charted: Charted, icu: pd.DataFrame, admissions: pd.DataFrame) -> None:
    frame, rng = charted.frame, charted.rng
    i, everywhere, has_stay = frame["i"].to_numpy(), np.ones(len(frame), dtype=bool), frame["stay_id"].notna().to_numpy()
    charted.put(charted.pick("hadm_missing", everywhere, 0.01), hadm_id=pd.NA)
    unknown = int(max(icu["hadm_id"].max(), admissions["hadm_id"].max())) + 1
    charted.put(charted.pick("hadm_unknown", everywhere, 0.002), hadm_id=unknown)
    at = charted.pick("hadm_of_other_subject", everywhere, 0.003)
    stranger = rng.integers(len(icu), size=len(at))
    differs = icu["subject_id"].to_numpy()[stranger] != frame["subject_id"].to_numpy()[at]
    charted.put(at[differs], hadm_id=icu["hadm_id"].to_numpy()[stranger[differs]])
    visits = pd.concat([icu, admissions])[["subject_id", "hadm_id"]].drop_duplicates()
    next_hadm = visits.groupby("subject_id")["hadm_id"].shift(-1).fillna(visits.groupby("subject_id")["hadm_id"].transform("first"))
    following = dict(zip(visits["hadm_id"].tolist(), next_hadm.astype("int64").tolist(), strict=True))
    other = np.array([following[h] for h in icu["hadm_id"].tolist()])[i]
    at = charted.pick("hadm_of_other_admission", other != icu["hadm_id"].to_numpy()[i], 0.02)
    charted.put(at, hadm_id=other[at])
    charted.put(charted.pick("stay_missing", has_stay, 0.01), stay_id=pd.NA)
    charted.put(charted.pick("stay_unknown", has_stay, 0.002), stay_id=int(icu["stay_id"].max()) + 1)
    at = charted.pick("stay_of_other_subject", has_stay, 0.003)
    charted.put(at, stay_id=np.roll(icu["stay_id"].to_numpy(), 1)[i[at]])
    j = _other_stay(icu)[i]
    at = charted.pick("stay_of_other_admission", has_stay & (j >= 0), 0.02)
    charted.put(at, stay_id=icu["stay_id"].to_numpy()[j[at]])


def _other_stay(icu: pd.DataFrame) -> np.ndarray:
    """Position of the subject's next stay, cyclically; -1 for a subject's only stay."""
    position = pd.Series(np.arange(len(icu)))
    groups = position.groupby(icu["subject_id"].to_numpy())
    other = groups.shift(-1).fillna(groups.transform("first")).to_numpy().astype(np.int64)
    return np.where(other == position, -1, other)


def _times(charted: Charted, icu: pd.DataFrame) -> None:
    frame, rng = charted.frame, charted.rng
    inside = icu["intime"].to_numpy()
    usual = icu["events"].to_numpy()[frame["i"]] == "usual"
    enter = inside[frame["i"]]
    for kind, seconds in EDGES.items():
        at = charted.pick(kind, usual, 0.003)
        charted.put(at, charttime=enter[at] + seconds)
    at = charted.pick("before_entry", usual, 0.01)
    charted.put(at, charttime=enter[at] - 60 * rng.integers(1, 24 * 60, size=len(at)))
    at = charted.pick("after_48_h", usual, 0.02)
    charted.put(at, charttime=enter[at] + 48 * HOUR + 60 * rng.integers(1, 30 * 60, size=len(at)))
    j = _other_stay(icu)[frame["i"]]
    at = charted.pick("in_other_stay", usual & (j >= 0), 0.05)
    charted.put(at, charttime=inside[j[at]] + 60 * rng.integers(0, 48 * 60, size=len(at)))


def _items(charted: Charted) -> None:
    frame, rng = charted.frame, charted.rng
    table = frame["table"].to_numpy()
    for name in ("chart", "lab"):
        at = charted.pick("other_item", table == name, 0.01)
        charted.put(at, itemid=rng.choice(OTHERS[name], len(at)))
    number = pd.to_numeric(frame["value"], errors="coerce").notna().to_numpy()
    # the official table of outputs has numeric values only
    at = charted.pick("charted_as_output", (table == "chart") & number, 0.002)
    charted.put(at, table="output")
    at = charted.pick("output", number & (table == "chart"), 0.02)
    charted.add(
        at, table="output", itemid=rng.choice(OTHERS["output"], len(at)), value=rng.integers(5, 400, len(at)).astype(str), unit="ml"
    )
