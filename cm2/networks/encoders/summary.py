"""A path of plain statistics beside an encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from cm2.networks.encoders.base import Encoder
from cm2.networks.encoders.features import Features

_LIMIT = 5.0


class SummaryPath(Encoder):
    """An encoder and, beside it, a linear layer of statistics of its input: what a recurrent network takes long to learn, it has at once.

    The statistics are standardised over the training batch (running averages in evaluation) and clipped at 5 standard deviations.

    Args:
        encoder: the network.
        statistics: ``(B, ...) -> (B, columns)`` of the encoder's input.
        columns: how many.
        width: of the linear layer, by which ``output_dim`` grows.
        dropout: of the standardised statistics.
    """

    def __init__(self, encoder: Encoder, statistics: Callable[[Tensor], Tensor], columns: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder, self.statistics = encoder, statistics
        self.scale = nn.BatchNorm1d(columns, affine=False)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(columns, width)
        self.feature_dim, self.output_dim = encoder.feature_dim, encoder.output_dim + width

    def features(self, x: Tensor) -> Features:
        """The encoder's feature map, with the summary ``(B, width)``."""
        columns = self.statistics(x.float())
        alone = self.scale.training and len(columns) == 1  # one stay has no variance: the running averages do
        scaled = nn.functional.batch_norm(columns, self.scale.running_mean, self.scale.running_var) if alone else self.scale(columns)
        summary = self.linear(self.dropout(scaled.clamp(-_LIMIT, _LIMIT)))
        return replace(self.encoder.features(x), summary=summary)

    def pool(self, features: Features) -> Tensor:
        """The encoder's vector and the summary, ``(B, output_dim)``; zeros for maps without one, which are no stay's."""
        pooled = self.encoder.pool(features)
        summary = pooled.new_zeros(len(pooled), self.linear.out_features) if features.summary is None else features.summary
        return torch.cat([pooled, summary], dim=1)
