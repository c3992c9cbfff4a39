"""The 37 charted variables and the descriptors of the PhysioNet/CinC Challenge 2012: units, plausible ranges, transforms.

Names, meanings and units are those of the challenge's page (Silva et al., Computing in Cardiology 2012;39:245-248). A range is what a
living adult's device or laboratory can show, with room to spare: it is there to catch a pH of 735, a temperature of -17.8 °C (0 °F)
and a disconnected arterial line, not to trim tails. What lies outside becomes missing and is counted; nothing is clipped.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """One charted variable.

    Args:
        name: the challenge's parameter name.
        modality: ``bedside`` or ``laboratory``.
        meaning: in words.
        unit: of the value; "1" for a number without one.
        low: smallest plausible value.
        high: largest plausible value.
        log: whether log(1 + value) is taken before standardising, for values skewed over orders of magnitude.
        bin: how several values of one bin become one: ``last`` or ``sum``.
        fill: value before the first charting, left unstandardised; None: the training split's mean.
    """

    name: str
    modality: str
    meaning: str
    unit: str
    low: float
    high: float
    log: bool = False
    bin: str = "last"
    fill: float | None = None


def _bedside(
    name: str, meaning: str, unit: str, low: float, high: float, log: bool = False, bin: str = "last", fill: float | None = None
) -> Variable:
    return Variable(name, "bedside", meaning, unit, low, high, log, bin, fill)


def _laboratory(name: str, meaning: str, unit: str, low: float, high: float, log: bool = False) -> Variable:
    return Variable(name, "laboratory", meaning, unit, low, high, log)


VARIABLES = (
    _bedside("HR", "heart rate", "1/min", 10, 300),
    _bedside("SysABP", "invasive systolic arterial pressure", "mmHg", 20, 300),
    _bedside("DiasABP", "invasive diastolic arterial pressure", "mmHg", 5, 200),
    _bedside("MAP", "invasive mean arterial pressure", "mmHg", 15, 250),
    _bedside("NISysABP", "non-invasive systolic arterial pressure", "mmHg", 20, 300),
    _bedside("NIDiasABP", "non-invasive diastolic arterial pressure", "mmHg", 5, 200),
    _bedside("NIMAP", "non-invasive mean arterial pressure", "mmHg", 15, 250),
    _bedside("RespRate", "respiratory rate", "1/min", 1, 80),
    _bedside("Temp", "temperature", "°C", 25, 45),
    _bedside("GCS", "Glasgow coma scale", "1", 3, 15),
    _bedside("Urine", "urine output, summed over the bin", "mL", 0, 5000, log=True, bin="sum"),
    _bedside("MechVent", "mechanical ventilation", "1", 0, 1, fill=0.0),
    _bedside("FiO2", "fraction of inspired oxygen", "1", 0.21, 1),
    _bedside("Weight", "weight", "kg", 20, 300),
    _laboratory("Albumin", "albumin", "g/dL", 0.5, 8),
    _laboratory("ALP", "alkaline phosphatase", "IU/L", 1, 10000, log=True),
    _laboratory("ALT", "alanine transaminase", "IU/L", 1, 50000, log=True),
    _laboratory("AST", "aspartate transaminase", "IU/L", 1, 50000, log=True),
    _laboratory("Bilirubin", "bilirubin", "mg/dL", 0, 100, log=True),
    _laboratory("BUN", "blood urea nitrogen", "mg/dL", 0, 300, log=True),
    _laboratory("Cholesterol", "cholesterol", "mg/dL", 10, 1000),
    _laboratory("Creatinine", "creatinine", "mg/dL", 0, 50, log=True),
    _laboratory("Glucose", "glucose", "mg/dL", 5, 2000, log=True),
    _laboratory("HCO3", "bicarbonate", "mmol/L", 2, 70),
    _laboratory("HCT", "haematocrit", "%", 5, 75),
    _laboratory("K", "potassium", "mmol/L", 1, 15),
    _laboratory("Lactate", "lactate", "mmol/L", 0, 50, log=True),
    _laboratory("Mg", "magnesium", "mmol/L", 0.1, 12),
    _laboratory("Na", "sodium", "mmol/L", 80, 200),
    _laboratory("PaCO2", "arterial partial pressure of carbon dioxide", "mmHg", 5, 200),
    _laboratory("PaO2", "arterial partial pressure of oxygen", "mmHg", 15, 700, log=True),
    _laboratory("pH", "arterial pH", "1", 6.5, 8),
    _laboratory("Platelets", "platelets", "1000/µL", 1, 3000, log=True),
    _laboratory("SaO2", "arterial oxygen saturation", "%", 20, 100),
    _laboratory("TroponinI", "troponin I", "µg/L", 0, 200, log=True),
    _laboratory("TroponinT", "troponin T", "µg/L", 0, 100, log=True),
    _laboratory("WBC", "white blood cells", "1000/µL", 0, 1000, log=True),
)

DESCRIPTORS = ("RecordID", "Age", "Gender", "Height", "ICUType", "Weight")
PLAUSIBLE_DESCRIPTORS = {"Age": (15, 120), "Gender": (0, 1), "Height": (120, 230), "ICUType": (1, 4), "Weight": (20, 300)}
UNITS = {1: "coronary care unit", 2: "cardiac surgery recovery unit", 3: "medical intensive care unit", 4: "surgical intensive care unit"}
