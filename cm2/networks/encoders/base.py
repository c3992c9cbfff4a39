"""What every encoder offers: a feature map of one modality, and the vector that is made of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from cm2.networks.encoders.features import Features


class FeatureNetwork(nn.Module, ABC):
    """A network that turns one modality of a stay into a feature map.

    It reads what a batch has of its modality (`cm2.batch.Value`): a tensor, or a text's token ids and mask.
    """

    feature_dim: int
    """Channels of the map."""

    @abstractmethod
    def features(self, x: Any) -> Features:
        """The map of n stays, ``(n, *positions, feature_dim)``."""


class Encoder(FeatureNetwork):
    """A network that turns one modality of a stay into a vector, in two halves between which modalities may exchange something."""

    output_dim: int
    """Width of the vector."""

    def forward(self, x: Any) -> Tensor:
        """The vectors of n stays, ``(n, output_dim)``."""
        return self.pool(self.features(x))

    @abstractmethod
    def pool(self, features: Features) -> Tensor:
        """A map to the vectors, ``(n, output_dim)``."""
