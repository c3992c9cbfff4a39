"""Axes say what they are."""

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from cm2.plots import alpha_over_epochs, curves, panels


@pytest.mark.parametrize(("count", "columns"), [(1, 3), (5, 3), (6, 3)])
def test_every_column_is_labelled_below_its_last_panel(count, columns):
    figure, axes = panels([f"panel {k}" for k in range(count)], columns, ("x", "y"))
    assert len(axes) == count == sum(ax.get_visible() for ax in figure.axes)
    for place, ax in enumerate(axes):
        assert (ax.get_xlabel() == "x") == (place + columns >= count)
        assert (ax.get_ylabel() == "y") == (place % columns == 0)
    plt.close(figure)


def test_lines_over_epochs_have_labels():
    history = pd.DataFrame({"epoch": [0, 1], "alpha": [1.1, 1.5], "kendall_tau": [0.1, 0.33]})
    for figure in (alpha_over_epochs({"a": history, "b": history}, truth=2.5), curves(history, "epoch", {"alpha": "α"}, "epoch", "α")):
        assert all(ax.get_xlabel() and ax.get_ylabel() for ax in figure.axes)
        plt.close(figure)
