"""Batches of a split's stays, in an order that depends on seed and epoch only."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed
from torch.utils.data import DataLoader, Dataset, Sampler

from cm2.batch import Batch
from cm2.cohorts import Cohort, Stays
from cm2.config import Config, TrainConfig
from cm2.environment.machine import memory
from cm2.errors import InputError
from cm2.kinds import kind
from cm2.methods import Method
from cm2.networks.encoders import TextEncoder


class EpochSampler(Sampler[list[int]]):
    """Batches of indices; the order depends on (seed, epoch) only, so a resumed run reads the same batches as an uninterrupted one.

    With several processes each takes every ``world_size``-th batch.

    Args:
        size: number of stays.
        batch_size: stays in a batch.
        seed: of the order.
        shuffle: whether there is an order of each epoch; otherwise the stays come as they are.
        lengths: ``(size,)``, by which the stays of a pool are put together, 0 for a stay that has none.
        pool: number of batches in a pool; 0: no stays are put together.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int = 0, shuffle: bool = False, lengths: np.ndarray | None = None, pool: int = 0
    ) -> None:
        self.size, self.batch_size, self.seed, self.shuffle = size, batch_size, seed, shuffle
        self.lengths, self.pool = lengths, pool
        self.epoch = 0

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.size) if self.shuffle else np.arange(self.size)
        pooled = self.shuffle and self.pool and self.lengths is not None
        batches = self._alike(order, rng) if pooled else self._cut(order)
        rank, world = self._rank()
        return iter(batches[rank : len(self) * world : world])

    def _cut(self, order: np.ndarray) -> list[list[int]]:
        return [order[start : start + self.batch_size].tolist() for start in range(0, len(order), self.batch_size)]

    def _alike(self, order: np.ndarray, rng: np.random.Generator) -> list[list[int]]:
        """Batches of each pool in turn, in a random order. The batch that is not full is the last one, as without pools."""
        lengths, batches = np.asarray(self.lengths), list[list[int]]()
        for start in range(0, self.size, self.pool * self.batch_size):
            pool = order[start : start + self.pool * self.batch_size]
            own = lengths[pool]
            if (known := own[own > 0]).size:  # stays without a text are spread over the batches like those with one
                own = np.where(own > 0, own, rng.choice(known, len(own)))
            pool, over = pool[np.argsort(own, kind="stable")], len(pool) % self.batch_size
            first = int(rng.integers(len(pool) // self.batch_size + 1)) * self.batch_size  # any stays may be those that fill no batch
            full = self._cut(np.delete(pool, np.arange(first, first + over)))
            batches += [full[i] for i in rng.permutation(len(full))] + self._cut(pool[first : first + over])
        return batches

    def __len__(self) -> int:
        batches, world = math.ceil(self.size / self.batch_size), self._rank()[1]
        # in training all processes must take equally many steps, as they wait for each other; in prediction no stay may be dropped
        return batches // world if self.shuffle else math.ceil(batches / world)

    @staticmethod
    def _rank() -> tuple[int, int]:
        ready = distributed.is_available() and distributed.is_initialized()
        return (distributed.get_rank(), distributed.get_world_size()) if ready else (0, 1)


def check_memory(method: Method, config: Config, cohort: Cohort) -> None:
    """Estimates the memory of a batch of texts: attention holds a number for every pair of tokens, in each head and layer.

    Raises:
        InputError: the scores alone, which training keeps for the gradient, do not fit into the memory of the machine.
    """
    bert = next((module.bert.config for module in method.modules() if isinstance(module, TextEncoder)), None)
    room = memory()
    if bert is None or not room or torch.accelerator.is_available():
        return
    for modality in (modality for modality in cohort.modalities if modality.vocabulary):
        *documents, length = modality.shape
        texts = min(config.train.batch_size, len(cohort.stays)) * math.prod(documents)
        needed = 4 * texts * bert.num_hidden_layers * bert.num_attention_heads * length**2
        if needed > room:
            raise InputError(
                f"{modality.name}: texts of {length:,} tokens need {needed / 1e9:,.0f} GB or more in a batch of {config.train.batch_size},"
                f" this machine has {room / 1e9:,.0f}; lower encoder.text.max_length = {config.encoder.text.max_length} or train.batch_size"
            )


def sampler_of(stays: Stays, config: TrainConfig, seed: int) -> EpochSampler:
    """The order in which training reads the stays; see `TrainConfig.bucket`."""
    lengths = text_lengths(stays) if config.bucket else None
    return EpochSampler(len(stays), config.batch_size, seed, shuffle=True, lengths=lengths, pool=config.bucket)


def text_lengths(stays: Stays) -> np.ndarray | None:
    """``(n,)``: tokens of each stay's longest document, added up over the modalities that have any; None without such a modality."""
    total, every = None, np.arange(len(stays))
    for modality in stays.modalities:
        own = kind(modality.kind)
        if own.lengths(stays.raw_of(modality, every[:1])) is not None:  # images need not be read for it
            lengths = own.lengths(stays.raw_of(modality, every))
            total = lengths if total is None or lengths is None else total + lengths
    return None if total is None else total.numpy()


def loader(stays: Stays, config: TrainConfig, seed: int = 0, shuffle: bool = False) -> DataLoader[Batch]:
    """Batches of a split; each is one gather from the cohort's memory maps."""
    return loader_of(Batches(stays), config, EpochSampler(len(stays), config.batch_size, seed, shuffle))


def loader_of(batches: Batches, config: TrainConfig, sampler: Sampler[list[int]] | list[list[int]]) -> DataLoader[Batch]:
    """Batches in a sampler's order."""
    workers = 0 if batches.on_device else config.workers
    if workers:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a tokenizer that notices the fork may warn on stderr
    return DataLoader(
        batches,
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available() and not batches.on_device,
    )


class Batches(Dataset[Batch]):
    """Stays by lists of positions: an index is a batch.

    Args:
        stays: of a split.
        raw: whether values come as they are stored, for `cm2.kinds.ready`.
    """

    on_device = False
    """Whether the batches are where the method is, and need neither loading processes nor page-locked memory."""

    def __init__(self, stays: Stays, raw: bool = False) -> None:
        self.stays, self.raw = stays, raw

    def __len__(self) -> int:
        return len(self.stays)

    def __getitem__(self, indices: list[int]) -> Batch:
        return self.stays.raw(indices) if self.raw else self.stays.batch(indices)


class InOrder:
    """Large batches of the stays at some positions, in their order; can be read more than once, and travels to other processes.

    A `DataLoader` would bring a random generator along, which this needs none of: two of them in one object cannot be sent to a process
    that is spawned.

    Args:
        batches: stays by lists of positions.
        positions: ``(n,)`` positions in the split.
        size: largest number of stays in a batch.
    """

    def __init__(self, batches: Batches, positions: NDArray[np.int_], size: int = 512) -> None:
        self.batches = batches
        self.blocks = [positions[start : start + size].tolist() for start in range(0, len(positions), size)]

    def __iter__(self) -> Iterator[Batch]:
        return (self.batches[block] for block in self.blocks)
