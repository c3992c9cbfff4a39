"""A modality as a sequence: its encoder's states before pooling."""

from __future__ import annotations

from torch import Tensor

from cm2.batch import Value
from cm2.networks.encoders import FeatureNetwork, Features, LSTMEncoder, SummaryPath


def states(encoder: FeatureNetwork, value: Value) -> tuple[Tensor, Tensor]:
    """States before pooling, as a sequence.

    Args:
        encoder: the modality's encoder; of an LSTM the top layer's states are taken, which ``features`` leaves to ``pool``; a
            summary beside it is no sequence and is left out.
        value: values of the stays in which the modality is observed.

    Returns:
        States ``(n, L, feature_dim)`` and their mask ``(n, L)``.
    """
    if isinstance(encoder, SummaryPath):
        return states(encoder.encoder, value)
    if isinstance(encoder, LSTMEncoder):
        return Features(encoder.lstm(value)[0]).tokens()
    return encoder.features(value).tokens()
