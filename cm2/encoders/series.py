"""Networks over a time series."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from cm2.encoders.features import Features


class FullPrecisionLSTM(nn.LSTM):
    """An LSTM in float32 under mixed precision too: some processors have no recurrence in bfloat16."""

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As ``nn.LSTM``."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())

    def run(self, x: Tensor, first: int, last: int) -> Tensor:
        """Layers ``first`` to ``last - 1`` alone: ``(B, T, F) -> (B, T, hidden)``, F the width of what layer ``first`` reads."""
        weights = [p for layer in self.all_weights[first:last] for p in layer]
        state = weights[0].new_zeros(last - first, x.shape[0], self.hidden_size)
        with torch.autocast(x.device.type, enabled=False), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")  # two layers' worth of copying
            dropout = self.dropout if last - first > 1 else 0.0
            arguments = (weights, True, last - first, dropout, self.training, False, True)
            return torch.lstm(x.float(), (state, state), *arguments)[0]


def orthogonal_lstm(features: int, hidden: int, layers: int, dropout: float) -> FullPrecisionLSTM:
    """A batch-first LSTM with Xavier input weights, orthogonal recurrent weights and zero biases.

    Args:
        features: width of a step.
        hidden: width of the hidden state.
        layers: stacked layers.
        dropout: between the layers.
    """
    lstm = FullPrecisionLSTM(features, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
    for name, parameter in lstm.named_parameters():
        if name.startswith("weight_ih"):
            nn.init.xavier_uniform_(parameter)
        elif name.startswith("weight_hh"):
            nn.init.orthogonal_(parameter)
        else:
            nn.init.zeros_(parameter)
    return lstm


class LSTMEncoder(nn.Module):
    """Stacked LSTM over a time series; the last hidden state of the top layer is the embedding (paper, section 4.1).

    Args:
        features: F, features of one step.
        hidden: width of the hidden state, which is ``output_dim``.
        layers: stacked layers.
        dropout: between the layers and on the last hidden state.
    """

    def __init__(self, features: int, hidden: int = 256, layers: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.lstm = orthogonal_lstm(features, hidden, layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.output_dim = self.feature_dim = hidden

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, F) -> (B, hidden)``. Raises ValueError for another number of axes or features."""
        self._check(x)
        _, (state, _) = self.lstm(x)
        return self.dropout(state[-1])

    def features(self, x: Tensor) -> Features:
        """Hidden states of the first layer at every step, ``(B, T, hidden)``."""
        self._check(x)
        return Features(self.lstm.run(x, 0, 1))

    def pool(self, features: Features) -> Tensor:
        """The other layers, then the last state, ``(B, hidden)``; any number of steps."""
        states, layers = features.values, self.lstm.num_layers
        if layers > 1:
            states = nn.functional.dropout(states, self.lstm.dropout, self.training)
            states = self.lstm.run(states, 1, layers)
        return self.dropout(states[:, -1])

    def _check(self, x: Tensor) -> None:
        features = self.lstm.input_size
        if x.ndim != 3 or x.shape[-1] != features:
            raise ValueError(f"series: expected (B, T, {features}), got {tuple(x.shape)}; build the encoder for the cohort's features")
