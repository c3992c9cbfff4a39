"""Time series encoders."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from cm2.errors import InputError
from cm2.networks.encoders.base import Encoder
from cm2.networks.encoders.features import Features


class FullPrecisionLSTM(nn.RNNBase):
    """A batch-first LSTM that stays in float32 under mixed precision: some processors have no bfloat16 recurrence.

    Args:
        features: width of a step.
        hidden: width of the hidden state.
        layers: stacked layers.
        dropout: dropout rate between the layers.
    """

    def __init__(self, features: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__("LSTM", features, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Like ``nn.LSTM``, from a state of zeros."""
        states, hidden, cell = self._layers(x, 0, self.num_layers)
        return states, (hidden, cell)

    def run(self, x: Tensor, first: int, last: int) -> Tensor:
        """Only layers ``first`` to ``last - 1``: ``(B, T, F) -> (B, T, hidden)``, F the input width of layer ``first``."""
        with warnings.catch_warnings():
            # it warns of a copy of the weights at every call, which is small: those of a few layers
            warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")
            return self._layers(x, first, last)[0]

    def _layers(self, x: Tensor, first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
        weights: list[Tensor] = [p for layer in self.all_weights[first:last] for p in layer]
        state = weights[0].new_zeros(last - first, x.shape[0], self.hidden_size)
        dropout = self.dropout if last - first > 1 else 0.0
        with torch.autocast(x.device.type, enabled=False):
            return torch.lstm(x.float(), (state, state), weights, True, last - first, dropout, self.training, False, True)


def orthogonal_lstm(features: int, hidden: int, layers: int, dropout: float) -> FullPrecisionLSTM:
    """A ``FullPrecisionLSTM`` (see there for the arguments) with Xavier input weights, orthogonal recurrent weights and zero biases."""
    lstm = FullPrecisionLSTM(features, hidden, layers, dropout)
    for name, parameter in lstm.named_parameters():
        if name.startswith("weight_ih"):
            nn.init.xavier_uniform_(parameter)
        elif name.startswith("weight_hh"):
            nn.init.orthogonal_(parameter)
        else:
            nn.init.zeros_(parameter)
    return lstm


class LSTMEncoder(Encoder):
    """Stacked LSTM over a time series; the last hidden state of the top layer is the embedding (paper, section 4.1).

    Args:
        features: F, features of one step.
        hidden: width of the hidden state, which is ``output_dim``.
        layers: stacked layers.
        dropout: dropout rate between the layers and on the last hidden state.
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
        """The remaining layers, then the last state, ``(B, hidden)``; any number of steps."""
        states, layers = features.values, self.lstm.num_layers
        if layers > 1:
            states = nn.functional.dropout(states, self.lstm.dropout, self.training)
            states = self.lstm.run(states, 1, layers)
        return self.dropout(states[:, -1])

    def _check(self, x: Tensor) -> None:
        _check_series(x, self.lstm.input_size)


class TransformerEncoder(Encoder):
    """Self-attention over the steps of a time series; the mean over the steps is the embedding (paper, Table 10).

    Pre-norm blocks with a feed-forward part four times as wide, on a linear map of each step plus a learnt vector for its position.
    The paper only names the architecture (Vaswani et al., NeurIPS 2017); width and depth are those of the LSTM that it replaces.

    Args:
        features: F, features of one step.
        steps: longest series.
        hidden: width, a multiple of ``heads``, which is ``output_dim``.
        layers: blocks.
        heads: attention heads.
        dropout: dropout rate everywhere in the blocks.

    Raises:
        ValueError: ``hidden`` is not a multiple of ``heads``.
    """

    def __init__(self, features: int, steps: int, hidden: int = 256, layers: int = 2, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        if hidden % heads:
            raise InputError(f"series encoder: hidden = {hidden} is not a multiple of heads = {heads}; change one of them")
        self.project = nn.Linear(features, hidden)
        self.position = nn.Parameter(0.02 * torch.randn(steps, hidden))
        block = nn.TransformerEncoderLayer(hidden, heads, 4 * hidden, dropout, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, layers, nn.LayerNorm(hidden), enable_nested_tensor=False)
        self.output_dim = self.feature_dim = hidden

    def features(self, x: Tensor) -> Features:
        """States of the last block at every step, ``(B, T, F) -> (B, T, hidden)``.

        Raises:
            ValueError: another number of axes or features, or too many steps.
        """
        _check_series(x, self.project.in_features)
        if x.shape[1] > len(self.position):
            raise InputError(f"series: {x.shape[1]} steps for an encoder of {len(self.position)}; build it for the longest series")
        return Features(self.blocks(self.project(x) + self.position[: x.shape[1]]))

    def compilable(self) -> tuple[nn.Module]:
        """The blocks."""
        return (self.blocks,)

    def pool(self, features: Features) -> Tensor:
        """The mean over steps, ``(B, hidden)``; any number of steps."""
        return features.mean()


def _check_series(x: Tensor, features: int) -> None:
    if x.ndim != 3 or x.shape[-1] != features:
        raise InputError(f"series: expected (B, T, {features}), got {tuple(x.shape)}; build the encoder for the cohort's features")
