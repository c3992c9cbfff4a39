"""Feature vectors."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor

from cm2.batch import Modality
from cm2.config import EncoderConfig
from cm2.kinds.contract import ArrayKind, Data
from cm2.networks.encoders import Encoder, VectorEncoder


class Vector(ArrayKind):
    """Feature vectors ``(F,)``, float32."""

    name: ClassVar[str] = "vector"
    axes: ClassVar[tuple[str, ...]] = ("n, F",)
    standardised: ClassVar[bool] = True

    def example(self, n: int, rng: np.random.Generator) -> Data:
        """Five numbers."""
        return rng.normal(size=(n, 5)).astype(np.float32)

    def columns(self, value: Tensor) -> Tensor:
        """The vector, unchanged."""
        return value

    def build_encoder(self, modality: Modality, config: EncoderConfig) -> Encoder:
        """A small perceptron."""
        return VectorEncoder(modality.shape[-1], config.vector.hidden)

    def feature_ndim(self, config: EncoderConfig) -> int:
        """No position, ``(B, C)``."""
        return 2
