"""Training, validation and test subjects: the benchmark's lists, or a hash of the subject with the same ratios."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cm2.cohorts.disclosure import Disclosure
from cm2.cohorts.missingness import stable_uniform
from cm2.errors import InputError

RATIOS = {"mimic3": (0.15, 0.18), "mimic4": (0.20, 0.10), "eicu": (0.15, 0.18)}
"""Fraction of test subjects, and of validation subjects among the others, as in the lists of the two benchmarks."""


def split_subjects(subject_id: np.ndarray, release: str, lists: tuple[Path, Path] | None) -> tuple[np.ndarray, int]:
    """The split of each stay.

    Args:
        subject_id: ``(n,)`` int64; all stays of a subject get the same split.
        release: ``mimic3`` or ``mimic4``.
        lists: the files of test and of validation subjects, rows ``subject_id,flag`` without a header; None: subjects are split by a hash.

    Returns:
        ``(n,)`` of ``train``, ``valid``, ``test``; and the number of stays whose subjects are in neither list (they are training stays).

    Raises:
        ValueError: a list that cannot be read, names a subject twice or flags one for both splits.
    """
    if lists is None:
        test_ratio, valid_ratio = RATIOS[release]
        test = stable_uniform(0, subject_id, f"{release} test") < test_ratio
        valid = stable_uniform(0, subject_id, f"{release} validation") < valid_ratio
        unlisted = 0
    else:
        tables = [_read_list(path) for path in lists]
        if both := set(tables[0].index[tables[0] == 1]) & set(tables[1].index[tables[1] == 1]):
            count = Disclosure().count(len(both))
            raise InputError(f"{lists[1]}: {count} of its subjects are test subjects of {lists[0]}; give the lists of one benchmark")
        test, valid = (pd.Series(subject_id).map(table).to_numpy() == 1 for table in tables)
        unlisted = int((~np.isin(subject_id, np.concatenate([table.index.to_numpy() for table in tables]))).sum())
    return np.where(test, "test", np.where(valid, "valid", "train")).astype(object), unlisted


def _read_list(path: Path) -> pd.Series:
    if not path.is_file():
        raise InputError(f"{path} is not a file; give the benchmark's list, rows subject_id,flag")
    try:
        frame = pd.read_csv(path, header=None, names=["subject_id", "flag"], encoding="utf-8-sig").astype("int64")
    except (ValueError, pd.errors.ParserError):  # whose message quotes a row
        raise InputError(f"{path}: rows subject_id,flag of whole numbers without a header are expected; use the benchmark's list") from None
    if not frame["flag"].isin((0, 1)).all() or frame["subject_id"].duplicated().any():
        raise InputError(f"{path}: a flag is not 0 or 1, or a subject occurs twice; use the benchmark's list, uncut")
    return frame.set_index("subject_id")["flag"]
