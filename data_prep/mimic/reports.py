"""Radiology reports of MIMIC-CXR: the sections of the report on a stay's radiograph."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from cm2.errors import InputError
from data_prep.mimic.archives import DAMAGED

ARCHIVE = "mimic-cxr-reports.zip"
LONGEST = 1 << 20
"""Limit of a report in bytes as unpacked; real ones have a few thousand."""
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


def report_path(subject_id: int, study_id: int) -> str:
    """Path of a report in MIMIC-CXR, below its folder."""
    return f"files/p{subject_id // 1_000_000}/p{subject_id}/s{study_id}.txt"


class Reports:
    """The reports of MIMIC-CXR, as a folder or as the archive that the source serves.

    Args:
        place: the folder with ``files/`` or with ``mimic-cxr-reports.zip``, or that archive itself.

    Raises:
        ValueError: no reports there, or an archive that is damaged.
    """

    def __init__(self, place: Path) -> None:
        self.folder, self.archive = place, None
        if (place / "files").is_dir():
            return
        packed = place if place.is_file() else place / ARCHIVE
        if not packed.is_file():
            remedy = f"give the folder that has, or {ARCHIVE}, as the source serves it, or leave out the modality report"
            raise InputError(f"no reports: {place} has no folder files/; {remedy}")
        try:
            self.archive = zipfile.ZipFile(packed)
        except (*DAMAGED, OSError) as error:
            raise InputError(f"{packed} is no whole zip archive ({error}); copy it again") from None
        self.prefix = next((name.partition("files/")[0] for name in self.archive.namelist() if "files/p" in name), "")

    def read(self, path: str) -> str:
        """A report's text.

        Args:
            path: as ``report_path`` gives it.

        Raises:
            OSError, UnicodeDecodeError: the report is missing, damaged, too long for one, or not text.
        """
        if self.archive is None:
            return (self.folder / path).read_text(encoding="utf-8-sig")
        try:
            member = self.archive.getinfo(self.prefix + path)
            if member.file_size > LONGEST:
                raise OSError(f"{path} has {member.file_size:,} bytes, more than any report")
            return self.archive.read(member).decode("utf-8-sig")
        except KeyError:
            raise FileNotFoundError(path) from None
        except UnicodeDecodeError:
            raise
        except DAMAGED as error:
            raise OSError(str(error)) from None
