"""One task of every type, with labels and outputs."""

from __future__ import annotations

import numpy as np
import torch

from cm2.tasks import Binary, Multiclass, Multilabel, Regression, Survival, Task

TASKS: dict[str, Task] = {
    "binary": Binary("death", "died"),
    "multiclass": Multiclass("ward", "where to", classes=("home", "ward", "icu")),
    "multilabel": Multilabel("findings", "what was found", labels=("fluid", "air", "mass", "fracture")),
    "regression": Regression("stay", "length of stay", unit="d", mean=3.0, scale=2.0),
    "survival": Survival("relapse", "relapse", unit="d", edges=(2.0, 5.0, 9.0)),
}


def labels(kind: str, n: int = 40, seed: int = 0, unknown: int = 3) -> np.ndarray:
    """Labels ``(n, *label_shape)``, the last ``unknown`` of them NaN."""
    rng = np.random.default_rng(seed)
    made = {
        "binary": lambda: (np.arange(n) % 3 == 0).astype(float),
        "multiclass": lambda: (np.arange(n) % 3).astype(float),
        "multilabel": lambda: ((np.arange(n)[:, None] + np.arange(4)) % 3 == 0).astype(float),
        "regression": lambda: 3 + 2 * rng.normal(size=n),
        "survival": lambda: np.stack([rng.exponential(4, n).round(1) + 0.1, (rng.random(n) < 0.6).astype(float)], axis=1),
    }[kind]()
    made[n - unknown :] = np.nan
    return made


def outputs(kind: str, n: int = 40, seed: int = 1) -> torch.Tensor:
    """Outputs of a network ``(n, outputs)``."""
    return torch.randn(n, TASKS[kind].outputs, generator=torch.Generator().manual_seed(seed))
