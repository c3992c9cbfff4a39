"""A stay as a row of a table: summaries of every channel of every modality, NaN where the modality is absent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cm2.batch import Batch, Modality, Value

GRID = 8


class Summaries(nn.Module):
    """Columns of a table, one group for each modality.

    ========  ==========================================================================================================
    kind      columns
    ========  ==========================================================================================================
    series    first, last, mean, standard deviation, minimum, maximum and least-squares slope of every channel; where a
              cohort's channels include masks, the mean of a mask is the share of steps at which the channel was observed
    image     means over an 8 x 8 grid; mean, standard deviation, minimum and maximum of all pixels
    text      how often each of the chosen tokens occurs; number of tokens
    vector    as it is
    ========  ==========================================================================================================

    Args:
        modalities: those of the cohort.
        tokens: how many tokens of a text are counted: those that are in some training texts and not in others, the most even first.
    """

    def __init__(self, modalities: Sequence[Modality], tokens: int) -> None:
        super().__init__()
        self.kinds = {m.name: m.kind for m in modalities}
        for m in modalities:
            if m.kind == "text":
                self.register_buffer(f"tokens_{m.name}", torch.zeros(min(tokens, m.vocabulary), dtype=torch.int64))
        self.vocabulary = {m.name: m.vocabulary for m in modalities if m.kind == "text"}

    def choose_tokens(self, batches: Iterable[Batch]) -> None:
        """Chooses the tokens to be counted from the training stays."""
        if not self.vocabulary:
            return
        holding = {name: torch.zeros(size) for name, size in self.vocabulary.items()}
        texts = dict.fromkeys(self.vocabulary, 0)
        for batch in batches:
            for name, size in self.vocabulary.items():
                counts = _token_counts(batch.values[name], size, batch.present[:, batch.modalities.index(name), None])
                holding[name] += (counts > 0).sum(dim=0)
                texts[name] += batch.rows[name].numel()
        for name, count in holding.items():
            share = count / max(texts[name], 1)
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
        if self.kinds[name] == "series":
            return _series(value.float())
        return _image(value.float()) if self.kinds[name] == "image" else value.float()


def _series(x: Tensor) -> Tensor:
    time = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)
    time = time - time.mean()
    slope = torch.einsum("t,btf->bf", time, x) / time.square().sum().clamp(min=1)  # one step has no slope
    return torch.cat([x[:, 0], x[:, -1], x.mean(1), x.std(1, correction=0), x.amin(1), x.amax(1), slope], dim=1)


def _image(x: Tensor) -> Tensor:
    grid = F.adaptive_avg_pool2d(x[:, None], GRID).flatten(1)
    pixels = x.flatten(1)
    moments = torch.stack([pixels.mean(1), pixels.std(1, correction=0), pixels.amin(1), pixels.amax(1)], dim=1)
    return torch.cat([grid, moments], dim=1)


def _token_counts(value: dict[str, Tensor], vocabulary: int, present: Tensor) -> Tensor:
    ids, mask = (torch.where(present, value[part].flatten(1), 0) for part in ("input_ids", "attention_mask"))
    return torch.zeros(len(ids), vocabulary, device=ids.device).scatter_add(1, ids, mask.float())
