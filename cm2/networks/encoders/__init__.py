"""Encoders of one modality of a stay into a vector: LSTM, residual network, Transformers, a small perceptron.

An encoder reads only the stays in which its modality is observed: the model gathers their rows, so a missing modality is never encoded.
Every encoder is an ``Encoder``: it has ``output_dim``, the width of its vector, and works in two halves, for the methods that exchange
information between modalities before pooling: ``features(x)`` gives ``Features`` of ``feature_dim`` channels and ``pool(features)`` the
vector; ``encoder(x)`` is ``encoder.pool(encoder.features(x))``.
"""

from cm2.networks.encoders.base import ENCODERS, Encoder, FeatureNetwork
from cm2.networks.encoders.features import Features
from cm2.networks.encoders.image import ResNetEncoder, ViTEncoder, channels_first
from cm2.networks.encoders.libraries import TimmEncoder, TorchvisionEncoder, TransformersEncoder
from cm2.networks.encoders.own import PlainEncoder, as_encoder, named_encoder, own_starts_from, register_encoder
from cm2.networks.encoders.pretrained import MissingWeightsError, imagenet_digest, pretrained_tokenizer, without_weights
from cm2.networks.encoders.series import FullPrecisionLSTM, LSTMEncoder, TransformerEncoder, orthogonal_lstm
from cm2.networks.encoders.summary import SummaryPath
from cm2.networks.encoders.text import TextEncoder, text_digest
from cm2.networks.encoders.vector import VectorEncoder

__all__ = [
    "ENCODERS",
    "Encoder",
    "FeatureNetwork",
    "Features",
    "FullPrecisionLSTM",
    "LSTMEncoder",
    "MissingWeightsError",
    "PlainEncoder",
    "ResNetEncoder",
    "SummaryPath",
    "TextEncoder",
    "TimmEncoder",
    "TorchvisionEncoder",
    "TransformerEncoder",
    "TransformersEncoder",
    "VectorEncoder",
    "ViTEncoder",
    "as_encoder",
    "channels_first",
    "imagenet_digest",
    "named_encoder",
    "orthogonal_lstm",
    "own_starts_from",
    "pretrained_tokenizer",
    "register_encoder",
    "text_digest",
    "without_weights",
]
