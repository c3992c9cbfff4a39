"""Truth of a simulated cohort: joint distribution, embeddings and probability of each outcome."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from scipy.special import expit
from torch import Tensor

from cm2.cohorts import Cohort
from cm2.config.names import choose
from cm2.copulas import make
from cm2.errors import InputError
from cm2.joint import CopulaJoint
from cm2.marginals import GaussianMixture


@dataclass(frozen=True)
class Truth:
    """Reads the folder ``truth/`` of a simulated cohort.

    Args:
        path: that folder.

    Raises:
        ValueError: there is no such folder; only simulated cohorts have a truth.
    """

    path: Path

    def __post_init__(self) -> None:
        if not (self.path / "truth.json").is_file():
            raise InputError(f"{self.path}: no truth.json; only simulated cohorts have a truth, see cm2.cohorts.simulated.embedded_cohort")

    @classmethod
    def of(cls, cohort: Cohort) -> Truth:
        """The truth of a simulated cohort."""
        return cls(Path(cohort.path) / "truth")

    @cached_property
    def described(self) -> dict[str, Any]:
        """``truth.json``: family, parameters, mixtures, factors, coefficients of the outcomes."""
        return json.loads((self.path / "truth.json").read_text())

    @cached_property
    def latent(self) -> Tensor:
        """True embeddings ``(n, M, d)`` float64, those of missing modalities included."""
        return torch.from_numpy(np.load(self.path / "latent.npy"))

    @cached_property
    def probabilities(self) -> pd.DataFrame:
        """``stay_id`` and, by task, the probability of the outcome given the true embeddings."""
        return pd.read_parquet(self.path / "probabilities.parquet")

    def joint(self) -> CopulaJoint:
        """The distribution from which the embeddings were drawn, float64."""
        known = self.described
        weights = np.array(known["weights"])
        modalities, components = weights.shape
        marginals = [GaussianMixture(components, known["dim"]) for _ in range(modalities)]
        law = CopulaJoint(make(known["family"], modalities), marginals, known["link"]).double()
        law.load_state_dict(load_file(self.path / "law.safetensors"))
        return law.requires_grad_(False)

    def factors(self, z: Tensor) -> Tensor:
        """Embeddings ``(..., M, d)`` to standardised factors ``(..., M, d)``; factor 0 is the modality's severity."""
        rotation, centre, spread = (z.new_tensor(self.described["factors"][name]) for name in ("rotation", "centre", "spread"))
        return torch.einsum("mij,...mj->...mi", rotation, z - centre) / spread

    def probability(self, z: Tensor, task: str = "in_hospital_mortality") -> Tensor:
        """Probability of the outcome given embeddings ``(..., M, d)`` -> ``(...)``; readmission includes death.

        Raises:
            ValueError: an unknown task.
        """
        outcomes = self.described["outcomes"]
        if task not in outcomes:
            raise InputError(f"unknown task {task!r}; {choose(task, outcomes)}")
        x = self.factors(z).numpy()
        death, own = (expit(_logit(outcomes[name], x)) for name in ("in_hospital_mortality", task))
        return torch.from_numpy(death if task == "in_hospital_mortality" else 1 - (1 - death) * (1 - own))


def _logit(outcome: dict[str, Any], x: np.ndarray) -> np.ndarray:
    first, second, interaction = outcome["interaction"]
    linear = x[..., 0] @ np.array(outcome["severity"]) + x[..., 1] @ np.array(outcome["contrast"])
    return outcome["intercept"] + outcome["strength"] * (linear + interaction * x[..., first, 0] * x[..., second, 0])
