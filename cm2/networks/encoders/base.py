"""Base classes of the encoders: feature map of one modality, and its pooling into a vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

from torch import Tensor, nn

from cm2.networks.encoders.features import Features
from cm2.networks.encoders.freezing import stay_frozen
from cm2.parts import Registry

ENCODERS: Registry[Callable[..., nn.Module]] = Registry("encoder", "cm2.encoders", named=False)
"""Encoders that a configuration can name, ``encoder.MODALITY = NAME``: subclasses of `Encoder` that set ``name``, what
`cm2.networks.encoders.register_encoder` decorates, and entry points of the group ``cm2.encoders``. Each is called with the modality and its
options."""


class FeatureNetwork(nn.Module, ABC):
    """A network from one modality of a stay to a feature map.

    It reads a batch's value of the modality (`cm2.batch.Value`): a tensor, or a text's token ids and mask.
    """

    feature_dim: int
    """Channels of the map."""

    @abstractmethod
    def features(self, x: Any) -> Features:
        """Feature maps of n stays, ``(n, *positions, feature_dim)``."""

    def compilable(self) -> Sequence[nn.Module]:
        """Parts that torch.compile makes faster; none by default. What is one call of a library already is not, such as an LSTM."""
        return ()


class Encoder(FeatureNetwork):
    """A network from one modality of a stay to a vector, in two halves between which modalities may exchange information.

    A subclass that sets ``name`` can be named in a configuration; it is then called with the modality and its options. Its ``version`` is a
    part of the keys of runs, see `cm2.parts.identity`.
    """

    output_dim: int
    """Width of the vector."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        ENCODERS.enter(cls)

    def train(self, mode: bool = True) -> Self:
        """As of any module, but what is frozen stays in evaluation mode."""
        super().train(mode)
        stay_frozen(self)
        return self

    def forward(self, x: Any) -> Tensor:
        """Vectors of n stays, ``(n, output_dim)``."""
        return self.pool(self.features(x))

    @abstractmethod
    def pool(self, features: Features) -> Tensor:
        """Pools feature maps into vectors, ``(n, output_dim)``."""
