"""Tabular summaries of a stay: statistics of every channel of every modality, NaN where the modality is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from cm2.batch import Batch, Modality, Value
from cm2.kinds import ArrayKind, kind
from cm2.methods.contract import Stays

CHUNK = 512
"""Number of stays summarised at a time."""


class Summaries(nn.Module):
    """Columns of a table, one group per modality.

    A text gives the counts of the chosen tokens and the number of tokens. Any other modality gives the columns of its kind
    (``cm2.kinds.ArrayKind.columns``); if the features of a series include masks, for example, the mean of a mask is the share of steps
    at which the variable was observed.

    Args:
        modalities: the cohort's modalities.
        tokens: number of tokens counted: those contained in a share of the training texts nearest to one half.
    """

    def __init__(self, modalities: Sequence[Modality], tokens: int) -> None:
        super().__init__()
        self.kinds = {m.name: kind(m.kind) for m in modalities}
        for m in modalities:
            if self.kinds[m.name].tokenised:
                self.register_buffer(f"tokens_{m.name}", torch.zeros(min(tokens, m.vocabulary), dtype=torch.int64))
        self.vocabulary = {m.name: m.vocabulary for m in modalities if self.kinds[m.name].tokenised}
        self.shapes = {m.name: m.shape for m in modalities}

    @property
    def widths(self) -> list[int]:
        """Number of columns of each modality."""
        return [self._width(name) for name in self.kinds]

    def choose_tokens(self, batches: Iterable[Batch]) -> None:
        """Chooses the tokens to be counted from the training stays."""
        if not self.vocabulary:
            return
        holding = {name: torch.zeros(size) for name, size in self.vocabulary.items()}
        texts = dict.fromkeys(self.vocabulary, 0)
        for batch in batches:
            for m, (name, value) in enumerate(batch.values.items()):
                if isinstance(value, dict):
                    counts = _token_counts(value, self.vocabulary[name], batch.present[:, m, None])
                    holding[name] += (counts > 0).sum(dim=0)
                    texts[name] += batch.rows[name].numel()
        for name, count in holding.items():
            share = count / max(texts[name], 1)
            # share * (1 - share), the variance of "contains the token", is largest for tokens that split the texts evenly
            chosen = self.get_buffer(f"tokens_{name}")
            chosen.copy_((share * (1 - share)).argsort(descending=True, stable=True)[: len(chosen)])

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        """``(B, columns)`` float32."""
        groups = []
        for m, (name, value) in enumerate(batch.values.items()):
            present = batch.present[:, m, None]
            groups.append(torch.where(present, self._summarise(name, value, present), torch.nan))
        return torch.cat(groups, dim=1)

    def _summarise(self, name: str, value: Value, present: Tensor) -> Tensor:
        if isinstance(value, dict):
            counts = _token_counts(value, self.vocabulary[name], present)
            return torch.cat([counts[:, self.get_buffer(f"tokens_{name}")], counts.sum(dim=1, keepdim=True)], dim=1)
        return self._array_kind(name).columns(value.float())

    def _array_kind(self, name: str) -> ArrayKind:
        own = self.kinds[name]
        if not isinstance(own, ArrayKind):
            raise TypeError(f"{name}: a {own.name} is neither tokens nor an array and has no tabular summary; leave the modality out")
        return own

    def _width(self, name: str) -> int:
        if name in self.vocabulary:
            return len(self.get_buffer(f"tokens_{name}")) + 1
        return self._array_kind(name).columns(torch.zeros(1, *self.shapes[name])).shape[1]


def chunks(stays: Stays) -> Iterator[Batch]:
    """Every stay of a split once, `CHUNK` at a time."""
    for start in range(0, len(stays), CHUNK):
        yield stays.batch(range(start, min(start + CHUNK, len(stays))))


def _token_counts(value: dict[str, Tensor], vocabulary: int, present: Tensor) -> Tensor:
    ids, mask = (torch.where(present, value[part].flatten(1), 0) for part in ("input_ids", "attention_mask"))
    return torch.zeros(len(ids), vocabulary, device=ids.device).scatter_add(1, ids, mask.float())
