"""The meaning of a charted value, implemented a second time and plainly: one text at a time."""

from __future__ import annotations

import math
import re

import numpy as np

from data_prep.fabricate.facts import CHANNELS

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
DECIMAL = re.compile(r"\d+(\.\d*)?|\.\d+")
FAHRENHEIT = (3654, 678, 223761, 679)
OUNCES, POUNDS, INCHES = (3582,), (3581, 226531), (1394,)
KILOGRAM = 0.453592
REFILL = {"Normal <3 secs": "0.0", "Brisk": "0.0", "Abnormal >3 secs": "1.0", "Delayed": "1.0"}
FOREIGN_FLUIDS = (51478, 51491, 51094, 50831)  # urine, and other body fluids
_RANGES = {channel.name: channel.plausible for channel in CHANNELS if channel.plausible}
_CATEGORIES = {channel.name: channel.categories for channel in CHANNELS}


def clean(variable: str, itemid: int, unit: str | None, value: str, variant: str) -> float | str | None:
    """The number or category that a value stands for; None if the value is not used.

    Args:
        variable: one of the 17.
        itemid: item of the event.
        unit: the row's unit as this variant reads it, None if there is none.
        value: as written.
        variant: ``released`` or ``corrected``.
    """
    meant = _meaning(variable, itemid, unit, value, variant)
    if variant == "released" or meant is None:
        return meant
    if itemid in FOREIGN_FLUIDS:
        return None
    low, high = _RANGES.get(variable, (-math.inf, math.inf))
    return meant if isinstance(meant, str) or low <= meant <= high else None


def _meaning(variable: str, itemid: int, unit: str | None, value: str, variant: str) -> float | str | None:
    text, spelled = value.strip(" "), unit or ""
    lower = spelled.lower()
    if variable in ("Systolic blood pressure", "Diastolic blood pressure"):
        parts = text.split("/")
        if len(parts) == 2 and all(number(part) is not None for part in parts):
            return number(parts[variable.startswith("Diastolic")])
        return number(text)
    if variable == "Capillary refill rate":
        return REFILL.get(text)
    if variable == "Glascow coma scale total":
        total = number(text)
        return str(int(total)) if total is not None and total == int(total) and 3 <= total <= 15 else None
    if variable.startswith("Glascow"):
        return text if text in _CATEGORIES[variable] else None
    if variable in ("Glucose", "pH", "Oxygen saturation"):
        if DECIMAL.fullmatch(text) is None or (v := number(text)) is None:
            return None
        return v * 100 if variable == "Oxygen saturation" and v <= 1 else v
    v = number(text)
    if v is None:
        return None
    if variable == "Fraction inspired oxygen":
        return v / 100 if "torr" not in lower and (variant == "released" or v > 1.0) else v
    if variable == "Temperature":
        fahrenheit = v >= 79 or (variant == "corrected" and ("F" in spelled or itemid in FAHRENHEIT))
        return (v - 32) * 5 / 9 if fahrenheit else v
    if variable == "Weight":
        if itemid in OUNCES or "oz" in lower:
            return v / 16 * KILOGRAM
        return v * KILOGRAM if itemid in POUNDS or "lb" in lower else v
    if variable == "Height":
        return float(np.round(v * 2.54)) if itemid in INCHES or "in" in lower else v
    return v


def number(text: str) -> float | None:
    """A plain decimal with optional sign and exponent, if it is finite."""
    if NUMBER.fullmatch(text) is None:
        return None
    value = float(text)
    return value if math.isfinite(value) else None
