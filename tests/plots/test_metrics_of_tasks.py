"""Drawings of tables take whatever metrics their tasks have."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cm2.plots import differences, heat_map, over_components
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
