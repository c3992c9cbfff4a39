"""Batches of a split's stays, in an order that depends on seed and epoch only."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import distributed
from torch.utils.data import DataLoader, Dataset, Sampler

from cm2.batch import Batch
from cm2.cohorts import Cohort, Stays
from cm2.config import Config, TrainConfig
from cm2.environment.machine import memory
from cm2.errors import InputError
from cm2.methods import Method
from cm2.networks.encoders import TextEncoder


class EpochSampler(Sampler[list[int]]):
    """Batches of indices; the order depends on (seed, epoch) only, so a resumed run reads the same batches as an uninterrupted one.

    With several processes each takes every ``world_size``-th batch.
    """

    def __init__(self, size: int, batch_size: int, seed: int = 0, shuffle: bool = False) -> None:
        self.size, self.batch_size, self.seed, self.shuffle = size, batch_size, seed, shuffle
        self.epoch = 0

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size) if self.shuffle else np.arange(self.size)
        rank, world = self._rank()
        batches = [order[start : start + self.batch_size].tolist() for start in range(0, self.size, self.batch_size)]
        return iter(batches[rank : len(self) * world : world])

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


def loader(stays: Stays, config: TrainConfig, seed: int = 0, shuffle: bool = False) -> DataLoader[Batch]:
    """Batches of a split; each is one gather from the cohort's memory maps."""
    return loader_of(stays, config, EpochSampler(len(stays), config.batch_size, seed, shuffle))


def loader_of(stays: Stays, config: TrainConfig, sampler: EpochSampler) -> DataLoader[Batch]:
    """Batches of a split in a sampler's order."""
    if config.workers:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a tokenizer that notices the fork may warn on stderr
    return DataLoader(
        Batches(stays),
        sampler=sampler,
        batch_size=None,
        num_workers=config.workers,
        persistent_workers=config.workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


class Batches(Dataset[Batch]):
    """Stays by lists of positions: an index is a batch."""

    def __init__(self, stays: Stays) -> None:
        self.stays = stays

    def __len__(self) -> int:
        return len(self.stays)

    def __getitem__(self, indices: list[int]) -> Batch:
        return self.stays.batch(indices)
