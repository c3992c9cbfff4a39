"""The picture of the flow chart: what stands in it and where."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

from data_prep.mimic.flow import draw_flow

STEPS = [
    {"step": "ICU stays", "stays": 1200, "dropped": 0},
    {"step": "length > 2 & < 30 days", "stays": 1000, "dropped": 200},
    {"step": "listed diagnosis", "stays": 1000, "dropped": 0},
]


def test_each_step_has_a_box_with_its_stays_and_beside_it_those_dropped(tmp_path):
    draw_flow(STEPS, tmp_path / "flow.svg")
    picture = ElementTree.parse(tmp_path / "flow.svg").getroot()
    boxes = [[float(box.get(name)) for name in ("x", "y", "width", "height")] for box in picture.findall("{*}rect")]
    assert all(above[1] + above[3] < below[1] for above, below in pairwise(boxes))
    right, bottom = (float(picture.get(name)) for name in ("width", "height"))
    found = {}
    for text in picture.findall("{*}text"):
        x, y = float(text.get("x")), float(text.get("y"))
        assert 0 < x < right and 0 < y < bottom
        (row,) = (i for i, (_, top, _, height) in enumerate(boxes) if top + 14 <= y <= top + height)
        beside = x > sum(boxes[row][::2])
        found.setdefault((row, beside), []).append(text.text)
    assert found == {
        (0, False): ["ICU stays", "1,200"],
        (1, False): ["length > 2 & < 30 days", "1,000"],
        (1, True): ["\N{MINUS SIGN}200"],
        (2, False): ["listed diagnosis", "1,000"],
    }
