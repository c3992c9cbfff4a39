"""A small cohort with a task of every type."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from data_prep.writer import PreparedCohort, PreparedModality
from tests.tasks.cases import TASKS, labels

N = 200


def prepared(kinds=tuple(TASKS), n=N, **changes) -> PreparedCohort:
    stays = {"stay_id": np.arange(n) + 7, "split": np.array(["train", "train", "valid", "test"])[np.arange(n) % 4]}
    for kind in kinds:
        task, label = TASKS[kind], labels(kind, n, unknown=12).reshape(n, -1)
        stays |= dict(zip(task.columns, np.where(np.isnan(label), task.unknown, label).T, strict=True))
    rng = np.random.default_rng(0)
    modalities = {
        "series": PreparedModality("series", rng.normal(size=(n, 4, 2)), np.ones(n, dtype=bool), ["a", "b"], ["1", "1"]),
        "vector": PreparedModality("vector", rng.normal(size=(n, 3)), np.arange(n) % 5 > 0, ["x", "y", "z"], ["1", "1", "1"]),
    }
    tasks = {TASKS[kind].name: TASKS[kind] for kind in kinds}
    flow = [{"step": "stays", "stays": n, "dropped": 0, "note": ""}]
    cohort = PreparedCohort("many tasks", "made up", "1", {}, pd.DataFrame(stays), modalities, tasks, flow, {}, credentialed=False)
    return replace(cohort, **changes)
