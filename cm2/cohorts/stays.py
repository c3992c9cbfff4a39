"""Torch data set of the stays of one split for one task; gathers whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from cm2.batch import Batch, Modality, Value
from cm2.cohorts.disclosure import Disclosure
from cm2.cohorts.missingness import stable_uniform
from cm2.errors import InputError
from cm2.kinds import Stored, kind, ready
from cm2.tasks import Binary, Task, known_stays


class StaySource(Stored, Protocol):
    """Interface of a cohort to its stays; `cm2.cohorts.Cohort` implements it."""

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities in the order of the columns of ``present``."""
        ...

    @property
    def disclosure(self) -> Disclosure:
        """What may be shown of the cohort."""
        ...


class Stays(Dataset[Batch]):
    """Stays of a split, with their outcome.

    ``batch(indices)`` is one gather from the memory maps; ``DataLoader(stays, batch_size=32, collate_fn=stays.collate)`` uses it too,
    through ``__getitems__``.

    Args:
        cohort: the prepared cohort.
        rows: ``(n,)`` rows of the cohort.
        label: ``(n,)``, or ``(n, L)`` where a label has several numbers, NaN where the outcome is unknown.
        present: ``(n, M)`` bool, after masking.
        kept: number of stays in which one modality was left unmasked because none would have remained.
        task: what the labels are; None: binary.
    """

    def __init__(
        self, cohort: StaySource, rows: np.ndarray, label: np.ndarray, present: np.ndarray, kept: int = 0, task: Task | None = None
    ) -> None:
        self.cohort = cohort
        self.rows = rows
        self.kept = kept
        self.task = task or Binary()
        self.label = torch.from_numpy(label.astype(np.float32))
        self.present = torch.from_numpy(np.ascontiguousarray(present))
        self.stay_id = torch.from_numpy(cohort.stays["stay_id"].to_numpy()[rows])

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities of the cohort."""
        return self.cohort.modalities

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        """A batch of one stay."""
        return self.batch([range(len(self))[index]])

    def __getitems__(self, indices: list[int]) -> Batch:
        return self.batch(indices)

    def batch(self, indices: Sequence[int] | Tensor | np.ndarray) -> Batch:
        """The stays at these positions of the split; missing values are zeros (padding for text).

        Args:
            indices: B positions in ``range(len(self))``.

        Returns:
            Series ``(B, T, F)`` float32, images ``(B, H, W)`` or ``(B, H, W, 3)`` float32 in [0, 1], text ids and masks ``(B, L)``,
            or ``(B, documents, L)``, with L the longest document of the batch.
        """
        return ready(self.raw(indices), self.modalities)

    def raw(self, indices: Sequence[int] | Tensor | np.ndarray) -> Batch:
        """The same batch with values as they are stored, smaller on their way to a device, where `cm2.kinds.ready` reads them."""
        at = np.asarray(indices, dtype=np.int64)
        where = torch.from_numpy(at)
        values = {m.name: self.raw_of(m, at) for m in self.modalities}
        return Batch(values, self.present[where], self.label[where], self.stay_id[where], raw=True)

    def raw_of(self, modality: Modality, at: np.ndarray) -> Value:
        """Values of one modality alone as they are stored, of the stays at these positions; a text's placeholders are padding."""
        present = self.present[torch.from_numpy(at), self.modalities.index(modality)]
        return kind(modality.kind).raw(self.cohort, modality.name, self.rows[at], present)

    def with_labels(self, share: float, seed: int = 0) -> Stays:
        """The same stays with the outcome known of a share of those that have it, and of the same share of those that do not.

        Which stays is a stable hash of (seed, stay): a stay whose outcome is known at one share has it at every larger share.

        Args:
            share: in (0, 1].
            seed: any integer.

        Raises:
            ValueError: a share outside (0, 1], or one that leaves no stay with one of the outcomes.
        """
        if not 0 < share <= 1:
            raise InputError(f"labels: expected a share above 0 and at most 1, got {share}")
        label, place = self.label.numpy().copy(), stable_uniform(seed, self.stay_id.numpy(), "label")
        groups = np.where(known_stays(label), self.task.strata(label), np.nan)
        for outcome in np.unique(groups[~np.isnan(groups)]):
            own = np.flatnonzero(groups == outcome)
            keep = round(share * len(own))
            if len(own) and not keep:
                count = self.cohort.disclosure.count(len(own))
                raise InputError(f"labels: {share} of {count} stays {self.task.stratum(outcome)} is none; give a larger share")
            label[own[np.argsort(place[own], kind="stable")[keep:]]] = np.nan
        return Stays(self.cohort, self.rows, label, self.present.numpy(), self.kept, self.task)

    def labelled(self) -> Stays:
        """The stays whose outcome is known."""
        known = known_stays(self.label.numpy())
        return Stays(self.cohort, self.rows[known], self.label.numpy()[known], self.present.numpy()[known], self.kept, self.task)

    def collate(self, samples: Batch | Sequence[Batch]) -> Batch:
        """Concatenates batches; returns a single batch unchanged."""
        if isinstance(samples, Batch):
            return samples
        values = {name: self._join([s.values[name] for s in samples]) for name in samples[0].values}
        present, label, stay_id = (torch.cat([getattr(s, part) for s in samples]) for part in ("present", "label", "stay_id"))
        return Batch(values, present, label, stay_id)

    def _join(self, values: Sequence[Value]) -> Value:
        texts = [value for value in values if isinstance(value, dict)]
        if not texts:
            return torch.cat([value for value in values if isinstance(value, Tensor)])
        width = max(text["input_ids"].shape[-1] for text in texts)
        fill = {"input_ids": self.cohort.padding, "attention_mask": 0}
        return {part: torch.cat([pad(t[part], (0, width - t[part].shape[-1]), value=fill[part]) for t in texts]) for part in fill}
