"""The radiograph and report of each stay, computed again from the rows and files written (MIMIC-CXR)."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

import pandas as pd
from PIL import Image

HEADER = re.compile(r"\n ([A-Z][A-Z ()/,.&-]*):\s")
SYNONYMS = {"impressions": "impression", "conclusion": "impression", "finding": "findings", "comparisons": "comparison"}
PARTS = ("impression", "findings", "last_paragraph", "comparison")
BLANK_LINE = re.compile(r"\n[ \t]*\n")


def study_times(date: pd.Series, time: pd.Series) -> pd.Series:
    """StudyDate (YYYYMMDD) and StudyTime (HHMMSS.fff without its leading zeros) as datetimes, to the millisecond."""
    whole, _, fraction = (time.str.partition(".")[part] for part in range(3))
    whole = whole.str.zfill(6)
    day = pd.to_datetime(date.astype(str), format="%Y%m%d").astype("datetime64[ms]")
    seconds = whole.str[:2].astype(int) * 3600 + whole.str[2:4].astype(int) * 60 + whole.str[4:].astype(int)
    milliseconds = (("0." + fraction.where(fraction != "", "0")).astype(float) * 1000).round().astype("int64")
    return day + pd.to_timedelta(seconds * 1000 + milliseconds, unit="ms")


def selected(metadata: pd.DataFrame, stays: pd.DataFrame) -> pd.DataFrame:
    """The radiograph of each stay that has one: ``stay_id``, ``subject_id``, ``study_id``, ``dicom_id``.

    Args:
        metadata: ``dicom_id``, ``subject_id``, ``study_id``, ``ViewPosition``, ``StudyDate``, ``StudyTime``.
        stays: ``stay_id``, ``subject_id``, ``intime``.
    """
    films = metadata.assign(time=study_times(metadata["StudyDate"], metadata["StudyTime"]))
    pairs = films[films["ViewPosition"] == "AP"].merge(stays[["stay_id", "subject_id", "intime"]], on="subject_id")
    end = pairs["intime"] + pd.Timedelta(hours=48)
    pairs = pairs[(pairs["intime"] <= pairs["time"]) & (pairs["time"] <= end)]
    last = pairs.sort_values(["time", "dicom_id"]).drop_duplicates("stay_id", keep="last")
    return last[["stay_id", "subject_id", "study_id", "dicom_id"]].sort_values("stay_id", ignore_index=True)


def film_path(subject_id: int, study_id: int, dicom_id: str) -> str:
    """Path of a radiograph, relative to the raw folder."""
    return f"mimic-cxr-jpg/files/p{str(subject_id)[:2]}/p{subject_id}/s{study_id}/{dicom_id}.jpg"


def report_path(subject_id: int, study_id: int) -> str:
    """Path of a report, relative to the raw folder."""
    return f"mimic-cxr/files/p{str(subject_id)[:2]}/p{subject_id}/s{study_id}.txt"


def is_readable(path: str, files: Mapping[str, bytes]) -> bool:
    """Whether the radiograph exists and is complete."""
    try:
        with Image.open(io.BytesIO(files[path])) as image:
            image.load()
    except (KeyError, OSError):
        return False
    return True


def report_text(data: bytes | None) -> str | None:
    """The sections of a report that are used, joined by form feeds; None if there is no text, no file, or bytes that are not UTF-8."""
    try:
        text = (data or b"").decode()
    except UnicodeDecodeError:
        return None
    headers = list(HEADER.finditer(text))
    ends = [header.start() for header in headers[1:]] + [len(text)]
    sections = {}
    for header, end in zip(headers, ends, strict=True) if headers else ():
        name = header.group(1).strip().lower()
        sections[SYNONYMS.get(name, name)] = text[header.end() : end]
    if "impression" not in sections and "findings" not in sections:
        sections["last_paragraph"] = BLANK_LINE.split(text)[-1]
    said = [" ".join(sections.get(part, "").split()) for part in PARTS]
    return "\f".join(part for part in said if part) or None
