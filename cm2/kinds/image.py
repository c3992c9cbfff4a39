"""Images: radiographs, photographs."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cm2.batch import Modality, Value
from cm2.config import EncoderConfig
from cm2.errors import InputError
from cm2.kinds.contract import ArrayKind, Data, Fault, Stored
from cm2.networks.encoders import Encoder, ResNetEncoder, ViTEncoder, channels_first, imagenet_digest

GRID = 8
TURN, SCALE, SHIFT = math.radians(45), 0.15, 0.15
"""Largest turn, change of scale and shift (of a side) at strength 1: those of MedFuse's code (Hayat, Geras, Shamout, MLHC 2022), which
also mirrors images. A mirrored chest has its heart on the other side, so this does not."""


COLOURS = 3
PATCHES = 8


class Image(ArrayKind):
    """Grey images ``(H, W)`` or colour images ``(H, W, 3)``, red, green, blue: stored as uint8, read as numbers in [0, 1]."""

    name: ClassVar[str] = "image"
    axes: ClassVar[tuple[str, ...]] = ("n, H, W", "n, H, W, 3")
    dtype: ClassVar[type[np.generic]] = np.uint8

    def example(self, n: int, rng: np.random.Generator) -> Data:
        """32 x 32 pixels of noise."""
        return rng.integers(0, 256, size=(n, 32, 32), dtype=np.uint8)

    def fault(self, data: Data, present: np.ndarray) -> Fault | None:
        """Another number of channels than 1 or 3, images that no encoder reads, or values that are not 0 to 255."""
        if isinstance(data, np.ndarray) and data.ndim == 4 and data.shape[3] != COLOURS:
            channels = f"an image has three channels, the last axis, or none, got shape {data.shape}"
            return None, f"{channels}; {'move the channels to the end' if data.shape[1] == COLOURS else 'choose three, or make it grey'}"
        if isinstance(data, np.ndarray) and data.ndim in (3, 4) and not _readable(*data.shape[1:3]):
            sides = f"images of {data.shape[1]} x {data.shape[2]} pixels are read by no encoder"
            return None, f"{sides}; make them at least {ResNetEncoder.smallest} pixels wide and high"
        return super().fault(data, present)

    def scaled(self, data: Tensor) -> Tensor:
        """Maps 0 to 255 to 0 to 1."""
        return data.float().div_(255)

    def augmented(self, value: Value, strength: float) -> Value:
        """Each image turned, scaled and shifted by `moved`."""
        assert isinstance(value, Tensor)
        return moved(value, strength)

    def extremity(self, stored: Stored, name: str) -> np.ndarray:
        """Mean grey level."""
        return self.mean_of(stored, name, lambda grey: grey)

    def columns(self, value: Tensor) -> Tensor:
        """Means over an 8 x 8 grid; mean, standard deviation, minimum and maximum of all pixels; of each channel."""
        planes = channels_first(value)
        grid = F.adaptive_avg_pool2d(planes, GRID).flatten(1)
        pixels = planes.flatten(2)
        moments = torch.stack([pixels.mean(2), pixels.std(2, correction=0), pixels.amin(2), pixels.amax(2)], dim=1)
        return torch.cat([grid, moments.flatten(1)], dim=1)

    def build_encoder(self, modality: Modality, config: EncoderConfig) -> Encoder:
        """A residual network (paper), or a Vision Transformer (paper, Table 10), which reads square images only."""
        c, (height, width) = config.image, modality.shape[:2]
        if c.kind == "resnet":
            if min(height, width) < ResNetEncoder.smallest:
                smallest = f"a residual network reads images from {ResNetEncoder.smallest} pixels on, got {height} x {width}"
                raise InputError(f"modality {modality.name!r}: {smallest}; prepare larger images, or set encoder.image.kind=vit")
            return ResNetEncoder(c.depth, c.pretrained, c.trainable_blocks, c.allow_random_start)
        if height != width:
            raise InputError(
                f"modality {modality.name!r}: a Vision Transformer reads square images, got {modality.shape}; crop them or use resnet"
            )
        return ViTEncoder(modality.shape[0], c.vit, c.pretrained, c.trainable_blocks, c.allow_random_start)

    def starts_from(self, config: EncoderConfig) -> str:
        """Of the ImageNet weights, if there are any for this network."""
        c = config.image
        if not c.pretrained or (c.depth == 10 if c.kind == "resnet" else c.vit == "small"):
            return ""
        return imagenet_digest(f"resnet{c.depth}" if c.kind == "resnet" else f"vit_{c.vit}", c.allow_random_start)

    def feature_ndim(self, config: EncoderConfig) -> int:
        """Feature map of a residual network ``(B, H, W, C)``, or patches ``(B, L, C)``."""
        return 4 if config.image.kind == "resnet" else 3


def _readable(height: int, width: int) -> bool:
    """A residual network reads images from 32 pixels on, a small Vision Transformer squares of 8 x 8 patches."""
    return min(height, width) >= ResNetEncoder.smallest or (height == width and height % PATCHES == 0 and height > 0)


def moved(images: Tensor, strength: float) -> Tensor:
    """Turns, scales and shifts each image ``(n, H, W)`` or ``(n, H, W, 3)`` at random; what comes from outside is black.

    Args:
        images: on any device, for which this does not wait.
        strength: 1 for the largest `TURN`, `SCALE` and `SHIFT`, uniformly distributed on both sides of none; 0 leaves the images as
            they are but for rounding.
    """
    n, height, width = images.shape[:3]
    turn, scale, right, down = (strength * (2 * torch.rand(n, 4, device=images.device) - 1)).unbind(dim=1)
    turn, scale, right, down = TURN * turn, 1 + SCALE * scale, 2 * SHIFT * right, 2 * SHIFT * down  # a side is two units long
    cosine, sine = turn.cos() / scale, turn.sin() / scale
    # to each pixel the place it comes from; a turn of coordinates whose units differ
    rows = (cosine, -sine * height / width, -right), (sine * width / height, cosine, -down)
    map_ = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    with torch.autocast(images.device.type, enabled=False):
        grid = F.affine_grid(map_, [n, 1, height, width], align_corners=False)
        planes = F.grid_sample(channels_first(images.float()), grid, align_corners=False)
    return planes[:, 0] if images.ndim == 3 else planes.movedim(1, -1)
