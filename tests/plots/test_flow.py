"""The flow chart: every step has its box, and what it drops stands beside it."""

import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

from cm2.plots import flow_chart

STEPS = [
    {"step": "ICU stays", "stays": 1300, "dropped": 0, "note": ""},
    {"step": "known admission", "stays": 1300, "dropped": 0, "note": ""},
    {"step": "a very long name of a step that cannot stand in one line of the box", "stays": 1011, "dropped": 289, "note": "why"},
    {"step": "with series and note", "stays": 400, "dropped": 611, "note": "the others stay in the cohort"},
]


def test_every_step_has_a_box_with_its_count():
    figure = flow_chart(STEPS)
    texts = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == len(STEPS)
    assert [box.get_linestyle() for box in boxes] == ["-", "-", "-", "--"]
    assert [text.splitlines()[-1] for text in texts if "\n" in text] == ["1,300", "1,300", "1,011", "400"]
    assert [text for text in texts if "\n" not in text] == ["289 dropped", "611 without"]
    plt.close(figure)


def test_nothing_leaves_its_box_or_the_figure():
    figure = flow_chart(STEPS)
    figure.canvas.draw()
    ax = figure.axes[0]
    boxes = [patch.get_window_extent() for patch in ax.patches if isinstance(patch, FancyBboxPatch)]
    for text in ax.texts:
        if not text.get_text():
            continue
        extent = text.get_window_extent()
        assert figure.bbox.x0 <= extent.x0 and extent.x1 <= figure.bbox.x1
        if "\n" in text.get_text():
            assert any(b.x0 <= extent.x0 and extent.x1 <= b.x1 and b.y0 <= extent.y0 and extent.y1 <= b.y1 for b in boxes), text
    plt.close(figure)


def test_a_chart_needs_a_step():
    with pytest.raises(ValueError, match="no step"):
        flow_chart([])
