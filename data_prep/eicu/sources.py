"""Tables of the eICU Collaborative Research Database v2.0 (and its demo, v2.0.1), and which of their columns and rows are which channel.

Pollard et al., Scientific Data 2018;5:180178. Files have the names and columns of the demo; times are minutes after entry to the unit.
"""

from __future__ import annotations

from data_prep.mimic.raw import Release

EICU = Release(
    "eicu",
    "eICU",
    {
        "patient": "patientunitstayid patienthealthsystemstayid uniquepid age hospitaldischargestatus hospitaldischargeoffset "
        "unitdischargeoffset admissionheight admissionweight",
        "vitalperiodic": "patientunitstayid observationoffset temperature sao2 heartrate respiration systemicsystolic systemicdiastolic "
        "systemicmean",
        "vitalaperiodic": "patientunitstayid observationoffset noninvasivesystolic noninvasivediastolic noninvasivemean",
        "lab": "patientunitstayid labresultoffset labname labresult",
        "nursecharting": "patientunitstayid nursingchartoffset nursingchartcelltypevallabel nursingchartcelltypevalname nursingchartvalue",
    },
    ("",),
    (),
    frozenset({"stay_id", "icustay_id"}),
    ("mimic4", "MIMIC"),
)
ROWS = {"patient": 200_859, "vitalperiodic": 146_671_642, "vitalaperiodic": 25_075_074, "nursecharting": 151_604_232}
"""Numbers of rows of v2.0, as in MIT-LCP/eicu-code."""

COLUMNS = {
    "vitalperiodic": {
        "temperature": "Temperature",
        "sao2": "Oxygen saturation",
        "heartrate": "Heart Rate",
        "respiration": "Respiratory rate",
        "systemicsystolic": "Systolic blood pressure",
        "systemicdiastolic": "Diastolic blood pressure",
        "systemicmean": "Mean blood pressure",
    },
    "vitalaperiodic": {
        "noninvasivesystolic": "Systolic blood pressure",
        "noninvasivediastolic": "Diastolic blood pressure",
        "noninvasivemean": "Mean blood pressure",
    },
    "patient": {"admissionheight": "Height", "admissionweight": "Weight"},
}
"""Channels that are a column, by table; height and weight are those of admission, charted at entry."""
OFFSETS = {"vitalperiodic": "observationoffset", "vitalaperiodic": "observationoffset", "patient": "'0'"}

LABS = {
    "glucose": "Glucose",
    "bedside glucose": "Glucose",
    "pH": "pH",
    "FiO2": "Fraction inspired oxygen",
    "O2 Sat (%)": "Oxygen saturation",
}
"""Channels by the name of the laboratory item."""

CHARTED = {
    ("Heart Rate", "Heart Rate"): "Heart Rate",
    ("Respiratory Rate", "Respiratory Rate"): "Respiratory rate",
    ("O2 Saturation", "O2 Saturation"): "Oxygen saturation",
    ("Temperature", "Temperature (C)"): "Temperature",
    ("Temperature", "Temperature (F)"): "Temperature",
    **{
        (f"{way} BP", f"{way} BP {part}"): f"{part} blood pressure"
        for way in ("Non-Invasive", "Invasive")
        for part in ("Systolic", "Diastolic", "Mean")
    },
    ("Glasgow coma score", "GCS Total"): "Glascow coma scale total",
    ("Score (Glasgow Coma Scale)", "Value"): "Glascow coma scale total",
    ("Glasgow coma score", "Eyes"): "Glascow coma scale eye opening",
    ("Glasgow coma score", "Motor"): "Glascow coma scale motor response",
    ("Glasgow coma score", "Verbal"): "Glascow coma scale verbal response",
}
"""Channels by label and name of the nurse's chart."""
FAHRENHEIT = "Temperature (F)"

SCORES = {
    "Glascow coma scale eye opening": ("1 No Response", "2 To pain", "3 To speech", "4 Spontaneously"),
    "Glascow coma scale motor response": (
        *("1 No Response", "2 Abnorm extensn", "3 Abnorm flexion", "4 Flex-withdraws", "5 Localizes Pain", "6 Obeys Commands"),
    ),
    "Glascow coma scale verbal response": ("1 No Response", "2 Incomp sounds", "3 Inapprop words", "4 Confused", "5 Oriented"),
    "Glascow coma scale total": ("", "", *(str(total) for total in range(3, 16))),
}
"""Category of each score, from 1 on: the database has numbers where MIMIC has words."""


def channels() -> set[str]:
    """Every channel that the database has an item for."""
    columns = {channel for of_table in COLUMNS.values() for channel in of_table.values()}
    return columns | set(LABS.values()) | set(CHARTED.values())
