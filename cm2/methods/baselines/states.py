"""A modality as a sequence: the last thing that its encoder knows of every position."""

from __future__ import annotations

from torch import Tensor

from cm2.batch import Value
from cm2.networks.encoders import FeatureNetwork, Features, LSTMEncoder


def states(encoder: FeatureNetwork, value: Value) -> tuple[Tensor, Tensor]:
    """States before they are pooled, in a row.

    Args:
        encoder: of the modality; of an LSTM the top layer's states are taken, which ``features`` leaves to ``pool``.
        value: of the stays that have the modality.

    Returns:
        States ``(n, L, feature_dim)`` and which of them count ``(n, L)``.
    """
    if isinstance(encoder, LSTMEncoder):
        return Features(encoder.lstm(value)[0]).tokens()
    return encoder.features(value).tokens()
