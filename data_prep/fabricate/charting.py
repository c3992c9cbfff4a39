"""From the simulator's series to charted events: items of both charting systems, units, and values as text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from data_prep.fabricate.facts import CHANNELS, GCS_CAREVUE, NAMES, items
from data_prep.fabricate.people import HOUR
from data_prep.synthetic.law import MODALITIES, make_law
from data_prep.synthetic.outcomes import calibrate, draw_outcomes
from data_prep.synthetic.series import draw_series

STEP = 2 * HOUR
FROM_LAB = {"Glucose": 0.4, "pH": 0.6, "Oxygen saturation": 0.06}
# chart items whose numbers are fractions; the other chart items of the variable are percentages
FIO2_FRACTIONS = (189, 727)
DECIMALS = {"pH": 2, "Temperature": 1, "Weight": 1}
UNITS = {
    "Glucose": "mg/dL",
    "Heart Rate": "bpm",
    "Oxygen saturation": "%",
    "Respiratory rate": "insp/min",
    "pH": "units",
    **dict.fromkeys(("Diastolic blood pressure", "Mean blood pressure", "Systolic blood pressure"), "mmHg"),
}
# by variable and the unit implied by an item id: conversion from the simulator's unit, decimals, spelling
BY_ITEM: dict[tuple[str, str], tuple[Callable[[np.ndarray], np.ndarray], int, str]] = {
    ("Temperature", "C"): (lambda v: v, 1, "°C"),
    ("Temperature", "F"): (lambda v: v * 1.8 + 32, 1, "Deg. F"),
    ("Weight", "kg"): (lambda v: v, 1, "kg"),
    ("Weight", "lb"): (lambda v: v / 0.453592, 1, "lbs"),
    ("Weight", "oz"): (lambda v: v / 0.453592 * 16, 0, "oz"),
    ("Height", "cm"): (lambda v: v, 0, "cm"),
    ("Height", "in"): (lambda v: v / 2.54, 0, "Inch"),
}
CAPILLARY = (("Normal <3 secs", "Brisk"), ("Abnormal >3 secs", "Delayed"))
NO_RESPONSE_ETT = 0.3


def simulate(stays: int, seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Draws from the simulator's distribution.

    Returns:
        Factors ``(stays, 3, d)``, series ``(stays, 24, 76)`` and outcomes by task ``(stays,)``.
    """
    law = make_law()
    x = law.factors(law.draw(stays, int(np.random.SeedSequence((seed, 0)).generate_state(1)[0])))
    series = draw_series(x[:, MODALITIES.index("series")], np.random.default_rng((seed, 1)))
    return x, series, draw_outcomes(x, calibrate(x), np.random.default_rng((seed, 2)))


def chart(series: np.ndarray, icu: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Charted events of each stay, without errors.

    Args:
        series: ``(n, 24, 76)`` of the simulator; values were charted where the mask is 1.
        icu: n stays, as ``Population.icu``.
        rng: generator of times, items and spellings.

    Returns:
        One row per event: ``table`` (chart, lab), ``subject_id``, ``hadm_id``, ``stay_id`` (missing for labs), ``itemid``, ``variable``,
        ``charttime`` (seconds since 1970), ``value`` and ``unit`` (text or None), and ``i``, the position of the stay.
    """
    stay, step, channel = np.nonzero(series[:, :, -len(CHANNELS) :] == 1)
    source = _sources(icu["system"].to_numpy(dtype=object)[stay], channel, rng)
    seconds = step * STEP + 60 * rng.integers(1, STEP // 60 + 1, size=len(step))
    itemid, value, unit = (
        np.zeros(len(step), dtype=np.int64),
        np.full(len(step), None, dtype=object),
        np.full(len(step), None, dtype=object),
    )
    offset = 0
    for c, one in enumerate(CHANNELS):
        width = max(1, len(one.categories))
        of = np.nonzero(channel == c)[0]
        drawn = series[stay[of], step[of], offset : offset + width]
        known = items()[items()["variable"] == one.name]
        for label in ("lab", "carevue", "metavision"):
            here = source[of] == label
            options = known[known["source"] == label]
            if here.any() and len(options):
                row = rng.integers(len(options), size=int(here.sum()))
                at = of[here]
                itemid[at] = options["itemid"].to_numpy()[row]
                implied = options["unit"].to_numpy(dtype=object)[row]
                value[at], unit[at] = _spell(one.name, one.categories, drawn[here], label, itemid[at], implied, rng)
        offset += width
    frame = pd.DataFrame(
        {
            "table": np.where(source == "lab", "lab", "chart"),
            **{key: icu[key].to_numpy()[stay] for key in ("subject_id", "hadm_id", "stay_id")},
            "itemid": itemid,
            "variable": np.array(NAMES, dtype=object)[channel],
            "charttime": icu["intime"].to_numpy()[stay] + seconds,
            "value": value,
            "unit": unit,
            "i": stay,
        }
    )
    frame["stay_id"] = frame["stay_id"].astype("Int64").mask(frame["table"] == "lab")
    frame["hadm_id"] = frame["hadm_id"].astype("Int64")
    frame = frame[itemid > 0]  # MetaVision charts neither capillary refill nor the total of the coma scale
    return _plan(frame, icu, rng).reset_index(drop=True)


def _sources(system: np.ndarray, channel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    either = np.array(["carevue", "metavision"], dtype=object)[rng.integers(2, size=len(system))]
    source = np.where(system == "both", either, system)
    chance = np.array([FROM_LAB.get(name, 0.0) for name in NAMES])[channel]
    return np.where(rng.random(len(system)) < chance, "lab", source)


def _spell(
    name: str,
    categories: tuple[str, ...],
    drawn: np.ndarray,
    source: str,
    itemid: np.ndarray,
    implied: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    unit = np.full(len(drawn), UNITS.get(name), dtype=object)
    if categories:
        position = drawn.argmax(axis=1)
        if name == "Capillary refill rate":
            words = np.array(CAPILLARY, dtype=object)
            return words[position, rng.integers(2, size=len(position))], unit
        text = np.array(categories, dtype=object)[position]
        if name == "Glascow coma scale verbal response":
            text[(text == "No Response") & (rng.random(len(text)) < NO_RESPONSE_ETT)] = "No Response-ETT"
        spelling = GCS_CAREVUE.get(name, {}) if source == "carevue" else {}
        return np.array([spelling.get(t, t) for t in text], dtype=object), unit
    number = drawn[:, 0].astype(np.float64)
    if name == "Fraction inspired oxygen":
        fraction = np.isin(itemid, FIO2_FRACTIONS)
        unit[~fraction & (rng.random(len(unit)) < 0.5)] = "%"
        return np.where(fraction, _text(number, 2), _text(100 * number, 0)), unit
    text = _text(number, DECIMALS.get(name, 0))
    for label in sorted(set(implied) - {""}):
        convert, decimals, spelled = BY_ITEM[name, label]
        here = implied == label
        text[here], unit[here] = _text(convert(number[here]), decimals), spelled
    return text, unit


def _text(number: np.ndarray, decimals: int) -> np.ndarray:
    # rounded as decimal text: parsing it gives exactly this number
    return np.array([f"{v:.{decimals}f}" for v in number], dtype=object)


def _plan(frame: pd.DataFrame, icu: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Moves, drops and spoils events as the scenario of each stay demands, see ``people.Icu.events``."""
    of = lambda column: icu[column].to_numpy()[frame["i"]]
    frame = frame[frame["charttime"] - of("intime") <= of("seconds")]  # patients who leave early are not charted afterwards
    plan, inside = of("events").astype(object), of("intime")
    since = frame["charttime"].to_numpy() - inside
    early = np.isin(plan, ("first hour", "gap")) & (since <= 6 * HOUR)
    since = np.where(early, 60 * rng.integers(1, 60, size=len(since)), since) + (plan == "late") * (48 * HOUR + 60)
    kept = (plan != "none") & ~((plan == "first hour") & ~early) & ~((plan == "gap") & ~early & (since <= 20 * HOUR))
    value = np.where(plan == "unclean", "not charted", frame["value"].to_numpy(dtype=object))
    return frame.assign(charttime=inside + since, value=value)[kept]
