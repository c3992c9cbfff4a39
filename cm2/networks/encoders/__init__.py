"""Networks that turn one modality of one stay into a vector: LSTM, residual network, Transformers, a small perceptron.

An encoder sees only the stays that have its modality: the model gathers their rows, so an absent modality is never encoded. Every
encoder has ``output_dim``, the width of what it returns, and works in two halves for the methods that exchange something between
modalities before there is one vector of each: ``features(x)`` gives ``Features`` of ``feature_dim`` channels and ``pool(features)``
the vector; ``encoder(x)`` is ``encoder.pool(encoder.features(x))``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from cm2.config.names import choose
from cm2.networks.encoders.features import Features
from cm2.networks.encoders.image import ResNetEncoder, ViTEncoder
from cm2.networks.encoders.pretrained import pretrained_tokenizer
from cm2.networks.encoders.series import FullPrecisionLSTM, LSTMEncoder, TransformerEncoder, orthogonal_lstm
from cm2.networks.encoders.text import TextEncoder
from cm2.networks.encoders.vector import VectorEncoder

if TYPE_CHECKING:
    from cm2.batch import Modality
    from cm2.config import EncoderConfig

__all__ = [
    "BUILDERS",
    "Features",
    "FullPrecisionLSTM",
    "LSTMEncoder",
    "ResNetEncoder",
    "TextEncoder",
    "TransformerEncoder",
    "VectorEncoder",
    "ViTEncoder",
    "build_encoder",
    "orthogonal_lstm",
    "pretrained_tokenizer",
]


def build_encoder(modality: Modality, config: EncoderConfig) -> nn.Module:
    """The encoder for a modality's kind.

    Args:
        modality: its kind and shape decide the class and its input.
        config: one group of settings for each kind.

    Raises:
        ValueError: a kind that has no encoder.
    """
    if modality.kind not in BUILDERS:
        raise ValueError(f"modality {modality.name!r}: no encoder for kind {modality.kind!r}; {choose(modality.kind, BUILDERS)}")
    return BUILDERS[modality.kind](modality, config)


def _series(modality: Modality, config: EncoderConfig) -> nn.Module:
    c = config.series
    if c.kind == "transformer":
        return TransformerEncoder(modality.shape[-1], modality.shape[0], c.hidden, c.layers, c.heads, c.dropout)
    return LSTMEncoder(modality.shape[-1], c.hidden, c.layers, c.dropout)


def _image(modality: Modality, config: EncoderConfig) -> nn.Module:
    c = config.image
    if c.kind == "resnet":
        return ResNetEncoder(c.depth, c.pretrained)
    if len(set(modality.shape)) != 1:
        raise ValueError(
            f"modality {modality.name!r}: a Vision Transformer reads square images, got {modality.shape}; crop them or use resnet"
        )
    return ViTEncoder(modality.shape[0], c.vit, c.pretrained)


def _text(modality: Modality, config: EncoderConfig) -> nn.Module:
    c = config.text
    max_length = max(c.max_length, modality.shape[-1])
    return TextEncoder(modality.vocabulary, c.hidden, c.layers, c.heads, c.intermediate, max_length, c.pretrained, c.dropout, c.pooling)


def _vector(modality: Modality, config: EncoderConfig) -> nn.Module:
    return VectorEncoder(modality.shape[-1], config.vector.hidden)


BUILDERS: dict[str, Callable[[Modality, EncoderConfig], nn.Module]] = {
    "series": _series,
    "image": _image,
    "text": _text,
    "vector": _vector,
}
