"""Images: radiographs."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cm2.batch import Modality
from cm2.config import EncoderConfig
from cm2.errors import InputError
from cm2.kinds.contract import ArrayKind, Data, Stored
from cm2.networks.encoders import Encoder, ResNetEncoder, ViTEncoder, imagenet_digest

GRID = 8


class Image(ArrayKind):
    """Grey images ``(H, W)``: stored as uint8, read as numbers in [0, 1]."""

    name: ClassVar[str] = "image"
    dtype: ClassVar[type[np.generic]] = np.uint8

    def example(self, n: int, rng: np.random.Generator) -> Data:
        """32 x 32 pixels of noise."""
        return rng.integers(0, 256, size=(n, 32, 32), dtype=np.uint8)

    def scaled(self, data: Tensor) -> Tensor:
        """Maps 0 to 255 to 0 to 1."""
        return data.float().div_(255)

    def extremity(self, stored: Stored, name: str) -> np.ndarray:
        """Mean grey level."""
        return self.mean_of(stored, name, lambda grey: grey)

    def columns(self, value: Tensor) -> Tensor:
        """Means over an 8 x 8 grid; mean, standard deviation, minimum and maximum of all pixels."""
        grid = F.adaptive_avg_pool2d(value[:, None], GRID).flatten(1)
        pixels = value.flatten(1)
        moments = torch.stack([pixels.mean(1), pixels.std(1, correction=0), pixels.amin(1), pixels.amax(1)], dim=1)
        return torch.cat([grid, moments], dim=1)

    def build_encoder(self, modality: Modality, config: EncoderConfig) -> Encoder:
        """A residual network (paper), or a Vision Transformer (paper, Table 10), which reads square images only."""
        c = config.image
        if c.kind == "resnet":
            return ResNetEncoder(c.depth, c.pretrained)
        if len(set(modality.shape)) != 1:
            raise InputError(
                f"modality {modality.name!r}: a Vision Transformer reads square images, got {modality.shape}; crop them or use resnet"
            )
        return ViTEncoder(modality.shape[0], c.vit, c.pretrained)

    def starts_from(self, config: EncoderConfig) -> str:
        """Of the ImageNet weights, if there are any for this network."""
        c = config.image
        if not c.pretrained or (c.depth == 10 if c.kind == "resnet" else c.vit == "small"):
            return ""
        return imagenet_digest(f"resnet{c.depth}" if c.kind == "resnet" else f"vit_{c.vit}")

    def feature_ndim(self, config: EncoderConfig) -> int:
        """Feature map of a residual network ``(B, H, W, C)``, or patches ``(B, L, C)``."""
        return 4 if config.image.kind == "resnet" else 3
