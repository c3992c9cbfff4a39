"""Images of one's own: arrays, images of PIL and files, grey or in colour, as whole numbers 0 to 255 of one size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from cm2.cohorts.own.declared import Images
from cm2.cohorts.own.drafts import Draft, Reading
from cm2.cohorts.own.incoming import Place, Plain, is_missing
from cm2.cohorts.writing import PreparedModality
from cm2.environment.extras import require
from cm2.errors import InputError, spelled

FILES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
COLOURS = 3


class ImageDraft(Draft):
    """Images of one size by stay."""

    def __init__(self, place: Place, data: np.ndarray, present: np.ndarray) -> None:
        super().__init__(place, present, {})
        self.data = data

    def prepared(self, rows: np.ndarray, training: np.ndarray) -> PreparedModality:
        """The images of these stays."""
        return PreparedModality("image", self.data[rows], self.present[rows])

    def applied(self, entry: Mapping[str, Any], found: Mapping[str, Any]) -> np.ndarray:
        """The images, of the size and with the channels of the cohort's."""
        if (shape := self.data.shape[1:]) != tuple(entry["shape"]):
            known, new = (" x ".join(map(str, each)) for each in (entry["shape"], shape))
            raise InputError(f"{self.place.name}: images of {new} pixels, those of the cohort have {known}; resize them: Images(size=)")
        return self.data


def read_images(declared: Images, value: Plain | Path, reading: Reading) -> ImageDraft:
    """Reads images.

    Raises:
        InputError: rows that cannot be matched, a file that is no image, images of several sizes, channels that are neither one nor three,
            or values outside the range from black to white.
    """
    items = _files(value, reading) if isinstance(value, Path) else reading.by_id(value)
    keys = reading.roster.keys if reading.roster.given else None
    place = Place(reading.name, reading.roster.protected, keys)
    images = [None if _missing(item) else _image(item, declared, stay, place) for stay, item in enumerate(items)]
    there = [image for image in images if image is not None]
    if not there:
        raise InputError(f"{reading.name}: there is no image; leave the modality out")
    colour = declared.colour if declared.colour is not None else any(image.ndim == 3 for image in there)
    size = (declared.size, declared.size) if isinstance(declared.size, int) else declared.size
    shape = tuple(size or there[0].shape[:2])
    data = np.zeros((len(images), *shape, COLOURS) if colour else (len(images), *shape), dtype=np.uint8)
    for stay, image in enumerate(images):
        if image is None:
            continue
        if image.shape[:2] != shape and size is None:
            said = f"the image has {image.shape[0]} x {image.shape[1]} pixels, those before have {shape[0]} x {shape[1]}"
            place.fault(said, f"bring all to one size: {spelled('Images(..., size=(height, width))', '--image-size')}", stay)
        data[stay] = _channels(_resized(image, shape), colour)
    return ImageDraft(place, data, np.array([image is not None for image in images]))


def _files(folder: Path, reading: Reading) -> list[Any]:
    """Paths of the files of a folder, by stay; a file is called after its id."""
    if not folder.is_dir():
        raise InputError(f"{reading.name}: {folder} is no folder; give the folder with the images")
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in FILES):
        if path.stem in found:
            names = "" if reading.roster.protected else f" ({found[path.stem].name}, {path.name})"
            raise InputError(f"{reading.name}: two images have one id{names}; keep one of them")
        found[path.stem] = path
    if not found:
        raise InputError(f"{reading.name}: {folder} has no image; files are called ID.png, or {', '.join(FILES[1:])}")
    return reading.by_id(dict(found))


def _missing(item: Any) -> bool:
    if not hasattr(item, "getbands") and is_missing(item):
        return True
    return isinstance(item, np.ndarray) and item.dtype.kind == "f" and bool(np.isnan(item).all())


def _image(item: Any, declared: Images, stay: int, place: Place) -> np.ndarray:
    """``(H, W)`` or ``(H, W, 3)`` uint8."""
    if isinstance(item, str | Path):
        item = _opened(Path(item), declared, stay, place)
    elif hasattr(item, "getbands") and hasattr(item, "convert"):  # an image of PIL
        item = _pixels(item)
    array = np.asarray(item)
    if array.ndim == 3 and array.shape[2] not in (1, COLOURS) and array.shape[0] in (1, COLOURS):
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != COLOURS) or 0 in array.shape or array.dtype.kind not in "biuf":
        said = f"an image has the shape (H, W), (H, W, 3) or (3, H, W), got {array.dtype} {array.shape}"
        place.fault(said, "give grey images or three colours, in numbers", stay)
    return _in_range(array, declared, stay, place)


def _in_range(array: np.ndarray, declared: Images, stay: int, place: Place) -> np.ndarray:
    """Values from black to white as 0 to 255."""
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    high = declared.high if declared.high is not None else 1 if array.dtype.kind == "f" else 255
    if not high > declared.low:
        raise InputError(f"{place.name}: white = {high} is not above black = {declared.low}; give Images(..., low=, high=)")
    if not (np.isfinite(array).all() and array.min() >= declared.low and array.max() <= high):
        said = f"values outside {declared.low:g} (black) to {high:g} (white)"
        remedy = spelled("say what is black and white: Images(..., low=, high=)", "give whole numbers up to 255, or fractions of 1")
        place.fault(said, f"{remedy}, and correct what is not finite", stay)
    if (declared.low, high) == (0, 255) and array.dtype.kind in "iu":
        return array.astype(np.uint8)
    return np.rint((array.astype(np.float64) - declared.low) * (255 / (high - declared.low))).astype(np.uint8)


def _opened(path: Path, declared: Images, stay: int, place: Place) -> np.ndarray:
    require("PIL")
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return _pixels(image)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
        where = "the file" if place.protected else str(path)
        return place.fault(f"{where} is no image that can be read", "replace it, or leave it out", stay)


def _pixels(image: Any) -> np.ndarray:
    """An image of PIL as an array: palettes and transparency become colours, 16 bits stay."""
    if image.mode in ("1", "L", "RGB", "F") or image.mode.startswith("I"):
        return np.asarray(image)
    return np.asarray(image.convert("L" if image.mode == "LA" else "RGB"))


def _resized(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    if image.shape[:2] == tuple(shape):
        return image
    planes = torch.from_numpy(np.ascontiguousarray(image)).float().reshape(*image.shape[:2], -1).permute(2, 0, 1)[None]
    made = interpolate(planes, size=tuple(shape), mode="bilinear", antialias=True, align_corners=False)[0].round().clamp(0, 255)
    array = made.permute(1, 2, 0).numpy().astype(np.uint8)
    return array if image.ndim == 3 else array[:, :, 0]


def _channels(image: np.ndarray, colour: bool) -> np.ndarray:
    if colour:
        return image if image.ndim == 3 else np.repeat(image[:, :, None], COLOURS, axis=2)
    # the luma of ITU-R BT.601, which PIL's conversion to grey has too
    return image if image.ndim == 2 else np.rint(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
