"""Figures: what they show is what the laws say, and the files rebuild byte for byte."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from cm2.copulas import make
from cm2.figures import figure_2, frank_alpha, save


def test_figure_2_compares_families_at_equal_dependence():
    drawing = figure_2(kendall_tau=0.5)
    assert set(drawing.data["family"]) == {"Gumbel", "Gaussian", "Frank"}
    means = drawing.data.groupby("family")["density"].mean()
    np.testing.assert_allclose(means, 1, atol=0.05)
    plt.close(drawing.figure)


@pytest.mark.parametrize("tau", [0.1, 0.6, 0.9])
def test_frank_alpha_inverts_kendalls_tau(tau):
    assert make("frank", 2, alpha=frank_alpha(tau))().kendall_tau.item() == pytest.approx(tau, abs=1e-6)


def test_save_is_complete_and_reproducible(tmp_path):
    first, second = save(figure_2(), tmp_path / "a", "figure-2"), save(figure_2(), tmp_path / "b", "figure-2")
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name
    assert len(pd.read_csv(tmp_path / "a" / "figure-2.csv")) == 3 * 50 * 50
