"""Text encoding of the released code."""

from __future__ import annotations

from torch import Tensor, nn

from cm2.batch import Modality
from cm2.config import EncoderConfig
from cm2.kinds import build_encoder, kind
from cm2.networks.encoders import Encoder, Features


class WidenedText(Encoder):
    """A text encoder followed by dropout and a linear layer; its feature map is one vector, without positions.

    Args:
        encoder: text encoder.
        width: width of the vector, ``output_dim``.
        dropout: dropout rate before the linear layer.
    """

    def __init__(self, encoder: Encoder, width: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(encoder.output_dim, width)
        self.output_dim = self.feature_dim = width

    def features(self, x: dict[str, Tensor]) -> Features:
        """Token ids and mask ``(B, L)`` to the vector, ``(B, width)``."""
        return Features(self.linear(self.dropout(self.encoder(x))))

    def pool(self, features: Features) -> Tensor:
        """The vector, unchanged."""
        return features.values


def build_released_encoder(modality: Modality, config: EncoderConfig, text_dim: int) -> Encoder:
    """`build_encoder`, with texts widened to ``text_dim``."""
    encoder = build_encoder(modality, config)
    return WidenedText(encoder, text_dim, config.text.dropout) if kind(modality.kind).tokenised else encoder
