"""Fusion of the embeddings of a stay's modalities into one vector."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from cm2.containers import ModulesInOrder
from cm2.errors import InputError
from cm2.networks.encoders import orthogonal_lstm


class Fusion(nn.Module, ABC):
    """Makes one vector of ``output_dim`` numbers of a stay's embeddings."""

    output_dim: int

    @abstractmethod
    def forward(self, z: Tensor, present: Tensor | None = None) -> Tensor:
        """``(B, M, d) -> (B, output_dim)``; reads all embeddings, or those where ``present`` ``(B, M)`` is True."""


class LSTMFusion(Fusion):
    """An LSTM over a stay's embeddings, one modality after another (paper, section 3.4).

    Args:
        dim: d, width of an embedding.
        hidden: width of the hidden state, which is ``output_dim``.
        layers: stacked layers (paper: two).
        dropout: dropout rate between the layers and on the last hidden state.
    """

    def __init__(self, dim: int, hidden: int = 512, layers: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.lstm = orthogonal_lstm(dim, hidden, layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.output_dim = hidden

    def forward(self, z: Tensor, present: Tensor | None = None) -> Tensor:
        """The last hidden state of the top layer.

        Args:
            z: embeddings ``(B, M, d)``.
            present: mask ``(B, M)`` of the embeddings to read, at least one per stay; by default all. The others are skipped, as if
                the sequence were shorter, and may have any value.

        Returns:
            ``(B, hidden)``.

        Raises:
            ValueError: embeddings of another shape.
        """
        dim = self.lstm.input_size
        if z.ndim != 3 or z.shape[-1] != dim:
            raise InputError(f"fusion: expected embeddings (B, M, {dim}), got {tuple(z.shape)}; project every modality to the same d")
        if present is None:
            return self.dropout(self.lstm(z)[1][0][-1])
        # observed modalities first, in their order: the state after the last of them does not depend on what follows
        order = present.long().argsort(dim=1, descending=True, stable=True)
        z = torch.where(present[..., None], z, 0).gather(1, order[..., None].expand_as(z))
        states = self.lstm(z)[0]
        last = (present.sum(dim=1) - 1).view(-1, 1, 1).expand(-1, 1, self.output_dim)
        return self.dropout(states.gather(1, last).squeeze(1))


class HiddenFusion(Fusion):
    """Concatenation of the embeddings of a stay's modalities into one hidden layer.

    Args:
        dim: d, width of an embedding.
        modalities: M.
        hidden: width of the hidden layer, which is ``output_dim``.
    """

    def __init__(self, dim: int, modalities: int, hidden: int) -> None:
        super().__init__()
        self.concat = ConcatFusion(dim, modalities)
        self.hidden = nn.Sequential(nn.Linear(self.concat.output_dim, hidden), nn.ReLU())
        self.output_dim = hidden

    def forward(self, z: Tensor, present: Tensor | None = None) -> Tensor:
        """``(B, M, d) -> (B, hidden)``; what ``present`` ``(B, M)`` excludes is read as zero. Raises ValueError for another shape."""
        return self.hidden(self.concat(z, present))


class AdditiveFusion(Fusion):
    """One hidden layer for each modality, side by side: under a linear classifier the log-odds are a sum over the modalities.

    Such log-odds are a product of experts, one for each modality and each with a vote of any strength (Hinton 2002, Neural
    Computation; naive Bayes where every expert is a likelihood ratio), and a generalised additive model whose terms read one modality
    each (Hastie, Tibshirani 1986, Statistical Science): no interaction between modalities can be learnt. A modality that is not read
    adds exactly 0.

    Args:
        dim: d, width of an embedding.
        modalities: M.
        hidden: width of each hidden layer; ``output_dim`` is M times as much.
    """

    def __init__(self, dim: int, modalities: int, hidden: int) -> None:
        super().__init__()
        self.concat = ConcatFusion(hidden, modalities)
        self.hidden = ModulesInOrder([nn.Sequential(nn.Linear(dim, hidden), nn.ReLU()) for _ in range(modalities)])
        self.dim, self.output_dim = dim, self.concat.output_dim

    def forward(self, z: Tensor, present: Tensor | None = None) -> Tensor:
        """``(B, M, d) -> (B, M * hidden)``, zero where ``present`` ``(B, M)`` is False. Raises ValueError for another shape."""
        check_shape(z, len(self.hidden), self.dim)
        z = z if present is None else torch.where(present[..., None], z, 0)
        return self.concat(torch.stack([layer(z[:, m]) for m, layer in enumerate(self.hidden)], dim=1), present)


class ConcatFusion(Fusion):
    """Concatenation of the embeddings of a stay's modalities, without parameters (paper, Table 5, without fusion).

    Args:
        dim: d, width of an embedding.
        modalities: M; ``output_dim`` is M·d.
    """

    def __init__(self, dim: int, modalities: int) -> None:
        super().__init__()
        self.dim, self.modalities = dim, modalities
        self.output_dim = modalities * dim

    def forward(self, z: Tensor, present: Tensor | None = None) -> Tensor:
        """``(B, M, d) -> (B, M * d)``, zero where ``present`` ``(B, M)`` is False. Raises ValueError for another shape."""
        check_shape(z, self.modalities, self.dim)
        return (z if present is None else torch.where(present[..., None], z, 0)).flatten(1)


def check_shape(z: Tensor, modalities: int, dim: int) -> None:
    """Raises ValueError for embeddings that are not ``(B, modalities, dim)``."""
    if z.shape[1:] != (modalities, dim):
        raise InputError(f"fusion: expected embeddings (B, {modalities}, {dim}), got {tuple(z.shape)}")
