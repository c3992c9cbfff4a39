"""Unified: concatenated embeddings of all modalities and one linear classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from cm2.batch import Batch, Modality, Value
from cm2.config import Config
from cm2.methods.baselines.base import Baseline
from cm2.networks.embedding import ModalityEmbeddings
from cm2.tasks import Task


class Unified(Baseline):
    """Concatenation of the modalities' embeddings, then a linear layer.

    ``original``: the embedding of a missing modality is zero. ``released``: there is no mask, and the *value* of a missing modality is
    zero: an image of zeros passes through the network and enters the statistics of its batch normalisation; a text is one token of
    padding in its first document. An encoder already as wide as the embedding has no projection, as in the released code.

    References:
        Hayat, Geras, Shamout, "Towards dynamic multi-modal phenotyping using chest radiographs and physiological data", 2021.

    Args:
        config: the run's configuration.
        modalities: two or more modalities of the cohort.
        task: what is predicted; None: a binary outcome.
    """

    name: ClassVar[str] = "unified"

    def __init__(self, config: Config, modalities: Sequence[Modality], task: Task | None = None) -> None:
        super().__init__(config, modalities, task)
        dim = self.config.embedding_dim
        self.embeddings = ModalityEmbeddings(modalities, config.encoder, dim, self.build_encoder, always_project=False)
        self.dropout = nn.Dropout(self.config.dropout)
        self.classifier = self.new_head(dim * len(modalities))

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embeddings ``(B, M, d)`` and the mask of observed modalities ``(B, M)``."""
        if not self.released:
            return self.embeddings(batch), batch.present
        columns = [
            self.embeddings.encode(name, zero_where_absent(batch.values[name], batch.present[:, m])) for m, name in enumerate(self.names)
        ]
        return torch.stack(columns, dim=1), batch.present

    def logits(self, batch: Batch) -> Tensor:
        """Outputs of the head ``(B, outputs)``."""
        return self.classifier(self.dropout(self.embed(batch)[0].flatten(1))).float()


def zero_where_absent(value: Value, present: Tensor) -> Value:
    """A modality's value, zero where it is missing, with mask ``(B,)``; a missing text has one token of padding in its first document."""
    if not isinstance(value, dict):
        return torch.where(present.view(-1, *[1] * (value.ndim - 1)), value, 0)
    shape = value["attention_mask"].shape
    here = present.view(-1, *[1] * (len(shape) - 1))
    ids, mask = (torch.where(here, value[part], 0) for part in ("input_ids", "attention_mask"))
    first = torch.arange(mask[0].numel(), device=mask.device).view(shape[1:]) == 0
    return {"input_ids": ids, "attention_mask": torch.where(here, mask, first.to(mask.dtype))}
