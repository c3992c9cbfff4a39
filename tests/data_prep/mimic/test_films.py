"""How a radiograph becomes a small square: its short side scaled, its centre cropped."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from data_prep.mimic.films import read_film

SIZE, SHORT, LONG = 28, 32, 67


@pytest.fixture
def square(tmp_path):
    def read(pixels):
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "film.png")
        return read_film(tmp_path / "film.png", SIZE)

    return read


def test_the_centre_is_cropped(square):
    film = np.random.default_rng(0).integers(256, size=(SHORT, LONG))
    centre = film[2:30, 19:47]
    assert np.array_equal(square(film), centre)
    assert np.array_equal(square(film.T), centre.T)


def test_the_short_side_is_scaled(square):
    brightness = np.add.outer(np.arange(2 * SHORT), np.arange(2 * LONG))
    halved = brightness.reshape(SHORT, 2, LONG, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(square(brightness), halved[2:30, 19:47], atol=1)
