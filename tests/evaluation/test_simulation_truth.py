"""The truth of a simulated cohort reads back as it was drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cm2.cohorts import Cohort, load_cohort
from cm2.evaluation.simulation_truth import Truth
from data_prep import prepare_synthetic
from data_prep.synthetic.law import make_law


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return load_cohort(prepare_synthetic(tmp_path_factory.mktemp("truth") / "cohort", stays=40, image_size=32))


def test_law_and_factors_are_the_simulators(cohort: Cohort) -> None:
    truth, law = Truth.of(cohort), make_law()
    joint = truth.joint()
    assert float(joint.copula.alpha) == pytest.approx(2.5)
    assert all(torch.equal(a, b) for a, b in zip(joint.state_dict().values(), law.joint.state_dict().values(), strict=True))
    np.testing.assert_allclose(truth.factors(truth.latent), law.factors(truth.latent.numpy()), atol=1e-10)


@pytest.mark.parametrize("task", ["in_hospital_mortality", "readmission"])
def test_probabilities_are_the_stored_ones(cohort: Cohort, task: str) -> None:
    truth = Truth.of(cohort)
    np.testing.assert_allclose(truth.probability(truth.latent, task), truth.probabilities[task], atol=1e-10)


def test_refusals(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no truth\.json"):
        Truth(tmp_path)
    with pytest.raises(ValueError, match="unknown task"):
        Truth.of(cohort).probability(Truth.of(cohort).latent, "colour")
