"""Radiology reports of MIMIC-CXR: sections of every kind, and unusable files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd

from data_prep.fabricate.notes import word_of
from data_prep.fabricate.truth.films import report_path
from data_prep.synthetic.note import draw_notes

Texts = tuple[str, str, str, str]
HEAD = (
    "                                 FINAL REPORT\n EXAMINATION:  CHEST (PORTABLE AP)\n \n"
    " INDICATION:  Made-up patient ___, ?pneumonia\n \n"
)
TECHNIQUE = " TECHNIQUE:  Single view: portable.\n \n"

_kind: dict[str, Callable[[Texts], str]] = {
    "impression_and_findings": lambda t: f" COMPARISON:  {t[2]}\n \n FINDINGS: \n \n {t[1]}\n \n IMPRESSION: \n \n {t[0]}\n",
    "impression": lambda t: f"{TECHNIQUE} IMPRESSION:  {t[0]}\n",
    "findings": lambda t: f" COMPARISONS:  {t[2]}\n \n FINDINGS:  {t[1]}\n",
    "conclusion": lambda t: f"{TECHNIQUE} FINDING:  {t[1]}\n \n CONCLUSION:\n \n {t[0]}\n",
    "impressions": lambda t: f" IMPRESSIONS:  1. {t[0]}\n \n 2. Otherwise: no change.\n",
    "repeated_sections": lambda t: (
        f" FINDINGS:  superseded {t[3]}\n \n IMPRESSION:  superseded {t[3]}\n \n FINDINGS:  {t[1]}\n \n IMPRESSION: {t[0]}\n"
    ),
    "last_paragraph": lambda t: f" COMPARISON:  {t[2]}\n \n{TECHNIQUE} Earlier paragraph {t[3]}\n \n {t[0]}\n {t[1]}\n",
    "no_section": lambda t: f" Earlier paragraph {t[3]}\n \n {t[0]}\n",
    "header_in_small_letters": lambda t: f"{TECHNIQUE} Earlier paragraph {t[3]}\n \n Impression: {t[0]}\nIMPRESSION: not at a blank\n",
}
WITHOUT_HEAD = ("no_section",)
# files without a usable text
_useless: dict[str, bytes | None] = {
    "report_empty": b"",
    "report_blank": b" \n \n   \n",
    "report_missing": None,
    "report_unreadable": b" IMPRESSION: \xff\xfe caf\xe9\n",
}
KINDS = (*_kind, *_useless)
EVERY = 3


def draw_reports(films: pd.DataFrame, x: np.ndarray, rng: np.random.Generator) -> tuple[dict[str, bytes], Counter[str]]:
    """A report for each study.

    Args:
        films: ``i``, ``subject_id`` and ``study_id`` of the radiographs.
        x: factors ``(n, M, d)`` of the stays; impressions are drawn from those of the image, findings from those of the note.
        rng: generator of every draw.

    Returns:
        The files by path relative to the raw folder, and the number of studies of each kind.
    """
    studies = films.drop_duplicates("study_id")
    # stays with a single study first: there its report is the one used
    alone = (studies.groupby("i")["study_id"].transform("size") == 1).to_numpy()
    order = rng.permutation(len(studies))
    studies = studies.iloc[order[np.argsort(~alone[order], kind="stable")]]
    i = studies["i"].to_numpy()
    impressions, findings = draw_notes(x[i, 1], rng), draw_notes(x[i, 2], rng)
    files, counts = {}, Counter[str]()
    for turn, (subject, study) in enumerate(zip(studies["subject_id"].tolist(), studies["study_id"].tolist(), strict=True)):
        kind = KINDS[turn % len(KINDS)]
        if kind in _useless and turn // len(KINDS) % EVERY:
            kind = KINDS[turn % len(_kind)]
        counts[f"report_of_kind_{kind}" if kind in _kind else kind] += 1
        word = word_of(study)
        texts = (f"{impressions[turn]} {word}im", f"{findings[turn]} {word}fi", f"Made-up study {word}co of ___.", f"{word}un")
        data = _useless[kind] if kind in _useless else _compose(kind, texts).encode()
        if data is not None:
            files[report_path(subject, study)] = data
    return files, counts


def _compose(kind: str, texts: Texts) -> str:
    impression, findings, comparison, unused = (text.replace(". ", ".\n ", 2) for text in texts)
    return ("" if kind in WITHOUT_HEAD else HEAD) + _kind[kind]((impression, findings, comparison, unused))
