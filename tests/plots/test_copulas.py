"""Figures of laws on the unit square show those laws."""

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from cm2.copulas import make
from cm2.plots import conditional_quantiles, copula_densities, density_grid, normal_score_densities, normal_score_grid


def test_density_grid_is_indexed_by_the_second_coordinate_first():
    u, density = density_grid(make("clayton", 2, alpha=3.0)(), points=10)
    assert u.shape == (10,)
    assert density[0, 0] > density[-1, -1]


def test_normal_scores_of_the_gaussian_copula_are_normal():
    rho = 0.6
    z, density = normal_score_grid(make("gaussian", 2, rho=torch.tensor(rho, dtype=torch.float64))(), reach=8.0, points=9)
    x, y = np.meshgrid(z, z)
    exact = np.exp(-(x * x - 2 * rho * x * y + y * y) / (2 * (1 - rho**2))) / (2 * np.pi * np.sqrt(1 - rho**2))
    np.testing.assert_allclose(density, exact, rtol=1e-9)


def test_normal_scores_are_indexed_by_the_second_coordinate_first():
    z, density = normal_score_grid(make("clayton", 2, alpha=torch.tensor(3.0, dtype=torch.float64), rotation=90)(), points=7)
    assert density[0, -1] > density[-1, 0]  # rotated by 90 degrees, the tail lies at (1, 0)
    assert density.sum() * (z[1] - z[0]) ** 2 == pytest.approx(1, abs=0.2)


def test_conditional_quantiles_of_independence_do_not_depend_on_the_other():
    figure = conditional_quantiles({"independence": make("independence", 2)()})
    (median,) = figure.axes[0].get_lines()
    np.testing.assert_allclose(median.get_ydata(), 0, atol=1e-12)
    plt.close(figure)


def test_conditional_quantiles_of_the_gaussian_copula_are_straight():
    figure = conditional_quantiles({"Gaussian": make("gaussian", 2, rho=torch.tensor(0.6, dtype=torch.float64))()})
    (median,) = figure.axes[0].get_lines()
    np.testing.assert_allclose(median.get_ydata(), 0.6 * np.asarray(median.get_xdata()), atol=1e-9)
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    width = np.ptp(band[np.isclose(band[:, 0], 0)][:, 1])
    assert width == pytest.approx(2 * 1.6448536 * 0.8, rel=1e-5)
    plt.close(figure)


@pytest.mark.parametrize("draw", [copula_densities, normal_score_densities, conditional_quantiles])
def test_panels_are_named_and_labelled(draw):
    figure = draw({name: make(name, 2)() for name in ("independence", "frank")})
    assert [ax.get_title() for ax in figure.axes[:2]] == ["independence", "frank"]
    assert all(ax.get_xlabel() for ax in figure.axes[:2])
    assert figure.axes[0].get_ylabel()
    plt.close(figure)
