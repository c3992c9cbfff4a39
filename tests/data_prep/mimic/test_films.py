"""How a radiograph becomes a small square: its short side scaled, its centre cropped; and what is no radiograph."""

from __future__ import annotations

import struct
import warnings
import zlib

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


def sloped(dtype=np.uint8, most=255):
    """A picture that differs from all its turns and mirrors."""
    return (np.add.outer(np.arange(40) ** 2, 3 * np.arange(60)) / (39**2 + 3 * 59) * most).astype(dtype)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_film_is_upright_whatever_its_exif_says(orientation, tmp_path):
    upright = Image.fromarray(sloped())
    turn = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = upright
    for how in turn.get(orientation, []):
        stored = stored.transpose(how)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    upright.save(tmp_path / "upright.jpg", quality=95)
    found, expected = (read_film(tmp_path / f"{name}.jpg", 32).astype(int) for name in ("turned", "upright"))
    assert np.abs(found - expected).max() <= 12


@pytest.mark.parametrize(("dtype", "most"), [(np.uint16, 65535), (np.uint16, 4095)])
def test_more_than_8_bits_are_scaled_not_clipped(dtype, most, tmp_path):
    Image.fromarray(sloped(dtype, most)).save(tmp_path / "deep.png")
    Image.fromarray(sloped()).save(tmp_path / "plain.png")
    found, expected = (read_film(tmp_path / f"{name}.png", 32).astype(int) for name in ("deep", "plain"))
    assert np.abs(found - expected).max() <= 2


@pytest.mark.parametrize("level", [0, 127, 255])
@pytest.mark.parametrize("noise", [0, 3])
def test_a_film_without_contrast_is_none(level, noise, tmp_path):
    flat = np.clip(level + np.random.default_rng(0).integers(-noise, noise + 1, (64, 80)), 0, 255)
    Image.fromarray(flat.astype(np.uint8)).save(tmp_path / "flat.png")
    with pytest.raises(ValueError, match="next to no contrast"):
        read_film(tmp_path / "flat.png", 32)
    Image.fromarray(np.full((64, 80), 900, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="next to no contrast"):
        read_film(tmp_path / "deep.png", 32)


@pytest.mark.parametrize("side", [8_200, 20_000])
def test_a_bomb_is_not_unpacked(side, tmp_path):
    """A small file of many pixels; the larger one makes Pillow itself refuse."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    size = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    (tmp_path / "bomb.jpg").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(ValueError, match="more than 64,000,000"):
            read_film(tmp_path / "bomb.jpg", 32)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "EPS", "WEBP"])
def test_no_other_format_is_opened(kind, tmp_path):
    Image.fromarray(sloped()).save(tmp_path / "film.jpg", format=kind)
    with pytest.raises(OSError, match="cannot identify image file"):
        read_film(tmp_path / "film.jpg", 32)
