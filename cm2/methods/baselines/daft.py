"""DAFT: the other modalities produce a per-channel scale and shift of one modality's feature map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.containers import ModulesByName
from cm2.kinds import feature_ndim
from cm2.methods.baselines.base import Baseline
from cm2.networks.embedding import gather, present_values, spread
from cm2.networks.encoders import Features
from cm2.tasks import Task

BOTTLENECK = 7
RELEASED_CONTEXT = 16
"""The released bottleneck is computed with the original's number of tabular columns, whatever the width of the context."""


class AffineModulation(nn.Module):
    r"""Scale and shift of every channel, from the map's channel means and the context (Pölsterl et al., section 2).

    .. math:: [\alpha, \beta] = W_2\, \mathrm{relu}(W_1 [\mathrm{mean}(F), x]), \qquad F'_c = \alpha_c F_c + \beta_c

    Args:
        channels: C of the map.
        context: width of x.
        bottleneck: width between the two layers, which have no biases.
    """

    def __init__(self, channels: int, context: int, bottleneck: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(channels + context, bottleneck, bias=False), nn.ReLU(), nn.Linear(bottleneck, 2 * channels, bias=False)
        )

    def forward(self, mean: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C)`` and ``(B, context)`` to scale and shift, each ``(B, C)``."""
        scale, shift = self.network(torch.cat([mean, context], dim=1)).float().chunk(2, dim=1)
        return scale, shift


class DAFT(Baseline):
    """One modality's feature map is modulated by the others' vectors, pooled and classified.

    A missing context is zero. A missing modulated modality has a map of zeros with one position: its modulated map is the shift,
    through which the observed modalities reach the classifier.

    ``original``: the radiograph is modulated (the first modality if there is no radiograph), by one block over the concatenated vectors
    of the other modalities, which are tabular data in the paper. ``released``: the series is modulated, by a block for each other
    modality in turn. ``baseline.modality`` names another modality to be modulated. The original modulates inside the last residual
    block; here, as in the released code, the last map before pooling is modulated (of a series, the states of the first layer).

    References:
        Pölsterl, Wolf, Wachinger, "Combining 3D Image and Tabular Data via the Dynamic Affine Feature Map Transform", MICCAI 2021.

    Args:
        config: the run's configuration.
        modalities: two or more modalities of the cohort.
        task: what is predicted; None: a binary outcome.

    Raises:
        ValueError: a modality to be modulated that the cohort lacks.
    """

    name: ClassVar[str] = "daft"

    def __init__(self, config: Config, modalities: Sequence[Modality], task: Task | None = None) -> None:
        super().__init__(config, modalities, task)
        preferred = "series" if self.released else "image"
        self.modulated = self.chosen(default=next((m.name for m in modalities if m.kind == preferred), self.names[0]))
        own = next(m for m in modalities if m.name == self.modulated)
        self.encoders = ModulesByName({m.name: self.build_encoder(m, config.encoder) for m in modalities})
        self.rank = feature_ndim(self.encoders[self.modulated], own, config.encoder)
        others = [name for name in self.names if name != self.modulated]
        self.groups = [[name] for name in others] if self.released else [others]
        self.blocks = nn.ModuleList([self._block(group) for group in self.groups])
        self.dropout = nn.Dropout(self.config.dropout)
        self.classifier = self.new_head(self.encoders[self.modulated].output_dim)

    def logits(self, batch: Batch) -> Tensor:
        """Outputs of the head ``(B, outputs)``."""
        features = (
            self.encoders[self.modulated].features(present_values(batch, self.modulated)) if batch.rows[self.modulated].numel() else None
        )
        scale, shift = self._modulation(features, batch)
        return self.classifier(self.dropout(self._pooled(features, scale, shift, batch))).float()

    def _block(self, group: Sequence[str]) -> AffineModulation:
        channels = self.encoders[self.modulated].feature_dim
        context = sum(self.encoders[name].output_dim for name in group)
        bottleneck = (RELEASED_CONTEXT + context if self.released else channels + context) // BOTTLENECK
        return AffineModulation(channels, context, max(bottleneck, 1))

    def _modulation(self, features: Features | None, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scale and shift of all blocks combined.

        A block reads the map's mean only, and the mean of a modulated map is the modulated mean: the map is modulated once, at the end.
        """
        channels = self.encoders[self.modulated].feature_dim
        zero = batch.label.new_zeros(len(batch), channels, dtype=torch.float32)
        mean = zero if features is None else spread(features.mean().float(), batch, self.modulated)
        scale, shift = torch.ones_like(zero), zero
        for block, group in zip(self.blocks, self.groups, strict=True):
            alpha, beta = block(scale * mean + shift, torch.cat([self._context(batch, name) for name in group], dim=1))
            scale, shift = alpha * scale, alpha * shift + beta
        return scale, shift

    def _context(self, batch: Batch, name: str) -> Tensor:
        encoder = self.encoders[name]
        if batch.rows[name].numel() == 0:
            return batch.label.new_zeros(len(batch), encoder.output_dim, dtype=torch.float32)
        return spread(encoder(present_values(batch, name)).float(), batch, name)

    def _pooled(self, features: Features | None, scale: Tensor, shift: Tensor, batch: Batch) -> Tensor:
        encoder, rows = self.encoders[self.modulated], batch.rows[self.modulated]
        if features is not None:
            present = encoder.pool(features.affine(gather(scale, batch, self.modulated), gather(shift, batch, self.modulated))).float()
            if rows.numel() == len(batch):
                return present
        # one position, with as many axes as the encoder's pooling expects
        position = shift.view(len(batch), *[1] * (self.rank - 2), shift.shape[1])
        absent = encoder.pool(Features(position)).float()
        return absent if features is None else absent.index_copy(0, rows, present)
