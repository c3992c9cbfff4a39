"""Encoder of a modality that is already a vector."""

from __future__ import annotations

from torch import Tensor, nn

from cm2.errors import InputError
from cm2.networks.encoders.base import Encoder
from cm2.networks.encoders.features import Features


class VectorEncoder(Encoder):
    """One hidden layer on a modality that is already a vector, or the identity.

    Args:
        features: F, width of the vector.
        hidden: width of the hidden layer, which is ``output_dim``; 0: the identity, without a layer.
    """

    def __init__(self, features: int, hidden: int = 64) -> None:
        super().__init__()
        self.width = features
        self.network = nn.Sequential(nn.Linear(features, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.output_dim = self.feature_dim = hidden or features

    def features(self, x: Tensor) -> Features:
        """The hidden layer, ``(B, F) -> (B, output_dim)``: no positions. Raises ValueError for another shape."""
        if x.ndim != 2 or x.shape[-1] != self.width:
            raise InputError(f"vector: expected (B, {self.width}), got {tuple(x.shape)}; build the encoder for the cohort's features")
        return Features(self.network(x))

    def pool(self, features: Features) -> Tensor:
        """The hidden layer, unchanged."""
        return features.values
