"""Drawings of tables take whatever metrics their tasks have."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from cm2.plots import COLOURS, differences, heat_map, over_components, ranks
from cm2.tasks import TASKS


def over(metrics):
    """Values of two tasks in two settings over three numbers of components."""
    lines = [
        {"components": k, "metric": metric, "task": task, "section": section, "value": 2.0 + k, "low": 1.5 + k, "high": 2.5 + k}
        for metric, task in metrics
        for section in ("partial", "matched")
        for k in (1, 2, 3)
    ]
    return pd.DataFrame(lines)


def every_metric():
    return [(metric.name, kind) for kind, cls in TASKS.own().items() for metric in cls.offers]


def test_a_panel_for_each_metric_and_a_line_for_each_task_that_has_it():
    metrics = every_metric()
    frame = over(metrics)
    frame.loc[frame["metric"].isin(("auroc", "accuracy")), ["value", "low", "high"]] /= 10
    figure = over_components(frame)
    shown = [ax for ax in figure.axes if ax.lines]
    names = list(dict.fromkeys(name for name, _ in metrics))
    assert len(shown) == len(names)
    for ax, name in zip(shown, names, strict=True):
        tasks = {task for metric, task in metrics if metric == name}
        assert len(ax.lines) == 2 * len(tasks) and ax.get_ylabel() not in ("", name)
    rmse = shown[names.index("rmse")]
    assert rmse.get_ylim()[1] > 1 and shown[0].get_ylim()[1] <= 1
    assert len(figure.legends[0].texts) == 2 * len(TASKS.own())


def test_what_may_not_be_shown_is_not_drawn():
    frame = over([("rmse", "stay")]).assign(value=np.nan)
    with pytest.raises(ValueError, match="no value of the table may be shown"):
        over_components(frame)
    two = pd.concat([over([("auroc", "death")]).assign(value=np.nan), over([("rmse", "stay")])])
    assert [ax.get_ylabel() for ax in over_components(two).axes if ax.lines] == ["RMSE"]


def compared(metric):
    line = {"section": "s", "task": "t", "metric": metric, "value": 3.0, "difference_low": -0.2, "difference_high": 0.4}
    line |= {"difference_stays_low": -0.1, "difference_stays_high": 0.3, "difference_p_holm": 0.01, "difference_se_seeds": 0.1}
    return [line | {"row": "CM2", "difference_estimate": np.nan}, line | {"row": "Other", "difference_estimate": 0.1}]


@pytest.mark.parametrize(("metric", "heading"), [("rmse", "RMSE"), ("concordance", "Concordance"), ("macro_auroc", "Macro AUROC")])
def test_differences_are_in_the_first_metric_that_is_compared(metric, heading):
    frame = pd.DataFrame([*compared(metric), *compared("brier")])
    for draw in (differences, heat_map):
        texts = [text.get_text() for text in draw(frame).findobj(match=lambda each: hasattr(each, "get_text"))]
        assert any(text.replace("\n", " ").startswith(f"{heading} minus that of") for text in texts), texts
    with pytest.raises(ValueError, match="no row of the table was compared in r2"):
        differences(frame, "r2")


NAMES = ["Other", "MedFuse, encoders pre-trained", "a row whose name is longer than a panel is wide"]


def of_blocks(blocks):
    """Differences of three rows in many blocks; that of the first is decided."""
    line = {"metric": "auroc", "difference_low": -0.031, "difference_high": 0.028, "difference_stays_low": -0.02}
    line |= {"difference_stays_high": 0.02, "difference_se_seeds": 0.01, "value": 0.8}
    estimates = {"CM2, version 3": np.nan} | dict.fromkeys(NAMES, 0.01)
    frame = pd.DataFrame(
        line | {"section": section, "task": task, "row": row, "difference_estimate": value}
        for section, task in blocks
        for row, value in estimates.items()
    )
    return frame.assign(difference_p_holm=np.where(frame["row"] == "Other", 0.01, 1))


def test_panels_of_differences_stand_below_each_other_and_are_readable_on_a_phone():
    blocks = [(section, task) for section in ("partially matched", "totally matched") for task in ("IHM", "In hospital > 7 d")]
    figure = differences(of_blocks(blocks), reference="CM2, version 3")
    figure.canvas.draw()
    assert [ax.get_title() for ax in figure.axes] == [f"{task}, {section}" for section, task in blocks]
    boxes = [ax.get_position() for ax in figure.axes]
    assert len({round(box.x0, 6) for box in boxes}) == 1 and all(above.y0 > below.y1 for above, below in pairwise(boxes))
    assert figure.get_size_inches()[0] <= 5 and boxes[0].width * 5 > 2
    for ax in figure.axes:
        ticks = [label.get_window_extent() for label in ax.get_xticklabels() if label.get_text()]
        assert len(ticks) >= 2 and all(left.x1 + 3 < right.x0 for left, right in pairwise(ticks))
        sides = [label.get_window_extent() for label in ax.get_yticklabels()]
        assert all(box.x0 >= 0 for box in sides) and all(above.y0 > below.y1 for above, below in pairwise(sides))
    assert figure.axes[-1].get_xlabel() == "AUROC minus that of CM2, version 3"
    plt.close(figure)


def test_what_is_decided_is_a_filled_circle_and_all_else_a_hollow_square():
    figure = differences(of_blocks([("s", "t")]), reference="CM2, version 3")
    marks = [(line.get_marker(), to_hex(line.get_markerfacecolor()).upper()) for line in figure.axes[0].lines]
    assert [mark for mark in marks if mark[0] in ("o", "s")] == [("o", COLOURS[0]), ("s", "#FFFFFF"), ("s", "#FFFFFF")]
    plt.close(figure)


def test_overviews_are_no_wider_than_a_phone_can_show():
    blocks = [(section, task) for section in ("partially matched", "totally matched") for task in ("IHM", "In hospital > 7 d")]
    mean = pd.Series(np.arange(1.0, 17.0), index=[*NAMES, *(f"method {k}" for k in range(13))])
    for figure in (heat_map(of_blocks(blocks), reference="CM2, version 3"), ranks(mean, 4.0)):
        figure.canvas.draw()
        assert figure.get_size_inches()[0] <= 5
        labels = [text for ax in figure.axes for text in (*ax.texts, *ax.get_xticklabels())]
        assert all(text.get_fontsize() >= 8.5 for text in labels), "8 pixels on a phone"
        plt.close(figure)
