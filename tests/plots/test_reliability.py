"""Reliability diagrams: every group of stays has its point, interval and histogram."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from cm2.calibration import Mean, Probability
from cm2.calibration import reliability as bins_of
from cm2.errors import InputError
from cm2.plots import COLOURS, reliability


def forecast(seed):
    rng = np.random.default_rng(seed)
    predicted = rng.uniform(0.02, 0.6, 400)
    return Probability(predicted, (rng.random(400) < predicted).astype(float))


def test_every_group_is_drawn():
    made = {panel: {group: forecast(i + 2 * j) for j, group in enumerate(("observed", "missing"))} for i, panel in enumerate("ab")}
    curves = {panel: {group: bins_of(one) for group, one in found.items()} for panel, found in made.items()}
    figure = reliability(curves, {panel: {group: one.predicted for group, one in found.items()} for panel, found in made.items()})
    above, below = figure.axes[:2], figure.axes[2:]
    for ax, (panel, found) in zip(above, curves.items(), strict=True):
        lines = {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}
        for group, bins in found.items():
            np.testing.assert_allclose(lines[group].get_xydata(), [(part.predicted, part.observed.estimate) for part in bins])
        assert lines["observed"].get_color() == COLOURS[0] and ax.get_title() == panel
        (low, high) = ax.get_ylim()
        assert all(low <= part.observed.low and part.observed.high <= high for bins in found.values() for part in bins)
    assert [len(ax.patches) for ax in below] == [2, 2]
    plt.close(figure)


def test_a_number_of_few_stays_has_no_interval():
    figure = reliability({"a": {"all": bins_of(Mean(np.ones(1), np.ones(1)))}}, {"a": {"all": np.ones(1)}}, "days")
    assert figure.axes[0].get_ylabel() == "observed days"
    plt.close(figure)


@pytest.mark.parametrize(
    ("curves", "predictions", "said"),
    [
        ({}, {}, "0 groups of stays; give 1 to 5"),
        ({"a": {"all": bins_of(forecast(0))}}, {"a": {}}, "no predictions of all in a; give those of every curve"),
    ],
)
def test_what_cannot_be_drawn_is_named(curves, predictions, said):
    with pytest.raises(InputError, match=said):
        reliability(curves, predictions)
