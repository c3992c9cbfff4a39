"""Strips of errors: every point is drawn, and what is no number stands apart."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from cm2.plots import error_strips


def test_every_error_has_its_place():
    errors = [1e-16, 0.0, 1e-3, np.nan, np.inf, 1e9]
    frame = pd.DataFrame({"panel": "float64", "family": ["a", "a", "a", "b", "b", "b"], "formula": "typed", "error": errors})
    figure = error_strips(pd.concat([frame, frame.assign(panel="float32", formula="ours")]), floor=1e-17, ceiling=1e2)
    heights = np.concatenate([points.get_offsets()[:, 1] for points in figure.axes[0].collections])
    np.testing.assert_allclose(heights[:3], [1e-16, 1e-17, 1e-3])
    assert heights[3] == heights[4] > heights[5] == 1e2
    top = heights[3]
    assert dict(zip(figure.axes[0].get_yticks(), [t.get_text() for t in figure.axes[0].get_yticklabels()], strict=True))[top] == "no number"
    low, high = figure.axes[0].get_ylim()
    assert low < 1e-17 and high > top
    plt.close(figure)


def test_families_are_told_apart():
    frame = pd.DataFrame({"panel": "p", "family": ["a", "b"] * 20, "formula": ["x"] * 20 + ["y"] * 20, "error": 1e-3})
    figure = error_strips(frame)
    where = np.concatenate([points.get_offsets()[:, 0] for points in figure.axes[0].collections])
    family = np.tile([0, 1], 20)
    np.testing.assert_array_equal(np.asarray(where).round(), family)
    plt.close(figure)
