"""Base classes of the encoders: feature map of one modality, and its pooling into a vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from cm2.networks.encoders.features import Features


class FeatureNetwork(nn.Module, ABC):
    """A network from one modality of a stay to a feature map.

    It reads a batch's value of the modality (`cm2.batch.Value`): a tensor, or a text's token ids and mask.
    """

    feature_dim: int
    """Channels of the map."""

    @abstractmethod
    def features(self, x: Any) -> Features:
        """Feature maps of n stays, ``(n, *positions, feature_dim)``."""


class Encoder(FeatureNetwork):
    """A network from one modality of a stay to a vector, in two halves between which modalities may exchange information."""

    output_dim: int
    """Width of the vector."""

    def forward(self, x: Any) -> Tensor:
        """Vectors of n stays, ``(n, output_dim)``."""
        return self.pool(self.features(x))

    @abstractmethod
    def pool(self, features: Features) -> Tensor:
        """Pools feature maps into vectors, ``(n, output_dim)``."""
