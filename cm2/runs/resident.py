"""Stays that lie on the accelerator: copied once, gathered there batch by batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cm2.batch import Batch, Modality, Value, check_finite
from cm2.cohorts import Stays
from cm2.kinds import kind
from cm2.runs.batches import Batches

AT_ONCE = 512
"""Stays that are read at a time while they are copied."""


class Resident(Batches):
    """Batches of raw values, equal to those of `Batches`, without a copy of values for each.

    What is small travels with each batch: which stays, who has which modality, labels.

    Args:
        stays: of a split.
        device: where they are to lie; by default the accelerator of the process that reads the first batch.
    """

    on_device = True

    def __init__(self, stays: Stays, device: torch.device | None = None) -> None:
        super().__init__(stays, raw=True)
        self.device = device
        self._held: dict[str, Value] = {}
        self._lengths: dict[str, Tensor] = {}

    def __getstate__(self) -> dict[str, object]:
        """Another process copies the stays to its own accelerator."""
        return self.__dict__ | {"_held": {}, "_lengths": {}}

    def __getitem__(self, indices: list[int]) -> Batch:
        if not self._held:
            self._hold()
        stays, at = self.stays, torch.as_tensor(indices)
        # a batch whose values are positions, so that its rows are known before it travels
        small = Batch(dict.fromkeys(self._held, at), stays.present[at], stays.label[at], stays.stay_id[at], raw=True)
        if torch.cuda.is_available():
            small = small.pin_memory()
        here = small.to(self._where(), non_blocking=True)
        return replace(here, values={m.name: self._gathered(m, at, here.values[m.name]) for m in stays.modalities})

    def _gathered(self, modality: Modality, at: Tensor, here: Value) -> Value:
        held = self._held[modality.name]
        assert isinstance(here, Tensor)
        value: Value = {part: whole[here] for part, whole in held.items()} if isinstance(held, dict) else held[here]
        lengths = self._lengths.get(modality.name)
        return value if lengths is None else kind(modality.kind).cut(value, int(lengths[at].max()))

    def _hold(self) -> None:
        for modality in self.stays.modalities:
            value = self._whole(modality)
            if (lengths := kind(modality.kind).lengths(value)) is not None:
                self._lengths[modality.name] = lengths
            self._held[modality.name] = value if isinstance(value, Tensor) else {part: x.to(self._where()) for part, x in value.items()}

    def _whole(self, modality: Modality) -> Value:
        """Raw values of all stays, of which arrays go to the device block by block."""
        n, held = len(self.stays), None
        for start in range(0, n, AT_ONCE):
            rows = np.arange(start, min(start + AT_ONCE, n))
            value = self.stays.raw_of(modality, rows)
            if isinstance(value, dict):  # documents are in memory already, and each block has another width
                return self.stays.raw_of(modality, np.arange(n))
            there = self.stays.present[rows, self.stays.modalities.index(modality)].nonzero().flatten()
            check_finite(modality.name, value, there, self.stays.stay_id[rows])
            if held is None:
                held = torch.empty(n, *value.shape[1:], dtype=value.dtype, device=self._where())
            held[rows[0] : rows[-1] + 1] = value
        assert held is not None
        return held

    def _where(self) -> torch.device:
        found = self.device or torch.accelerator.current_accelerator(check_available=True)
        return found or torch.device("cpu")


def fit_in(splits: Sequence[Stays], share: float) -> bool:
    """Whether all stays of these splits take at most this share of the free memory of an accelerator; without one they do not."""
    if not share or not torch.accelerator.is_available():
        return False
    try:
        free, _ = torch.accelerator.get_memory_info()
    except (RuntimeError, AttributeError):  # a kind of accelerator that does not say
        return False
    return sum(map(size, splits)) <= share * free


def size(stays: Stays) -> int:
    """Bytes of the raw values of a split's stays."""
    if not len(stays):
        return 0
    first = stays.raw([0]).values
    return len(stays) * sum(math.prod(m.shape) * _item(first[m.name]) for m in stays.modalities)


def _item(value: Value) -> int:
    """Bytes of one number, or of one token with its mask."""
    return sum(part.element_size() for part in value.values()) if isinstance(value, dict) else value.element_size()
