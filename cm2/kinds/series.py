"""Time series: steps of features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from cm2.batch import Modality
from cm2.config import EncoderConfig
from cm2.kinds.contract import MASK, ArrayKind, Data, Stored
from cm2.networks.encoders import Encoder, LSTMEncoder, SummaryPath, TransformerEncoder


class Series(ArrayKind):
    """Time series ``(T, F)`` on a time grid, float32; some features may be masks of others."""

    name: ClassVar[str] = "series"
    axes: ClassVar[tuple[str, ...]] = ("n, T, F",)
    named_steps: ClassVar[bool] = True
    sequence: ClassVar[bool] = True
    standardised: ClassVar[bool] = True

    def example(self, n: int, rng: np.random.Generator) -> Data:
        """Four steps of three features."""
        return rng.normal(size=(n, 4, 3)).astype(np.float32)

    def columns(self, value: Tensor) -> Tensor:
        """First, last, mean, standard deviation, minimum, maximum and least-squares slope of every feature."""
        time = torch.arange(value.shape[1], device=value.device, dtype=value.dtype)
        time = time - time.mean()
        slope = torch.einsum("t,btf->bf", time, value) / time.square().sum().clamp(min=1)  # one step has no slope
        parts = [value[:, 0], value[:, -1], value.mean(1), value.std(1, correction=0), value.amin(1), value.amax(1), slope]
        return torch.cat(parts, dim=1)

    def modality(self, stored: Stored, name: str, entry: Mapping[str, Any]) -> Modality:
        """With the masks that its features' names tell: ``mask->name`` is that of ``name`` and of ``name->category``."""
        found = super().modality(stored, name, entry)
        of = {feature.removeprefix(MASK): i for i, feature in enumerate(entry.get("features", [])) if feature.startswith(MASK)}
        masks = [-1 if feature.startswith(MASK) else of.get(feature.split("->")[0], -1) for feature in entry.get("features", [])]
        return replace(found, masks=tuple(masks)) if of else found

    def build_encoder(self, modality: Modality, config: EncoderConfig) -> Encoder:
        """An LSTM (paper), or a transformer (paper, Table 10); with ``encoder.series.summary`` a summary path beside it."""
        c, (steps, features) = config.series, modality.shape
        encoder: Encoder
        if c.kind == "transformer":
            encoder = TransformerEncoder(features, steps, c.hidden, c.layers, c.heads, c.dropout)
        else:
            encoder = LSTMEncoder(features, c.hidden, c.layers, c.dropout)
        if not c.summary:
            return encoder
        width = self.columns(torch.zeros(1, steps, features)).shape[1]
        return SummaryPath(encoder, self.columns, width, c.summary, c.dropout)

    def feature_ndim(self, config: EncoderConfig) -> int:
        """A state for each step, ``(B, T, C)``."""
        return 3
