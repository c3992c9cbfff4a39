"""The MIMIC-III benchmark's way from CHARTEVENTS to 24 steps, restated: row after row, subject after subject, file after file.

Harutyunyan et al. (Scientific Data 2019) split the table by subject into one file each, validate every file, extract every episode,
cut it at 48 hours and discretise it, with a file between any two stages. Written from that description; here with the 17 variables' own
rules left out, which favours it.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.channels import CHANNELS
from data_prep.mimic.events import items
from data_prep.mimic.raw import MIMIC3, find_table, open_text

FIELDS = ("subject_id", "hadm_id", "icustay_id", "charttime", "itemid", "value", "valueuom")


def row_by_row(raw: Path, work: Path) -> tuple[int, np.ndarray]:
    """Prepares every stay of a raw folder.

    Args:
        raw: folder with ICUSTAYS.csv and CHARTEVENTS, compressed or not.
        work: an empty folder for the files between the stages.

    Returns:
        Rows of CHARTEVENTS, and ``(n, 24, 17)`` values of the stays in the order of ICUSTAYS, NaN where nothing was charted.
    """
    stays = pd.read_csv(raw / "ICUSTAYS.csv", parse_dates=["INTIME", "OUTTIME"]).rename(columns=str.lower)
    rows = _split_by_subject(find_table(raw, MIMIC3, "chartevents"), set(stays["subject_id"].astype(str)), work)
    variables = dict(zip(items()["itemid"], items()["variable"], strict=True))
    for stay in stays.itertuples():
        _validate(work / f"{stay.subject_id}.csv", stay.hadm_id, stay.icustay_id)
        _extract_episode(work / f"{stay.subject_id}.csv", work / f"{stay.icustay_id}.csv", stay.intime, variables)
        _first_hours(work / f"{stay.icustay_id}.csv", work / f"{stay.icustay_id}.48.csv")
    return rows, np.stack([_discretise(work / f"{stay.icustay_id}.48.csv") for stay in stays.itertuples()])


def _split_by_subject(table: Path, subjects: set[str], work: Path) -> int:
    count, buffer, current = 0, [], ""
    with open_text(table) as file:
        for row in csv.DictReader(file):
            count += 1
            if row["SUBJECT_ID"] not in subjects:
                continue
            if row["SUBJECT_ID"] != current:
                _append(work / f"{current}.csv", buffer)
                buffer, current = [], row["SUBJECT_ID"]
            buffer.append({field: row[field.upper()] for field in FIELDS})
    _append(work / f"{current}.csv", buffer)
    return count


def _append(path: Path, rows: list[dict[str, str]]) -> None:
    if not rows:
        return
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if fresh:
            writer.writeheader()
        writer.writerows(rows)


def _validate(path: Path, hadm_id: int, icustay_id: int) -> None:
    events = pd.read_csv(path, dtype={"hadm_id": str, "icustay_id": str, "value": str})
    stays = pd.DataFrame({"hadm_id": [str(hadm_id)], "stay": [str(icustay_id)]})
    events = events[events["hadm_id"].notna()].merge(stays, on="hadm_id", how="left")
    events = events[events["stay"].notna()]
    events["icustay_id"] = events["icustay_id"].fillna(events["stay"])
    events[events["icustay_id"] == events["stay"]][list(FIELDS)].to_csv(path, index=False)


def _extract_episode(path: Path, episode: Path, intime: pd.Timestamp, variables: dict[int, str]) -> None:
    events = pd.read_csv(path, dtype={"value": str})
    events = events[events["value"].notna()]
    events["charttime"] = pd.to_datetime(events["charttime"])
    events["variable"] = events["itemid"].map(variables)
    events = events[events["variable"].notna()]
    events["value"] = events.apply(_clean, axis=1)
    events = events[events["value"].notna()].sort_values(["charttime", "variable", "value"])
    events = events.drop_duplicates(["charttime", "variable"], keep="last")
    table = events.pivot(index="charttime", columns="variable", values="value").reset_index()
    table.insert(0, "hours", (table.pop("charttime") - intime).dt.total_seconds() / 3600)
    table.reindex(columns=["hours", *(channel.name for channel in CHANNELS)]).sort_values("hours").to_csv(episode, index=False)


def _clean(event: pd.Series) -> str | None:
    if event["variable"].startswith("Glascow"):
        return event["value"]
    if event["variable"] in ("Glucose", "pH", "Oxygen saturation") and not re.match(r"^(\d+(\.\d*)?|\.\d+)$", event["value"]):
        return None
    number = float(event["value"])
    if event["variable"] == "Temperature" and number >= 79:
        number = (number - 32) * 5 / 9
    return str(number / 100 if event["variable"] == "Fraction inspired oxygen" and number > 1 else number)


def _first_hours(episode: Path, out: Path) -> None:
    with episode.open() as file, out.open("w") as kept:
        kept.write(next(file))
        for line in file:
            if -1e-6 < float(line.split(",")[0]) < 48 + 1e-6:
                kept.write(line)


def _discretise(path: Path) -> np.ndarray:
    values = np.full((24, len(CHANNELS)), np.nan)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            step = int(float(row["hours"]) / 2 - 1e-6)
            for code, channel in enumerate(CHANNELS):
                if row[channel.name] != "":
                    text = row[channel.name]
                    values[step, code] = channel.categories.index(text) if channel.categories else float(text)
    return values
