"""Events of the cohort and the 24 x 76 matrices, computed again from the rows written."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from data_prep.fabricate.facts import CHANNELS, NAMES, feature_names, item_variables
from data_prep.fabricate.truth.clean import clean

BINS = 24
UNCLEANED = ("Heart Rate", "Mean blood pressure", "Respiratory rate")
"""Variables whose values the released code sorts as text."""


def kept_events(events: pd.DataFrame, adults: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Events of the 114 items that belong to a stay of the cohort.

    Args:
        events: events of the three tables, with ``subject_id``, ``hadm_id``, ``stay_id`` (missing for labs), ``itemid``, ``charttime``,
            ``value`` and ``unit``.
        adults: stays left after step 5.

    Returns:
        The events left, with ``variable``, and ``stay_id`` always that of the admission's stay; and the number dropped for each reason.
    """
    variables = item_variables()
    events = events[events["itemid"].isin(variables)]
    counts = {"events": len(events)}
    drop = {"null_value": events["value"].isna()}
    drop["no_admission_id"] = events["hadm_id"].isna()
    own = adults[["subject_id", "hadm_id", "stay_id"]].rename(columns={"stay_id": "own"})
    own["hadm_id"] = own["hadm_id"].astype("Int64")
    found = events[["subject_id", "hadm_id"]].merge(own, on=["subject_id", "hadm_id"], how="left")["own"].set_axis(events.index)
    drop["admission_not_in_cohort"] = found.isna()
    drop["another_stay"] = (events["stay_id"].notna() & (events["stay_id"] != found)).fillna(False).astype(bool)
    left = pd.Series(True, index=events.index)
    for why, gone in drop.items():
        counts[why] = int((left & gone).sum())
        left &= ~gone
    events = events[left].assign(stay_id=found[left].astype("int64"), hadm_id=events["hadm_id"][left].astype("int64"))
    return events.assign(variable=events["itemid"].map(variables)), counts


def cleaned(events: pd.DataFrame, edition: int, variant: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """Events with ``number``, the cleaned value or the category's rank in code-point order; and the number that became null by variable."""
    unit = events["unit"].astype(object).where(events["unit"].notna(), None)
    if edition == 4 and variant == "released":
        unit = pd.Series(None, index=events.index, dtype=object)
    keys = pd.DataFrame({"itemid": events["itemid"], "unit": unit.fillna(""), "value": events["value"]})
    which, texts = pd.MultiIndex.from_frame(keys).factorize()
    variables = item_variables()
    ranks = {channel.name: {c: float(r) for r, c in enumerate(sorted(channel.categories))} for channel in CHANNELS}
    numbers = np.full(len(texts), np.nan)
    for i, (itemid, of, value) in enumerate(texts.tolist()):
        variable = variables[itemid]
        result = clean(variable, itemid, of or None, value, variant)
        if result is not None:
            numbers[i] = ranks[variable][result] if isinstance(result, str) else result
    number = numbers[which]
    null = np.isnan(number)
    return events.assign(number=number)[~null], dict(Counter(events["variable"][null]))


def in_window(events: pd.DataFrame, stays: pd.DataFrame, variant: str) -> pd.DataFrame:
    """Events of each stay in its first 48 hours: ``stay_id``, ``variable``, ``charttime``, ``hours``, ``number``, ``order``.

    Corrected, its heights and weights of the day before entry have hour 0. Of events at one time the last in ``order`` counts.
    """
    times = stays[["subject_id", "stay_id", "intime", "outtime"]].rename(columns={"stay_id": "at"})
    pairs = events.merge(times, on="subject_id")
    inside = (pairs["intime"] <= pairs["charttime"]) & (pairs["charttime"] <= pairs["outtime"])
    own = pairs["stay_id"] == pairs["at"]
    hours = (pairs["charttime"] - pairs["intime"]).dt.total_seconds() / 3600
    if variant == "corrected":
        hours = hours.mask(own & pairs["variable"].isin(("Height", "Weight")) & (hours < 0) & (hours >= -24), 0.0)
    pairs = pairs.assign(stay_id=pairs["at"], hours=hours)[(own | inside) & (hours > -1e-6) & (hours < 48 + 1e-6)]
    words = (variant == "released") & pairs["variable"].isin(UNCLEANED)
    by_text = pairs["value"].str.strip(" ").where(words, "").rank(method="dense")  # of texts in the order of their code points
    ordered = pairs.assign(by_text=by_text).sort_values(["charttime", "by_text", "number"], ignore_index=True)
    return ordered.assign(order=np.arange(len(ordered)))[["stay_id", "variable", "charttime", "hours", "number", "order"]]


def matrices(window: pd.DataFrame, stay_ids: np.ndarray) -> np.ndarray:
    """Matrices ``(n, 24, 76)`` float64, not standardised, of the stays ``stay_ids`` ``(n,)`` in that order."""
    window = window[window["stay_id"].isin(stay_ids)]
    window = window.assign(bin=(window["hours"] / 2 - 1e-6).astype(np.int64))  # towards zero
    # the latest time in a bin, and the last value at that time
    last = window.sort_values("order").drop_duplicates(["stay_id", "variable", "bin"], keep="last")
    row = pd.Series(np.arange(len(stay_ids)), index=stay_ids)
    seen = np.full((len(stay_ids), BINS, len(CHANNELS)), np.nan)
    channel = last["variable"].map({name: c for c, name in enumerate(NAMES)}).to_numpy()
    seen[row[last["stay_id"]].to_numpy(), last["bin"].to_numpy(), channel] = last["number"].to_numpy()
    mask = ~np.isnan(seen)
    result = np.zeros((len(stay_ids), BINS, len(feature_names())))
    result[:, :, -len(CHANNELS) :] = mask
    column = 0
    for c, one in enumerate(CHANNELS):
        ranked = sorted(one.categories)
        held = np.full(len(stay_ids), float(ranked.index(one.categories[int(one.normal)])) if ranked else float(one.normal))
        for step in range(BINS):
            held = np.where(mask[:, step, c], seen[:, step, c], held)
            if ranked:
                position = np.array([one.categories.index(text) for text in ranked])[held.astype(np.int64)]
                result[np.arange(len(held)), step, column + position] = 1
            else:
                result[:, step, column] = held
        column += max(1, len(ranked))
    return result


def statistics(series: np.ndarray, fits: np.ndarray, variant: str) -> dict[str, list[float]]:
    """Mean and standard deviation of the 12 continuous columns over the stays ``fits`` ``(n,)`` bool and all bins."""
    names = feature_names()
    numeric = [channel for channel in CHANNELS if channel.plausible]
    columns = [names.index(channel.name) for channel in numeric]
    widths = np.array([channel.plausible[1] - channel.plausible[0] for channel in numeric if channel.plausible])
    values = series[fits][:, :, columns].reshape(-1, len(columns))
    std = np.maximum(values.std(axis=0, ddof=1), 1e-7 if variant == "released" else widths / 100)
    return {"mean": values.mean(axis=0).tolist(), "std": std.tolist()}
