"""A cohort small enough to train a method in a second: a series, a vector, and half of the stays lack the vector."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cm2 import RunStore, load_cohort
from data_prep.writer import PreparedCohort, PreparedModality, write_cohort

STAYS = 320
FAST = {"train.epochs": 1, "model.embedding_dim": 4, "encoder.series.hidden": 4}


def write(out, name="tiny", complete=False, modalities=("bedside", "laboratory"), kinds=("series", "vector"), rare=False):
    rng = np.random.default_rng(0)
    severity = rng.normal(size=STAYS)
    split = np.array(["train", "train", "valid", "test"])[np.arange(STAYS) % 4]
    label = {task: (severity + rng.normal(size=STAYS) > cut).astype(int) for task, cut in (("death", 0.5), ("long_stay", 0.0))}
    if rare:  # a single positive among the test stays
        label = {task: np.where((split == "test") & (np.arange(STAYS) != STAYS - 1), 0, values) for task, values in label.items()}
        label = {task: np.where(np.arange(STAYS) == STAYS - 1, 1, values) for task, values in label.items()}
    stays = pd.DataFrame({"stay_id": 5000 + np.arange(STAYS), "split": split, **label})
    data = {"series": severity[:, None, None] + rng.normal(size=(STAYS, 3, 2)), "vector": severity[:, None] + rng.normal(size=(STAYS, 3))}
    names = {"series": ["a", "b"], "vector": ["a", "b", "c"]}
    present = [np.ones(STAYS, bool), np.ones(STAYS, bool) if complete else rng.random(STAYS) < 0.5]
    parts = {
        modality: PreparedModality(kind, data[kind], here, names[kind], ["1"] * len(names[kind]))
        for modality, kind, here in zip(modalities, kinds, present, strict=False)
    }
    tasks = dict.fromkeys(label, "made up")
    return load_cohort(
        write_cohort(out, PreparedCohort(name, "made up", "1", {"complete": complete}, stays, parts, tasks, [], {}, credentialed=False))
    )


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return write(tmp_path_factory.mktemp("cohorts") / "tiny")


@pytest.fixture(scope="session")
def complete(tmp_path_factory):
    return write(tmp_path_factory.mktemp("cohorts") / "complete", complete=True)


@pytest.fixture(scope="session")
def store(shared):
    """Runs of all tests of tables, of which many want the same; one store for all of pytest's processes."""
    return RunStore(shared / "runs_of_tables")
