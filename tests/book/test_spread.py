"""Digits that hold: how a number is printed when it is known how far it moves between machines."""

import json
import math

import nbformat
import numpy as np
import pytest

from cm2.book import build
from cm2.book.spread import glued, printed, spread, spreads, with_digits_that_hold
from tests.book import minibook


@pytest.mark.parametrize(
    ("value", "format", "moved", "shown"),
    [
        (0.83124, ".4f", 0.002, "0.83"),
        (0.83124, ".4f", 0.0, "0.8312"),
        (0.83124, ".3f", 1e-9, "0.831"),
        (0.0123, "+.4f", 0.002, "+0.01"),
        (0.1234, ".1%", 0.004, "12%"),
        (1234.0, ",.0f", 20.0, "1,200"),
        (1234, ",d", 20, "1,200"),
        (1.2345e-5, ".2e", 1e-6, "1e-05"),
        (1.2345e-5, ".3g", 1e-6, "1e-05"),
        (7, "d", 1, "≈ 7"),
        (-5.2, ".1f", 30.0, "≈ -5"),
        (0.25, "", 0.01, "0.2"),
        (math.inf, ".2f", 1.0, "inf"),
    ],
)
def test_no_digit_is_printed_that_does_not_hold(value, format, moved, shown):
    assert printed(value, format, moved) == shown


def test_what_is_printed_is_the_same_up_to_half_a_unit_wherever_it_was_computed():
    rng = np.random.default_rng(0)
    for _ in range(500):
        value, size = rng.uniform(0.01, 1000), 10 ** rng.uniform(-7, -1)
        there = value * (1 + size * rng.uniform(-0.5, 0.5, size=4))
        moved = spread(list(there))
        texts = [printed(v, ".6f", moved) for v in there]
        assert len({text.startswith("≈") for text in texts}) == 1
        shown = [float(text.removeprefix("≈ ")) for text in texts]
        digits = len(texts[0].partition(".")[2])
        unit = 10.0**-digits if digits else 10.0 ** math.ceil(math.log10(2 * moved))
        assert max(shown) - min(shown) <= unit * (1 + 1e-9)


def test_the_spread_is_that_of_the_values_there_are():
    assert spread([1.0, None, 1.5, math.nan]) == 0.5 and spread([None]) == 0.0 and spread([2.0]) == 0.0


def test_a_book_prints_the_digits_that_hold(tmp_path):
    chapter = minibook.notebook(
        [
            minibook.markdown("# Tails"),
            minibook.code('profile = "quick"\nseed = 0', tags=["parameters"]),
            minibook.code('from myst_nb import glue\n\nfrom cm2.results import record\n\nglue("a", 0.81234, display=False)'),
            minibook.code('record("tails", "b", 0.81234, format=".4f")\nrecord("tails", "c", 0.81234, format=".4f")'),
            minibook.markdown("Glued {glue:text}`a:.4f`, recorded {res}`tails:b`, still {res}`tails:c`."),
        ]
    )
    root = minibook.write(tmp_path, tails=chapter, preface=minibook.notebook([minibook.markdown("# P\n\n{res}`tails:b|.3f`")]))
    numbers = {"tails": {"a": [0.81, 0.812], "tails:b": [0.81, 0.8102], "tails:c": [0.81234]}}
    (root / "results").mkdir()
    (root / "results" / "portability.json").write_text(json.dumps({"profile": "quick", "environments": [], "numbers": numbers}))
    assert spreads(root, "smoke") == {} and spreads(tmp_path / "elsewhere", None) == {}
    index = build(root=root)
    page = (index.parent / "book" / "tails.html").read_text(encoding="utf-8")
    assert "Glued 0.81, recorded" in page and ">0.812</span>, still" in page and ">0.8123</span>." in page
    assert ">0.812</span>" in index.read_text(encoding="utf-8")


def test_glued_words_are_no_numbers():
    output = nbformat.v4.new_output("display_data", data={"application/papermill.record/text/plain": "'word'"})
    output.metadata["scrapbook"] = {"name": "application/papermill.record/w"}
    content = {"cells": [{"cell_type": "code", "outputs": [output]}, {"cell_type": "markdown", "source": "{glue:text}`w`"}]}
    assert glued(content) == {}
    assert with_digits_that_hold(content, {"w": 1.0})["cells"][1]["source"] == "{glue:text}`w`"
