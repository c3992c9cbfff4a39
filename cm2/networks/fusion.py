"""Fusion of the embeddings of a stay's modalities into one vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from cm2.config import ModelConfig
from cm2.containers import ModulesInOrder
from cm2.errors import InputError
from cm2.networks.encoders import orthogonal_lstm
from cm2.parts import Registry
from cm2.parts.registry import registering

T = TypeVar("T")
FUSIONS: Registry[Callable[..., nn.Module]] = Registry("fusion", "cm2.fusions", named=False)
"""Fusions that ``model.fusion`` can name: subclasses of `Fusion` that set ``name``, what `register_fusion` decorates, and entry points of
the group ``cm2.fusions``."""


def register_fusion(name: str, version: str = "") -> Callable[[T], T]:
    """Decorator that gives a class or function a name in ``model.fusion``.

    What it decorates is called with d, the width of an embedding, and M, the number of modalities, and returns any module that maps
    embeddings ``(B, M, d)`` and the mask ``present`` ``(B, M)`` of those to be read to vectors ``(B, width)``. A subclass of
    `Fusion` that sets ``name`` needs no decorator, and gets the configuration by overriding `Fusion.build`.

    Args:
        name: what configurations call it.
        version: raise it when the same settings no longer give the same network; without one the source decides (`cm2.parts.identity`).
    """
    return registering(FUSIONS, name, version)


class Fusion(nn.Module, ABC):
    """Makes one vector of ``output_dim`` numbers of a stay's embeddings.

    A subclass that sets ``name`` can be named in a configuration. Its ``version`` is a part of the keys of runs, see `cm2.parts.identity`.
    """

    output_dim: int

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        FUSIONS.enter(cls)

    @classmethod
    def build(cls, config: ModelConfig, modalities: int) -> Self:
        """The fusion of a configuration for so many modalities; by default ``cls(config.embedding_dim, modalities)``."""
        return cls(config.embedding_dim, modalities)

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

    name = "lstm"

    def __init__(self, dim: int, hidden: int = 512, layers: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.lstm = orthogonal_lstm(dim, hidden, layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.output_dim = hidden

    @classmethod
    def build(cls, config: ModelConfig, modalities: int) -> Self:
        """With the configuration's width and layers; any number of modalities."""
        return cls(config.embedding_dim, config.fusion_hidden, config.fusion_layers)

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

    name = "hidden"

    def __init__(self, dim: int, modalities: int, hidden: int) -> None:
        super().__init__()
        self.concat = ConcatFusion(dim, modalities)
        self.hidden = nn.Sequential(nn.Linear(self.concat.output_dim, hidden), nn.ReLU())
        self.output_dim = hidden

    @classmethod
    def build(cls, config: ModelConfig, modalities: int) -> Self:
        """With the configuration's width."""
        return cls(config.embedding_dim, modalities, config.fusion_hidden)

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

    name = "additive"

    def __init__(self, dim: int, modalities: int, hidden: int) -> None:
        super().__init__()
        self.concat = ConcatFusion(hidden, modalities)
        self.hidden = ModulesInOrder([nn.Sequential(nn.Linear(dim, hidden), nn.ReLU()) for _ in range(modalities)])
        self.dim, self.output_dim = dim, self.concat.output_dim

    @classmethod
    def build(cls, config: ModelConfig, modalities: int) -> Self:
        """With the configuration's width."""
        return cls(config.embedding_dim, modalities, config.fusion_hidden)

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

    name = "concat"

    def __init__(self, dim: int, modalities: int) -> None:
        super().__init__()
        self.dim, self.modalities = dim, modalities
        self.output_dim = modalities * dim

    def forward(self, z: Tensor, present: Tensor | None = None) -> Tensor:
        """``(B, M, d) -> (B, M * d)``, zero where ``present`` ``(B, M)`` is False. Raises ValueError for another shape."""
        check_shape(z, self.modalities, self.dim)
        return (z if present is None else torch.where(present[..., None], z, 0)).flatten(1)


class PlainFusion(Fusion):
    """Any module that maps embeddings and a mask to vectors, as a fusion.

    Args:
        module: ``(B, M, d), (B, M) -> (B, width)``; where all embeddings are to be read, every element of the mask is True.
        dim: d, width of an embedding.
        modalities: M.

    Raises:
        InputError: it does not read such embeddings, or gives something other than vectors.
    """

    def __init__(self, module: nn.Module, dim: int, modalities: int) -> None:
        super().__init__()
        self.module = module
        training = module.training
        try:
            with torch.no_grad():
                fused = module.eval()(torch.zeros(2, modalities, dim), torch.ones(2, modalities, dtype=torch.bool))
        except Exception as error:  # of whatever network it is
            reason = f"{type(error).__name__}: {error}".partition("\n")[0][:160]
            raise InputError(
                f"fusion: the module does not read embeddings (2, {modalities}, {dim}) and their mask (2, {modalities}): {reason}"
            ) from error
        module.train(training)
        if not isinstance(fused, Tensor) or fused.ndim != 2 or len(fused) != 2:
            told = f"shape {tuple(fused.shape)}" if isinstance(fused, Tensor) else type(fused).__name__
            raise InputError(f"fusion: expected vectors (B, width) for B = 2 stays, got {told}")
        self.output_dim = fused.shape[1]

    def forward(self, z: Tensor, present: Tensor | None = None) -> Tensor:
        """The module's vectors ``(B, width)``."""
        return self.module(z, z.new_ones(z.shape[:2], dtype=torch.bool) if present is None else present)


def as_fusion(module: nn.Module, dim: int, modalities: int) -> Fusion:
    """A `Fusion` as it is, any other module as a `PlainFusion`."""
    return module if isinstance(module, Fusion) else PlainFusion(module, dim, modalities)


def build_fusion(config: ModelConfig, modalities: int) -> Fusion:
    """What joins the embeddings of so many modalities, by the name that ``config.fusion`` gives.

    Raises:
        InputError: an unknown name, or what it makes is no fusion.
    """
    make: Any = FUSIONS.find(config.fusion, "model.fusion")
    if isinstance(make, type) and issubclass(make, Fusion):
        return make.build(config, modalities)
    made = make(config.embedding_dim, modalities)
    if not isinstance(made, nn.Module):
        raise InputError(f"model.fusion: {config.fusion} made a {type(made).__name__}; a fusion is a torch.nn.Module")
    return as_fusion(made, config.embedding_dim, modalities)


def check_shape(z: Tensor, modalities: int, dim: int) -> None:
    """Raises ValueError for embeddings that are not ``(B, modalities, dim)``."""
    if z.shape[1:] != (modalities, dim):
        raise InputError(f"fusion: expected embeddings (B, {modalities}, {dim}), got {tuple(z.shape)}")
