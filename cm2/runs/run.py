"""A finished run, as it lies in the store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_model

from cm2.cohorts import Cohort
from cm2.cohorts.disclosure import Disclosure
from cm2.config import Config
from cm2.methods import Method, build_method, tokenised


@dataclass(frozen=True)
class Run:
    """A finished run, a folder of the store."""

    path: Path

    @cached_property
    def config(self) -> Config:
        """Configuration of the run."""
        return Config.from_dict(self._read("config.json"))

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per epoch: loss terms, validation metrics, the copula's α and τ."""
        return pd.read_csv(self.path / "history.csv")

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """By split (``valid``, ``test``): AUROC and AUPR with 95 % bootstrap intervals, Brier score, counts.

        Of a credentialed cohort they are rounded, and None where fewer than ten stays could be told from them.
        """
        shown = Disclosure.of(self.environment)
        return {split: shown.metrics(metrics) for split, metrics in self._read("metrics.json").items()}

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Provenance: cohort and its checksum, versions, commit, device, date, seconds."""
        return self._read("environment.json")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """``split``, ``stay_id``, ``label``, ``probability``, ``variance``."""
        return pd.read_parquet(self.path / "predictions.parquet")

    def load_method(self, cohort: Cohort) -> Method:
        """The trained method, in evaluation mode.

        Raises:
            ValueError: the stored weights do not fit the configuration's method in this version, or the shapes of this cohort.
        """
        return self.load_weights(build_method(self.config, tokenised(cohort, self.config)), cohort).eval()

    def load_weights(self, method: Method, cohort: Cohort) -> Method:
        """The method with the run's weights. Errors are those of `load_method`."""
        try:
            missing, unexpected = load_model(method, self.path / "model.safetensors", strict=False)
        except RuntimeError as error:  # torch lists every tensor whose shape differs
            trained = self.environment["cohort"]
            raise ValueError(
                f"{self.path}: the run was trained on {trained}, and its weights do not fit the shapes of {cohort.name} ({cohort.path}), "
                "such as its vocabulary; give the cohort it was trained on, or train on this one"
            ) from error
        # a batch normalisation under two names is stored once: torch adds the other's count itself, which safetensors then reports
        if wrong := [name for name in (*missing, *unexpected) if not name.endswith("num_batches_tracked")]:
            raise ValueError(f"{self.path}: its weights do not fit {self.config.method} ({wrong[0]}); remove the run and train it again")
        return method

    def _read(self, name: str) -> dict[str, Any]:
        return json.loads((self.path / name).read_text())
