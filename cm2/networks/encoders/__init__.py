"""Encoders of one modality of a stay into a vector: LSTM, residual network, Transformers, a small perceptron.

An encoder reads only the stays in which its modality is observed: the model gathers their rows, so a missing modality is never encoded.
Every encoder is an ``Encoder``: it has ``output_dim``, the width of its vector, and works in two halves, for the methods that exchange
information between modalities before pooling: ``features(x)`` gives ``Features`` of ``feature_dim`` channels and ``pool(features)`` the
vector; ``encoder(x)`` is ``encoder.pool(encoder.features(x))``.
"""

from cm2.networks.encoders.base import Encoder, FeatureNetwork
from cm2.networks.encoders.features import Features
from cm2.networks.encoders.image import ResNetEncoder, ViTEncoder, channels_first
from cm2.networks.encoders.pretrained import imagenet_digest, pretrained_tokenizer
from cm2.networks.encoders.series import FullPrecisionLSTM, LSTMEncoder, TransformerEncoder, orthogonal_lstm
from cm2.networks.encoders.summary import SummaryPath
from cm2.networks.encoders.text import TextEncoder, text_digest
from cm2.networks.encoders.vector import VectorEncoder

__all__ = [
    "Encoder",
    "FeatureNetwork",
    "Features",
    "FullPrecisionLSTM",
    "LSTMEncoder",
    "ResNetEncoder",
    "SummaryPath",
    "TextEncoder",
    "TransformerEncoder",
    "VectorEncoder",
    "ViTEncoder",
    "channels_first",
    "imagenet_digest",
    "orthogonal_lstm",
    "pretrained_tokenizer",
    "text_digest",
]
