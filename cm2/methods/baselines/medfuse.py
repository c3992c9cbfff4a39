"""MedFuse: an LSTM over the embeddings of the observed modalities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.methods.baselines.base import Baseline
from cm2.methods.contract import Pretraining
from cm2.methods.pretraining import SeparateObjective
from cm2.networks.embedding import ModalityEmbeddings
from cm2.networks.fusion import LSTMFusion
from cm2.tasks import Task

RELEASED_LENGTH = 2


class MedFuse(Baseline):
    """A one-layer LSTM reads the embeddings of the observed modalities as a sequence, whose length differs between stays.

    Its last hidden state is classified. An encoder already as wide as the embedding has no projection: the original projects the
    radiograph to the width of the series. The original pre-trains each encoder with a separate classifier, here in
    ``baseline.pretrain_epochs`` epochs; with 0, as in the CM² authors' runs, everything is trained at once.

    ``original``: all observed modalities are read, however many. ``released``: the sequence has at most two, so a third modality is
    read only if another is missing (never in the released code, whose series is never missing).

    References:
        Hayat, Geras, Shamout, "MedFuse: Multi-modal fusion with clinical time-series data and chest X-ray images", MLHC 2022.

    Args:
        config: the run's configuration.
        modalities: two or more modalities of the cohort.
        task: what is predicted; None: a binary outcome.
    """

    name: ClassVar[str] = "medfuse"

    def __init__(self, config: Config, modalities: Sequence[Modality], task: Task | None = None) -> None:
        super().__init__(config, modalities, task)
        dim = self.config.embedding_dim
        self.embeddings = ModalityEmbeddings(modalities, config.encoder, dim, self.build_encoder, always_project=False)
        self.fusion = LSTMFusion(dim, self.config.fusion_hidden, layers=1)
        self.dropout = nn.Dropout(self.config.dropout)
        self.classifier = self.new_head(self.fusion.output_dim)
        self.rate = config.train.learning_rate

    def pretraining(self) -> Pretraining | None:
        """Every encoder with a classifier of its own, if ``pretrain_epochs`` is not 0."""
        if not self.config.pretrain_epochs:
            return None
        objective = SeparateObjective(self.embed, len(self.names), self.embeddings.dim, self.task)
        return Pretraining(objective, self.config.pretrain_epochs, self.rate, reads_outcomes=True)

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embeddings ``(B, M, d)``, zero where missing, and the mask of observed modalities ``(B, M)``."""
        return self.embeddings(batch), batch.present

    def logits(self, batch: Batch) -> Tensor:
        """Outputs of the head ``(B, outputs)``."""
        z, present = self.embed(batch)
        read = present & (present.cumsum(dim=1) <= RELEASED_LENGTH) if self.released else present
        return self.classifier(self.dropout(self.fusion(z, read))).float()
