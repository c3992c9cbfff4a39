"""Figures: what they show is what the laws say, and the files rebuild byte for byte."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from cm2.copulas import make
from cm2.figures import figure_2, frank_alpha, save
from cm2.plots import INK, alpha_over_epochs, copula_densities, curves, density_grid


def luminance(colour):
    r, g, b = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (r, g, b)]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


def test_the_ink_is_readable_on_white_and_on_the_dark_page():
    ink, white, dark = luminance(INK), 1.0, luminance("#121212")
    assert (white + 0.05) / (ink + 0.05) > 4
    assert (ink + 0.05) / (dark + 0.05) > 4


def test_figure_2_compares_families_at_equal_dependence():
    drawing = figure_2(kendall_tau=0.5)
    assert set(drawing.data["family"]) == {"Gumbel", "Gaussian", "Frank"}
    means = drawing.data.groupby("family")["density"].mean()
    np.testing.assert_allclose(means, 1, atol=0.05)
    plt.close(drawing.figure)


@pytest.mark.parametrize("tau", [0.1, 0.6, 0.9])
def test_frank_alpha_inverts_kendalls_tau(tau):
    assert make("frank", 2, alpha=frank_alpha(tau))().kendall_tau.item() == pytest.approx(tau, abs=1e-6)


def test_density_grid_is_indexed_by_the_second_coordinate_first():
    u, density = density_grid(make("clayton", 2, alpha=3.0)(), points=10)
    assert u.shape == (10,)
    assert density[0, 0] > density[-1, -1]


def test_save_is_complete_and_reproducible(tmp_path):
    first, second = save(figure_2(), tmp_path / "a", "figure-2"), save(figure_2(), tmp_path / "b", "figure-2")
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name
    assert len(pd.read_csv(tmp_path / "a" / "figure-2.csv")) == 3 * 50 * 50


def test_axes_have_labels():
    history = pd.DataFrame({"epoch": [0, 1], "alpha": [1.1, 1.5], "kendall_tau": [0.1, 0.33]})
    figures = [
        alpha_over_epochs({"a": history, "b": history}, truth=2.5),
        curves(history, "epoch", {"alpha": "α"}, "epoch", "α"),
        copula_densities({"independence": make("independence", 2)()}),
    ]
    for figure in figures:
        assert all(ax.get_xlabel() for ax in figure.axes[:1])
        assert all(ax.get_ylabel() for ax in figure.axes[:1])
        plt.close(figure)
