"""Lists of test and validation subjects, as the benchmarks distribute them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.fabricate.truth.cohort import SHARES

UNLISTED = 0.05


def split_lists(edition: int, subject_id: np.ndarray, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test and validation lists (``subject_id``, ``flag``) of subjects ``(n,)``; some are in neither, some listed ones have no stay."""
    test_share, valid_share = SHARES[edition]
    subjects = rng.permutation(np.unique(subject_id))
    listed = subjects[round(UNLISTED * len(subjects)) :]
    strangers = subject_id.max() + np.arange(1, 4)
    everyone = np.concatenate([listed, strangers])
    test = pd.DataFrame({"subject_id": everyone, "flag": (rng.random(len(everyone)) < test_share).astype(int)})
    rest = test["subject_id"][test["flag"] == 0].to_numpy()
    valid = pd.DataFrame({"subject_id": rest, "flag": (rng.random(len(rest)) < valid_share).astype(int)})
    return test.sort_values("subject_id", ignore_index=True), valid.sort_values("subject_id", ignore_index=True)


def write_lists(folder: Path, test: pd.DataFrame, valid: pd.DataFrame) -> list[str]:
    """Writes ``splits/testset.csv`` and ``splits/valset.csv``, without headers, below ``folder``; returns their paths."""
    (folder / "splits").mkdir()
    for name, frame in (("testset", test), ("valset", valid)):
        frame.to_csv(folder / "splits" / f"{name}.csv", header=False, index=False, lineterminator="\n")
    return ["splits/testset.csv", "splits/valset.csv"]
