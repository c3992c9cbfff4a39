"""The house style: readable on white and on black."""

import matplotlib as mpl
import numpy as np

from cm2.plots import INK, STYLE, style


def luminance(colour):
    r, g, b = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (r, g, b)]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


def test_the_ink_is_readable_on_white_and_on_the_dark_page():
    ink, white, dark = luminance(INK), 1.0, luminance("#121212")
    assert (white + 0.05) / (ink + 0.05) > 4
    assert (ink + 0.05) / (dark + 0.05) > 4


def test_the_style_ends_with_its_block():
    before = mpl.rcParams["text.color"]
    with style():
        assert mpl.rcParams["text.color"] == STYLE["text.color"] == INK
    assert mpl.rcParams["text.color"] == before
