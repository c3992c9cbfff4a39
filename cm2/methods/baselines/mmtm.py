"""MMTM: modalities gate the channels of each other's feature maps by squeeze and excitation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.containers import ModulesByName
from cm2.methods.baselines.base import Baseline
from cm2.networks.embedding import gather, present_values, spread
from cm2.networks.encoders import Features
from cm2.tasks import Task


class ChannelGates(nn.Module):
    r"""Squeeze-and-excitation between modalities (Joze et al., section 3.2).

    .. math:: Z = \mathrm{relu}(W [S_1, \dots, S_M] + b), \qquad G_m = c \, \sigma(W_m Z + b_m)

    Args:
        widths: channels C_m of every modality.
        hidden: width of Z.
        factor: c: 2, which makes a gate 1 where its logit is 0, or 1 (released code).
    """

    def __init__(self, widths: Sequence[int], hidden: int, factor: float) -> None:
        super().__init__()
        self.squeeze = nn.Linear(sum(widths), hidden)
        self.excite = nn.ModuleList([nn.Linear(hidden, width) for width in widths])
        self.factor = factor

    def forward(self, squeezed: Sequence[Tensor]) -> list[Tensor]:
        """Means over positions ``(B, C_m)``, zero where missing, to gates ``(B, C_m)``."""
        z = self.squeeze(torch.cat(list(squeezed), dim=1)).relu()
        return [self.factor * excite(z).sigmoid() for excite in self.excite]


class MMTM(Baseline):
    """The channels of each encoder's feature map are scaled by gates computed from all modalities' maps before pooling.

    Joze et al. put units at several depths of convolutional networks; here, as in the released code, there is one, at the last map
    before pooling: the first layer's states of an LSTM, the last block of a residual network, the token states of a text, the
    hidden vector of a vector. A missing modality is squeezed to zeros.

    ``original``: one unit over all modalities with gates in (0, 2) and Z a quarter as wide as the sum of their channels (the paper;
    its authors' program has half); a head for each modality; the mean log-odds of the observed modalities' heads is the prediction and
    is trained. ``released``: gates in (0, 1) and Z half as wide; with three or more modalities, a unit for each pair of the series (the
    first series, or the first modality if there is none) and another modality, applied in turn; a text is its widened vector; a head for
    each modality and a joint head on all their vectors, which predicts. The released program takes a step of Adam for each head in
    turn, each after a separate forward pass, and reports the head with the best validation AUROC; here the loss is the sum over heads
    of the cross entropy, each modality's over the stays in which it is observed.

    References:
        Joze, Shaban, Iuzzolino, Koishida, "MMTM: Multimodal Transfer Module for CNN Fusion", CVPR 2020.

    Args:
        config: the run's configuration.
        modalities: two or more modalities of the cohort.
        task: what is predicted; None: a binary outcome.
    """

    name: ClassVar[str] = "mmtm"

    def __init__(self, config: Config, modalities: Sequence[Modality], task: Task | None = None) -> None:
        super().__init__(config, modalities, task)
        self.first = next((m.name for m in modalities if m.kind == "series"), self.names[0])
        self.encoders = ModulesByName({m.name: self.build_encoder(m, config.encoder) for m in modalities})
        others = [name for name in self.names if name != self.first]
        self.groups = [(name, self.first) for name in others] if self.released else [self.names]
        self.units = nn.ModuleList([self._unit(group) for group in self.groups])
        widths = {name: encoder.output_dim for name, encoder in self.encoders.items()}
        self.heads = nn.ModuleDict({name: self.new_head(width) for name, width in widths.items()})
        self.dropout = nn.Dropout(self.config.dropout)
        if self.released:
            self.widen = nn.Linear(widths[self.first], self.config.fusion_hidden)
            self.joint = self.new_head(self.config.fusion_hidden + sum(widths[name] for name in others))

    def logits(self, batch: Batch) -> Tensor:
        """Outputs ``(B, outputs)``."""
        return self._predicted(batch, self.embed_each(batch))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Loss of the prediction; in the released variant also of every modality's head."""
        self.check(batch)
        vectors = self.embed_each(batch)
        task = self.task.loss(self._predicted(batch, vectors), batch.label)
        loss = task
        if self.released:
            own = self._own(vectors)
            loss = task + sum(self.task.loss(own[:, m], batch.label, batch.present[:, m]) for m in range(len(self.names)))
        return {"loss": loss, "task": task.detach()}

    def embed_each(self, batch: Batch) -> dict[str, Tensor]:
        """Every modality's vector after gating, ``(B, width)``, zero where missing."""
        maps = {name: self.encoders[name].features(present_values(batch, name)) for name in self.names if batch.rows[name].numel()}
        squeezed = {name: self._squeezed(maps.get(name), batch, name) for name in self.names}
        gates = {name: torch.ones_like(s) for name, s in squeezed.items()}
        # a unit reads channel means only, and the mean of a gated map is the gated mean: the maps are scaled once, at the end
        for unit, group in zip(self.units, self.groups, strict=True):
            for name, gate in zip(group, unit([squeezed[n] * gates[n] for n in group]), strict=True):
                gates[name] = gates[name] * gate
        return {name: self._pooled(maps.get(name), gates[name], batch, name) for name in self.names}

    def _unit(self, group: Sequence[str]) -> ChannelGates:
        widths = [self.encoders[name].feature_dim for name in group]
        return ChannelGates(widths, sum(widths) // (2 if self.released else 4), factor=1.0 if self.released else 2.0)

    def _squeezed(self, features: Features | None, batch: Batch, name: str) -> Tensor:
        if features is None:
            return batch.label.new_zeros(len(batch), self.encoders[name].feature_dim, dtype=torch.float32)
        return spread(features.mean().float(), batch, name)

    def _pooled(self, features: Features | None, gate: Tensor, batch: Batch, name: str) -> Tensor:
        encoder = self.encoders[name]
        if features is None:
            return batch.label.new_zeros(len(batch), encoder.output_dim, dtype=torch.float32)
        gated = features.affine(gather(gate, batch, name))
        return spread(encoder.pool(gated).float(), batch, name)

    def _own(self, vectors: dict[str, Tensor]) -> Tensor:
        return torch.stack([self.heads[name](self.dropout(vectors[name])).float() for name in self.names], dim=1)

    def _predicted(self, batch: Batch, vectors: dict[str, Tensor]) -> Tensor:
        if not self.released:
            own = torch.where(batch.present[..., None], self._own(vectors), 0)
            return own.sum(dim=1) / batch.present.sum(dim=1, keepdim=True)
        parts = [self.widen(vector) if name == self.first else vector for name, vector in vectors.items()]
        return self.joint(self.dropout(torch.cat(parts, dim=1))).float()
