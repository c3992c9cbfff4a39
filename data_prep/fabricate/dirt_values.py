"""Errors in values and units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cm2.progress import Progress
from data_prep.fabricate.dirt import Charted
from data_prep.fabricate.facts import CATEGORICAL, items

WORDS = ("error", "see note", "UNABLE TO OBTAIN", "NA", "null", ">200", "98%", "1,000", "___", "--")
NOT_FINITE = ("nan", "NaN", "inf", "-inf", "1e400")
PRESSURES = ("Systolic blood pressure", "Diastolic blood pressure")
STRICT = ("Glucose", "pH", "Oxygen saturation")
SCALE = "Glascow coma scale total"
BROKEN_SLASH = ("120/", "/80", "120/80/60", "120/abc", "1 20/80")

Texts = np.ndarray
# values and units of the chosen events, to be changed in place
Change = Callable[[Texts, Texts, np.random.Generator], None]


@dataclass(frozen=True)
class Soil:
    """One kind of error: the fraction of events it affects, the change, and the variables, items and item units it is limited to."""

    kind: str
    share: float
    change: Change
    variables: tuple[str, ...] = ()
    items: tuple[int, ...] = ()
    unit: str = ""
    numbers: bool = False


def soil_values(charted: Charted) -> None:
    """Injects every kind of error that a value or its unit can have."""
    implied = dict(zip(items()["itemid"].tolist(), items()["unit"], strict=True))
    frame = charted.frame
    variable, itemid = frame["variable"].to_numpy(dtype=object), frame["itemid"].to_numpy()
    unit_of_item = np.array([implied.get(item, "") for item in itemid.tolist()], dtype=object)
    numeric = ~np.isin(variable, CATEGORICAL)
    clean = (frame["value"] != "not charted").to_numpy()
    with Progress("", len(SOILS), "kind") as progress:
        for soil in progress.each(SOILS):
            where = clean & (numeric if soil.numbers else True)
            if soil.variables:
                where &= np.isin(variable, soil.variables)
            if soil.items:
                where &= np.isin(itemid, soil.items)
            if soil.unit:
                where &= unit_of_item == soil.unit
            at = charted.pick(soil.kind, where, soil.share)
            value, unit = (frame[column].to_numpy(dtype=object)[at] for column in ("value", "unit"))
            soil.change(value, unit, charted.rng)
            charted.put(at, value=value, unit=unit)


def _one_of(*options: str | None, unit: tuple[str | None, ...] = ()) -> Change:
    def change(value: Texts, units: Texts, rng: np.random.Generator) -> None:
        value[:] = np.array(options, dtype=object)[rng.integers(len(options), size=len(value))]
        if unit:
            units[:] = np.array(unit, dtype=object)[rng.integers(len(unit), size=len(value))]

    return change


def _units(*options: str | None) -> Change:
    def change(value: Texts, units: Texts, rng: np.random.Generator) -> None:
        units[:] = np.array(options, dtype=object)[rng.integers(len(options), size=len(value))]

    return change


def _each(*forms: Callable[[str], str | None], units: tuple[str | None, ...] = ()) -> Change:
    def change(value: Texts, unit: Texts, rng: np.random.Generator) -> None:
        which = rng.integers(len(forms), size=len(value))
        value[:] = [forms[w](text) for w, text in zip(which, value, strict=True)]
        if units:
            unit[:] = np.array(units, dtype=object)[rng.integers(len(units), size=len(value))]

    return change


def _slash(value: Texts, unit: Texts, rng: np.random.Generator) -> None:
    # whether the first or the second number counts depends on the item
    value[:] = [f"{v}/{round(0.65 * float(v))}" if float(v) > 85 else f"{round(1.6 * float(v))}/{v}" for v in value]


def _scaled(factor: float, decimals: int, offset: float = 0.0) -> Callable[[str], str]:
    return lambda text: f"{float(text) * factor + offset:.{decimals}f}"


_tens = lambda text: f"{float(text) / 10:.4g}e1"

SOILS = (
    Soil("fahrenheit_on_celsius_item", 0.08, _each(_scaled(1.8, 1, 32), units=("Deg. F", "°C", None)), ("Temperature",), unit="C"),
    Soil("celsius_on_fahrenheit_item", 0.01, _each(_scaled(1 / 1.8, 1, -32 / 1.8)), ("Temperature",), unit="F"),
    Soil("cold_fahrenheit_on_celsius_item", 0.03, _one_of("71.2", "76", "78.9", unit=("Deg. F", "°F")), ("Temperature",), unit="C"),
    Soil("small_f_in_unit", 0.02, _one_of("71.2", "76", "78.9", unit=("deg. f", "f")), ("Temperature",), unit="C"),
    Soil("temperature_at_79", 0.02, _one_of("79", "79.0", "78.9", unit=("°C", None)), ("Temperature",), unit="C"),
    Soil("pounds_on_kilogram_item", 0.04, _each(_scaled(1 / 0.453592, 1), units=("lb", "LBS", "Lbs.")), ("Weight",), unit="kg"),
    Soil("ounces_on_kilogram_item", 0.01, _each(_scaled(16 / 0.453592, 0), units=("oz", "OZ", "Oz.")), ("Weight",), unit="kg"),
    Soil("weight_or_height_without_unit", 0.1, _units(None), ("Weight", "Height")),
    Soil("inches_on_centimetre_item", 0.1, _each(_scaled(1 / 2.54, 0), units=("in", "INCH", "Inches")), ("Height",), unit="cm"),
    Soil("centimetres_on_inch_item", 0.1, _each(_scaled(2.54, 0), units=("cm",)), ("Height",), (226707,)),
    Soil("height_at_a_half", 0.1, _one_of("75", "75.0", "25", unit=("Inch",)), ("Height",), unit="in"),
    Soil("fraction_on_percent_item", 0.15, _each(_scaled(0.01, 2), units=("%", None)), ("Fraction inspired oxygen",), (3420, 223835, 3422)),
    Soil("percent_on_fraction_item", 0.15, _each(_scaled(100, 0)), ("Fraction inspired oxygen",), (189, 727)),
    Soil("fio2_torr", 0.04, _units("torr", "Torr", "mmTORR"), ("Fraction inspired oxygen",)),
    Soil("fio2_at_one", 0.03, _one_of("1", "1.0", ".5", "1.01", unit=(None, "%")), ("Fraction inspired oxygen",)),
    Soil("saturation_as_fraction", 0.03, _one_of("0.97", ".95", "1", "1.0", "0.9"), ("Oxygen saturation",)),
    Soil("pressure_with_slash", 0.03, _slash, PRESSURES),
    Soil("broken_slash", 0.004, _one_of(*BROKEN_SLASH), PRESSURES),
    Soil("slash_on_mean_pressure", 0.004, _one_of("120/80"), ("Mean blood pressure",)),
    Soil("scale_as_decimal", 0.05, _each(lambda v: f"{v}.0", lambda v: f"0{v}", _tens), (SCALE,)),
    Soil("scale_out_of_range", 0.03, _one_of("2", "16", "12.5", "-3", "0", "15T"), (SCALE,)),
    Soil("other_form_of_number", 0.006, _each(_tens, lambda v: f"+{v}", lambda v: f"0{v}"), numbers=True),
    Soil("bare_point", 0.02, _each(lambda v: f"{float(v):.0f}."), (*STRICT[::2], "Heart Rate")),
    Soil("negative_number", 0.002, _each(lambda v: f"-{v}"), (*STRICT, "Heart Rate")),
    Soil("text_in_number", 0.006, _one_of(*WORDS), numbers=True),
    Soil("not_finite", 0.001, _one_of(*NOT_FINITE), numbers=True),
    Soil(
        "unknown_category",
        0.01,
        _each(str.upper, lambda _: "Other/Remarks", lambda v: f"{v}!"),
        tuple(n for n in CATEGORICAL if n != SCALE),
    ),
    Soil("blanks_at_ends", 0.01, _each(lambda v: f"  {v}", lambda v: f"{v} ", lambda v: f" {v}  ")),
    Soil("blank_value", 0.001, _one_of(" ", "   ")),
    Soil("null_value", 0.006, _one_of(None)),
)
