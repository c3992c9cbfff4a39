"""What a raw copy tells of patients, and every byte of a file, unpacked, in which none of it may be."""

from __future__ import annotations

import gzip
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

WORDS = 5
"""Words in a row that make a fragment of a text."""
LARGE = 1000
"""Smaller numbers are no identifiers."""
NUMBERED = ("subject_id", "hadm_id", "icustay_id", "stay_id", "study_id", "patientunitstayid", "patienthealthsystemstayid")
NAMED = ("dicom_id", "uniquepid")
_NUMBER = re.compile(r"(?<![\w.])\d{4,}(?![\w.])")
_DATE = re.compile(r"2[1-9]\d\d-\d\d-\d\d|(?<!\d)2[1-9]\d{6}(?!\d)")
_NAME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}|(?<![\w.-])\d{3}-\d+(?![\w.-])")
_PATH = re.compile(r"\bp1\d/p1\d{7}|\bs5\d{7}")


@dataclass(frozen=True)
class Secrets:
    """What must not come out.

    Args:
        numbers: identifiers of patients, admissions, stays and studies.
        names: those that are no numbers.
        dates: as the tables write them.
        fragments: words in a row of notes and reports, in lower case.
    """

    numbers: frozenset[int]
    names: frozenset[str]
    dates: frozenset[str]
    fragments: frozenset[str]

    @classmethod
    def of(cls, raw: Path) -> Secrets:
        """From every table and text of a raw copy, but for what was written beside it to test with."""
        numbers, names, dates, texts = set[int](), set[str](), set[str](), []
        for path in sorted(path for path in raw.rglob("*") if path.is_file() and not {"truth", "splits"} & set(path.parts)):
            if path.name.endswith((".csv", ".csv.gz")):
                table = pd.read_csv(path, dtype=str, encoding="utf-8-sig", encoding_errors="replace")
                for column in table.rename(columns=str.lower):
                    values = table[table.columns[[name.lower() for name in table].index(column)]].dropna()
                    if column in NUMBERED:
                        numbers |= set(pd.to_numeric(values, errors="coerce").dropna().astype(int))
                    elif column in NAMED:
                        names |= set(values)
                    elif column.endswith(("time", "date", "dob", "dod")):
                        dates |= set(values.str[:10]) if not column.startswith("study") else set(values)
                    elif column == "text":
                        texts += list(values)
            elif path.suffix == ".txt" and "files" in path.parts:
                texts.append(path.read_text(encoding="utf-8", errors="replace"))
        large = frozenset(number for number in numbers if number >= LARGE)
        return cls(large, frozenset(names), frozenset(filter(_DATE.fullmatch, dates)), frozenset(windows(*texts)))

    def told(self, content: bytes) -> set[object]:
        """What of them a content tells: as text, and identifiers as numbers of eight bytes too."""
        text = content.decode("utf-8", errors="ignore")
        found: set[object] = {number for number in map(int, set(_NUMBER.findall(text)) - {""}) if number in self.numbers}
        found |= (set(_DATE.findall(text)) & self.dates) | (set(_NAME.findall(text)) & self.names) | set(_PATH.findall(text))
        return found | self._as_bytes(content) | (windows(text) & self.fragments)

    @cached_property
    def _patterns(self) -> np.ndarray:
        ids = np.array(sorted(self.numbers))
        return np.concatenate([ids.astype(kind).view("<i8") for kind in ("<i8", ">i8", "<f8")])

    def _as_bytes(self, content: bytes) -> set[object]:
        """As arrays hold them, which begin at multiples of eight bytes; elsewhere ends of other numbers look alike."""
        words = np.frombuffer(content[: len(content) // 8 * 8], "<i8")
        return set(words[np.isin(words, self._patterns)].tolist())


def windows(*texts: str) -> set[str]:
    """Words in a row."""
    split = [text.lower().split() for text in texts]
    return {" ".join(words[i : i + WORDS]) for words in split for i in range(len(words) - WORDS + 1)}


def unpacked(content: bytes) -> Iterator[bytes]:
    """A file as it is, and whatever is packed in it: archives, compressed streams, the columns of a table."""
    if content[:4] != b"\x89PNG":
        yield content
    if content[:4] == b"PK\3\4":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from unpacked(archive.read(name))
    elif content[:2] == b"\x1f\x8b":
        yield from unpacked(gzip.decompress(content))
    elif content[:4] == b"\x89PNG":
        yield from _of_png(content)
    elif content[:4] == b"%PDF":
        yield from _of_pdf(content)
    elif content[:4] == b"PAR1":
        yield pd.read_parquet(io.BytesIO(content)).to_csv().encode()


def _of_png(content: bytes) -> Iterator[bytes]:
    """What a picture says about itself; its pixels are no words, and any bytes at all."""
    place = 8
    while place < len(content):
        size, kind = struct.unpack(">I4s", content[place : place + 8])
        data = content[place + 8 : place + 8 + size]
        if kind != b"IDAT":
            yield data
        if kind == b"zTXt":
            yield from _inflated(data[data.index(b"\0") + 2 :])
        if kind == b"iTXt":  # after the keyword: whether it is packed, how, a language and a translation
            yield from _inflated(data[data.index(b"\0") + 3 :].split(b"\0", 2)[2])
        place += 12 + size


def _of_pdf(content: bytes) -> Iterator[bytes]:
    for packed in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL):
        for stream in _inflated(packed):
            yield stream
            yield re.sub(rb"\)\s*-?[\d.]+\s*\(", b"", stream)  # letters between which there is a space of some width


def _inflated(packed: bytes) -> Iterator[bytes]:
    try:
        yield zlib.decompress(packed)
    except zlib.error:  # not packed, or packed otherwise
        return
