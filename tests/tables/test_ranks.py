"""Mean ranks and their critical difference, against the values that Demšar printed; groups of methods that are not distinct."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from cm2.plots import heat_map, ranks
from cm2.plots.comparisons import _groups
from cm2.tables.ranks import critical_difference, mean_ranks
from cm2.tables.result import Cell, TableResult

VALUES = {"a": (0.9, 0.8, 0.7), "b": (0.8, 0.8, 0.6), "c": (0.7, 0.6, 0.9)}


def made(metric="auroc", values=VALUES):
    cells = [
        Cell(section, row, "death", metric, value=value)
        for row, row_values in values.items()
        for section, value in zip(("x", "y", "z"), row_values, strict=True)
    ]
    return TableResult("mine", "Mine", "results", "a", tuple(cells))


def test_ranks_are_means_over_blocks_with_shared_ties():
    mean, blocks = mean_ranks(made())
    assert blocks == 3 and dict(mean) == pytest.approx({"a": (1 + 1.5 + 2) / 3, "b": (2 + 1.5 + 3) / 3, "c": (3 + 3 + 1) / 3})
    assert list(mean.index) == ["a", "b", "c"]
    turned, _ = mean_ranks(made("brier"), "brier")
    assert dict(turned) == pytest.approx({row: 4 - rank for row, rank in mean.items()})


def test_a_row_that_a_block_lacks_has_no_rank():
    mean, _ = mean_ranks(made(values=VALUES | {"d": (0.5, None, 0.4)}))
    assert set(mean.index) == set(VALUES)
    with pytest.raises(ValueError, match="1 rows have a value of auroc in every block"):
        mean_ranks(made(values={"a": (0.9, 0.8, 0.7), "b": (0.5, None, 0.4)}))


@pytest.mark.parametrize(("methods", "quantile"), [(2, 1.960), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_is_that_of_demsars_table(methods, quantile):
    expected = quantile * np.sqrt(methods * (methods + 1) / (6 * 14))
    assert critical_difference(methods, 14) == pytest.approx(expected, rel=5e-4)


@pytest.mark.parametrize(("methods", "blocks"), [(1, 3), (3, 0)])
def test_nothing_to_compare(methods, blocks):
    with pytest.raises(ValueError, match="two methods or more"):
        critical_difference(methods, blocks)


def test_groups_are_the_largest_within_the_critical_difference():
    assert _groups(np.array([1.0, 1.5, 2.4, 4.0]), 1.0) == [(0, 1), (1, 2)]
    assert _groups(np.array([1.0, 1.5, 2.0]), 1.0) == [(0, 2)]
    assert _groups(np.array([1.0, 3.0]), 1.0) == []


def test_the_overviews_show_every_row():
    figure = ranks(mean_ranks(made())[0], 1.5)
    assert {"a", "b", "c", "critical difference 1.5"} <= {text.get_text().strip() for text in figure.axes[0].texts}
    frame = pd.DataFrame(
        {"section": "x", "task": "death", "metric": "auroc", "row": ["a", "b", "c"]}
        | {
            "difference_estimate": [np.nan, 0.01, -0.02],
            "difference_p_holm": [np.nan, 0.01, 0.01],
            "difference_se_seeds": [np.nan, 0.1, np.nan],
        }
    )
    figure = heat_map(frame, reference="a")
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "c"]
    assert [text.get_text() for text in ax.texts] == ["+0.010", "-0.020"] and len(ax.patches) == 1, "one seed decides nothing"
    with pytest.raises(ValueError, match="no row of the table was compared in aupr"):
        heat_map(frame, "aupr", "a")
    plt.close("all")
