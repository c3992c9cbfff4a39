"""Encodes, projects and normalises each observed modality; missing ones are never read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cm2.batch import Batch, Modality, Value
from cm2.config import EncoderConfig
from cm2.containers import ModulesByName
from cm2.errors import InputError
from cm2.networks.encoders import Encoder


class EmbeddingNormalisation(nn.Module):
    """Puts the embeddings of one modality on a fixed scale; without it their likelihood can be raised by rescaling them.

    Only ``"batch"`` also keeps an encoder from mapping all stays to one point, and only in training; whether the embeddings carry
    information about a stay is another question (book, training_cm2).

    Args:
        how: ``"layer"`` (each stay: mean 0, variance 1 over its coordinates), ``"batch"`` (each coordinate: mean 0, variance 1 over
            the stays of a training batch; running averages in evaluation and for a batch of one stay),
            ``"l2"`` (each stay: unit norm, the released code) or ``"none"`` (unchanged, of any scale).
        dim: dimension d of the embedding.
    """

    def __init__(self, how: str, dim: int) -> None:
        super().__init__()
        self.how = how
        self.batch = nn.BatchNorm1d(dim, affine=False) if how == "batch" else None

    def forward(self, z: Tensor) -> Tensor:
        """``(n, d) -> (n, d)``."""
        if self.how == "layer":
            return F.layer_norm(z, z.shape[-1:])
        if self.how == "l2":
            return F.normalize(z, dim=-1)
        if self.batch is None:
            return z
        # one stay has no variance: use the running statistics; the layer may be in training mode alone, see `averages_of_a_pass`
        if self.batch.training and z.shape[0] == 1:
            return F.batch_norm(z, self.batch.running_mean, self.batch.running_var)
        return self.batch(z)


@contextmanager
def averages_of_a_pass(module: nn.Module) -> Iterator[None]:
    """Context in which batch normalisation replaces its running averages by those over all batches that it sees."""
    # those of a frozen network are a part of what it was trained to be
    every = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    norms = [m for m in every if m.weight is None or m.weight.requires_grad]
    usual = [(norm.momentum, norm.training) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    try:
        yield
    finally:
        for norm, (momentum, training) in zip(norms, usual, strict=True):
            norm.momentum = momentum
            norm.train(training)


class ModalityEmbeddings(nn.Module):
    """Encodes, projects and normalises each observed modality to a d-dimensional embedding.

    Args:
        modalities: the cohort's modalities.
        config: configuration of the encoders, one group for each kind.
        dim: d, width of every embedding.
        build: builds a modality's encoder, like ``cm2.kinds.build_encoder``.
        normalisation: see ``EmbeddingNormalisation``.
        always_project: whether an encoder whose output is already ``dim`` wide has a projection too (released code: no).
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        config: EncoderConfig,
        dim: int,
        build: Callable[[Modality, EncoderConfig], Encoder],
        normalisation: str = "none",
        always_project: bool = True,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.encoders = ModulesByName({m.name: build(m, config) for m in modalities})
        self.projections = nn.ModuleDict(
            {
                name: nn.Linear(encoder.output_dim, dim) if always_project or encoder.output_dim != dim else nn.Identity()
                for name, encoder in self.encoders.items()
            }
        )
        self.normalisations = ModulesByName({m.name: EmbeddingNormalisation(normalisation, dim) for m in modalities})

    def forward(self, batch: Batch) -> Tensor:
        """Embeddings ``(B, M, d)`` float32, zero where missing. Raises ValueError for a batch of other modalities."""
        check_modalities(batch, tuple(self.encoders))
        return torch.stack([self._embed(batch, name) for name in self.encoders], dim=1)

    def encode(self, name: str, value: Value) -> Tensor:
        """Embeddings ``(n, d)`` of n stays in which the modality is observed."""
        return self.normalisations[name](self.projections[name](self.encoders[name](value)).float())

    @contextmanager
    def averages_start(self) -> Iterator[None]:
        """Context in which a training batch replaces the running averages of batch normalisation instead of moving them by a tenth."""
        norms = [n.batch for n in self.normalisations.values() if n.batch is not None]
        usual = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        try:
            yield
        finally:
            for norm, momentum in zip(norms, usual, strict=True):
                norm.momentum = momentum

    def _embed(self, batch: Batch, name: str) -> Tensor:
        if batch.rows[name].numel() == 0:
            return batch.label.new_zeros(len(batch), self.dim, dtype=torch.float32)
        return spread(self.encode(name, present_values(batch, name)), batch, name)


def present_values(batch: Batch, name: str) -> Value:
    """Values of the stays in which the modality is observed, in the order of ``batch.rows[name]``."""
    value = batch.values[name]
    return {k: gather(v, batch, name) for k, v in value.items()} if isinstance(value, dict) else gather(value, batch, name)


def gather(x: Tensor, batch: Batch, name: str) -> Tensor:
    """Rows of the stays in which the modality is observed, ``(B, ...) -> (n, ...)``."""
    rows = batch.rows[name]
    return x if rows.numel() == len(batch) else x[rows]


def spread(z: Tensor, batch: Batch, name: str) -> Tensor:
    """Inverse of ``gather``: ``(n, ...) -> (B, ...)``, zero where the modality is missing."""
    rows = batch.rows[name]
    return z if rows.numel() == len(batch) else z.new_zeros(len(batch), *z.shape[1:]).index_copy(0, rows, z)


def is_complete(batch: Batch) -> bool:
    """Whether every modality of every stay of the batch is observed."""
    # from the number of rows, which the host knows: no waiting for the device
    return all(rows.numel() == len(batch) for rows in batch.rows.values())


def check_modalities(batch: Batch, names: tuple[str, ...]) -> None:
    """Raises ValueError if the batch's modalities are not the ones a method was built for."""
    if batch.modalities != names:
        raise InputError(f"this method was built for the modalities {names}, the batch has {batch.modalities}")
