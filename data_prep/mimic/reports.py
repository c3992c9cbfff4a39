"""Radiology reports of MIMIC-CXR: the sections of the report on a stay's radiograph."""

from __future__ import annotations

import re
from pathlib import Path

SECTIONS = ("impression", "findings", "last_paragraph", "comparison")
HEADER = re.compile(r"\n ([A-Z][A-Z ()/,'\-]*):\s")
NAMES = {"impressions": "impression", "conclusion": "impression", "finding": "findings", "comparisons": "comparison"}


def report_sections(text: str) -> dict[str, str]:
    """The four sections of a report, as far as it has them.

    A section starts with a line of one space, a header in capitals and a colon, and ends at the next; of several with the same name the
    last counts. A report with neither impression nor findings has a last paragraph, the text after the last empty line.

    Args:
        text: the report.

    Returns:
        Text by section, in the order impression, findings, last_paragraph, comparison; any white space becomes one space.
    """
    text = "\n" + text.replace("\r\n", "\n")
    headers = list(HEADER.finditer(text))
    ends = [*(header.start() for header in headers[1:]), len(text)][: len(headers)]
    found = {}
    for header, end in zip(headers, ends, strict=True):
        name = header[1].strip().lower()
        found[NAMES.get(name, name)] = text[header.end() : end]
    if "impression" not in found and "findings" not in found:
        found["last_paragraph"] = re.split(r"\n\s*\n", text.rstrip())[-1]
    cleaned = {name: " ".join(found.get(name, "").split()) for name in SECTIONS}
    return {name: section for name, section in cleaned.items() if section}


def report_path(folder: Path, subject_id: int, study_id: int) -> Path:
    """Path of a report in MIMIC-CXR."""
    return folder / "files" / f"p{subject_id // 1_000_000}" / f"p{subject_id}" / f"s{study_id}.txt"


def read_report(path: Path) -> str:
    """A report's text.

    Raises:
        OSError, UnicodeDecodeError: the file is missing or not text.
    """
    return path.read_text(encoding="utf-8-sig")
