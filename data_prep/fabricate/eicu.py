"""Synthetic raw files in the layout of the eICU demo v2.0.1: every column that is read, some that are not, and flaws in both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.eicu.sources import CHARTED, COLUMNS, FAHRENHEIT, LABS, SCORES
from data_prep.fabricate.common import check
from data_prep.made_up import mark
from data_prep.writer import whole_or_nothing

DAY = 24 * 60
USUAL = {
    "Temperature": (37, 0.7),
    "Oxygen saturation": (96, 2),
    "Heart Rate": (85, 15),
    "Respiratory rate": (19, 5),
    "Systolic blood pressure": (120, 18),
    "Diastolic blood pressure": (62, 11),
    "Mean blood pressure": (80, 12),
    "Glucose": (140, 40),
    "pH": (7.38, 0.06),
    "Fraction inspired oxygen": (45, 12),
    "Height": (170, 10),
    "Weight": (82, 18),
}
"""Mean and standard deviation of the values drawn, by channel."""
WILD = ("0", "-1", "9999", "825070", "nan", "---", "NA", "error", " ")
FLAWED = 0.02


def fabricate_eicu(out: Path | str, stays: int = 500, seed: int = 0) -> Path:
    """Writes made-up raw files of eICU; no patient's data.

    Among them are children, unknown ages and outcomes, second unit stays, short stays, values before entry and after 48 hours, words and
    wild numbers. Equal arguments give equal tables.

    Args:
        out: the raw folder; must not exist, or be empty.
        stays: number of unit stays, at least 50.
        seed: random seed.

    Returns:
        ``out``.

    Raises:
        ValueError: an argument outside its range, or an ``out`` that is not empty.
    """
    out = Path(out)
    check(out, stays, seed)
    rng = np.random.default_rng((seed, 18))
    patient = _patients(stays, rng)
    ids = patient["patientunitstayid"].to_numpy()
    tables = {
        "patient": patient,
        "vitalPeriodic": _wide(ids, "vitalperiodic", 60, rng),
        "vitalAperiodic": _wide(ids, "vitalaperiodic", 25, rng),
        "lab": _labs(ids, rng),
        "nurseCharting": _charted(ids, rng),
    }
    with whole_or_nothing(out) as folder:
        for name, frame in tables.items():
            frame.iloc[rng.permutation(len(frame))].to_csv(folder / f"{name}.csv.gz", index=False)
        mark(folder)
    return out


def _patients(n: int, rng: np.random.Generator) -> pd.DataFrame:
    unit = rng.integers(600, 12 * DAY, n)
    short = rng.random(n) < 0.5
    hospital = np.arange(n) + 900_000
    second = np.flatnonzero(rng.random(n) < 0.1)
    hospital[second] = hospital[second - 1]
    age = rng.integers(18, 90, n).astype(str).astype(object)
    for text, share in (("> 89", 0.04), ("", 0.02), ("0", 0.02), ("17", 0.02)):
        age[rng.random(n) < share] = text
    status = rng.choice(["Alive", "Expired", ""], n, p=[0.85, 0.13, 0.02])
    height, weight = (_spoiled(rng.normal(*USUAL[name], n).round(1), rng) for name in ("Height", "Weight"))
    return pd.DataFrame(
        {
            "patientunitstayid": rng.permutation(np.arange(n) + 140_000),
            "patienthealthsystemstayid": hospital,
            "gender": rng.choice(["Male", "Female"], n),
            "age": age,
            "hospitalid": rng.choice([59, 73, 167, 420], n),
            "admissionheight": height,
            "hospitaldischargeoffset": np.where(short, unit // 2, unit) + rng.integers(0, 8 * DAY, n),
            "hospitaldischargestatus": status,
            "unitvisitnumber": 1,
            "admissionweight": weight,
            "unitdischargeoffset": np.where(short, unit // 2, unit),
            "uniquepid": [f"{i % 9:03d}-{i // 2}" for i in range(n)],
        }
    )


def _offsets(ids: np.ndarray, each: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    stay = np.repeat(ids, each)
    edges = rng.choice([0, 120, 48 * 60, 48 * 60 + 1, -1], len(stay))
    return stay, np.where(rng.random(len(stay)) < 0.03, edges, rng.integers(-300, 60 * 60, len(stay)))


def _wide(ids: np.ndarray, table: str, each: int, rng: np.random.Generator) -> pd.DataFrame:
    stay, offset = _offsets(ids, each, rng)
    frame = pd.DataFrame({f"{table}id": np.arange(len(stay)), "patientunitstayid": stay, "observationoffset": offset})
    for column, channel in COLUMNS[table].items():
        text = _spoiled(rng.normal(*USUAL[channel], len(stay)).round(1), rng)
        text[rng.random(len(stay)) < (0.9 if column == "temperature" else 0.3)] = None
        frame[column] = text
    return frame


def _labs(ids: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    stay, offset = _offsets(ids, 20, rng)
    name = rng.choice([*LABS, "potassium", "urinary pH"], len(stay))
    value = np.full(len(stay), "4.1", dtype=object)
    for item, channel in LABS.items():
        here = name == item
        value[here] = _spoiled(rng.normal(*USUAL[channel], int(here.sum())).round(2), rng)
    return pd.DataFrame(
        {"labid": np.arange(len(stay)), "patientunitstayid": stay, "labresultoffset": offset, "labname": name, "labresult": value}
    )


def _charted(ids: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    stay, offset = _offsets(ids, 40, rng)
    kinds = [*CHARTED, ("Pain Score/Goal", "Pain Score")]
    which = rng.integers(len(kinds), size=len(stay))
    value = np.full(len(stay), "2", dtype=object)
    for k, ((_, name), channel) in enumerate(CHARTED.items()):
        here = which == k
        size = int(here.sum())
        if channel in SCORES:
            drawn = rng.integers(3 if channel.endswith("total") else 1, len(SCORES[channel]) + 1, size).astype(str).astype(object)
            drawn[rng.random(size) < FLAWED] = "Unable to score due to medication"
        else:
            number = rng.normal(*USUAL[channel], size)
            drawn = _spoiled((number * 1.8 + 32 if name == FAHRENHEIT else number).round(1), rng)
        value[here] = drawn
    labels = np.array(kinds, dtype=object)[which]
    return pd.DataFrame(
        {
            "nursingchartid": np.arange(len(stay)),
            "patientunitstayid": stay,
            "nursingchartoffset": offset,
            "nursingchartcelltypevallabel": labels[:, 0],
            "nursingchartcelltypevalname": labels[:, 1],
            "nursingchartvalue": value,
        }
    )


def _spoiled(number: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    text = np.array([f"{value:g}" for value in number], dtype=object)
    flawed = rng.random(len(text)) < FLAWED
    text[flawed] = rng.choice(WILD, int(flawed.sum()))
    return text
