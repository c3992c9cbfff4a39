"""Interleaved: every modality on a common time grid, self- and cross-attention in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor, nn

from cm2.batch import Batch, Modality, Value
from cm2.config import Config, InterleavedConfig
from cm2.containers import ModulesByName, ModulesInOrder
from cm2.errors import InputError
from cm2.kinds import build_encoder, kind
from cm2.methods.baselines.attention import Attention
from cm2.methods.baselines.base import Baseline
from cm2.methods.baselines.states import states
from cm2.methods.baselines.time_attention import TimeAttention, TimeEmbedding
from cm2.networks.embedding import present_values, spread
from cm2.tasks import Task


class GatedSeries(nn.Module):
    r"""Embedding of a series on the grid: two embeddings mixed by a gate per stay (Zhang et al., section 3.1, "UTDE").

    .. math::
        g = \sigma(\mathrm{MLP}[\max_t a_t, \max_t c_t]), \qquad z_t = g a_t + (1 - g) c_t

    with a the attention to the observed times and c a convolution (of one step) of the imputed series, last value carried forward.

    Args:
        width: width of a step.
        sizes: width, heads, grid.
        dropout: dropout rate in the attention and before the gate's network.
        masks: of every feature, as in `cm2.batch.Modality`.
    """

    masks: Tensor

    def __init__(self, width: int, sizes: InterleavedConfig, dropout: float, masks: Sequence[int] = ()) -> None:
        super().__init__()
        self.register_buffer("masks", torch.tensor(masks, dtype=torch.int64), persistent=False)
        dim = sizes.width
        self.steps = sizes.steps
        self.attention = TimeAttention(width, dim, sizes.time, sizes.heads, dropout)
        self.convolution = nn.Linear(width, dim, bias=False)  # a kernel of one step
        self.gate = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, 1), nn.Sigmoid())

    def forward(self, x: Tensor, mask: Tensor, time: TimeEmbedding) -> Tensor:
        """Steps ``(n, T, F)`` and their mask ``(n, T)`` to ``(n, steps, width)``."""
        observed = (x[..., self.masks.clamp(min=0)] != 0) | (self.masks < 0) if len(self.masks) else None
        attended = self.attention(x, mask, time, self.steps, observed)
        last = torch.arange(self.steps, device=x.device) * x.shape[1] // self.steps
        held = self.convolution(x)[:, last]
        gate = self.gate(torch.cat((attended.amax(dim=1), held.amax(dim=1)), dim=-1))[:, None]
        return gate * attended + (1 - gate) * held


class InterleavedBlock(nn.Module):
    """Self-attention of each modality, cross-attention to all others, and a feed-forward part; all residual and pre-norm.

    Args:
        count: M, number of modalities.
        sizes: width, heads.
        dropout: dropout rate of attention weights and residual branches.
    """

    def __init__(self, count: int, sizes: InterleavedConfig, dropout: float) -> None:
        super().__init__()
        dim, heads = sizes.width, sizes.heads

        def each(build: Callable[[], nn.Module]) -> nn.ModuleList:
            return nn.ModuleList([build() for _ in range(count)])

        self.norms = ModulesInOrder([each(lambda: nn.LayerNorm(dim)) for _ in range(3)])
        self.itself, self.others = (each(lambda: Attention(dim, heads, dim // heads, dropout=dropout)) for _ in range(2))
        self.feedforward = each(lambda: nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim)))
        self.dropout = nn.Dropout(dropout)

    def forward(self, z: list[Tensor], present: Tensor) -> list[Tensor]:
        """M sequences ``(B, steps, width)`` and the mask ``(B, M)`` to M sequences; missing modalities are never attended to."""
        z = [x + self.dropout(ask(norm(x))) for x, ask, norm in zip(z, self.itself, self.norms[0], strict=True)]
        known = [norm(x) for x, norm in zip(z, self.norms[1], strict=True)]
        seen = present[:, :, None].expand(-1, -1, known[0].shape[1])
        result = []
        for m, x in enumerate(z):
            others = [n for n in range(len(z)) if n != m]
            context = torch.cat([known[n] for n in others], dim=1)
            mask = torch.cat([seen[:, n] for n in others], dim=1)
            x = x + self.dropout(self.others[m](known[m], context, mask))
            result.append(x + self.dropout(self.feedforward[m](self.norms[2][m](x))))
        return result


class Interleaved(Baseline):
    r"""Every modality becomes a sequence on a common time grid; layers of self-attention within and cross-attention between modalities.

    A series is embedded by ``GatedSeries``; any other modality, like the original's notes, by attention from the grid to its states. With
    :math:`z^0_m` these sequences plus positions, for j = 1, ..., J, all pre-norm,

    .. math::
        \hat z_m = z^{j-1}_m + \mathrm{SA}(z^{j-1}_m), \quad
        \tilde z_m = \hat z_m + \mathrm{CA}(\hat z_m, [\hat z_n]_{n \ne m, n \in O_i}), \quad
        z^j_m = \tilde z_m + \mathrm{FF}(\tilde z_m)

    and the log-odds are :math:`w^\top (W_2 \mathrm{relu}(W_1 h) + h) + b`, with h the concatenated last states, zero for a missing
    modality.

    The original reads irregular measurement times with the variable and value measured at each, and notes with their times. A cohort
    here has a grid (of two hours in the paper's cohorts), on which values are carried forward. A step's time is its index, scaled to
    [0, 1]. Where the series has columns that mask its measurements, attention over time reads a variable at the steps alone at which it
    was measured, as the original does; without them every step counts as observed. For tokens of a text, patches of an image and a
    vector (a single position) the position replaces the time. In the original, which has two modalities, each attends to the other; with
    more, each attends to all others at once.

    The CM² authors' program has no Interleaved and their paper does not say how it was run; both variants are the same.
    ``baseline.encoders = "common"`` reads a series through its encoder first, as Table 10 requires; images, texts and vectors always
    have the encoders of [encoder].

    References:
        Zhang, Li, Chen, Yan, Petzold, "Improving Medical Predictions by Irregular Multimodal Electronic Health Records Modeling",
        ICML 2023; Shukla, Marlin, "Multi-Time Attention Networks for Irregularly Sampled Time Series", ICLR 2021.

    Args:
        config: the run's configuration.
        modalities: two or more modalities of the cohort.
        task: what is predicted; None: a binary outcome.

    Raises:
        ValueError: a width that is not a multiple of the heads.
    """

    name: ClassVar[str] = "interleaved"
    version: ClassVar[str] = "2"
    variants: ClassVar[tuple[str, ...]] = ("original",)

    def __init__(self, config: Config, modalities: Sequence[Modality], task: Task | None = None) -> None:
        super().__init__(config, modalities, task)
        sizes, dropout = self.config.interleaved, self.config.dropout
        for name in ("width", "time"):
            if (width := getattr(sizes, name)) % sizes.heads:
                raise InputError(f"interleaved: {name} = {width} is not a multiple of heads = {sizes.heads}; change one of them")
        read_raw = [m.name for m in modalities if kind(m.kind).named_steps and self.config.encoders == "own"]
        self.encoders = ModulesByName({m.name: build_encoder(m, config.encoder) for m in modalities if m.name not in read_raw})
        self.time = TimeEmbedding(sizes.time)
        self.grids = nn.ModuleDict()
        for m in modalities:
            width = m.shape[-1] if m.name in read_raw else self.encoders[m.name].feature_dim
            if kind(m.kind).named_steps:
                self.grids[m.name] = GatedSeries(width, sizes, dropout, m.masks if m.name in read_raw else ())
            else:
                self.grids[m.name] = TimeAttention(width, sizes.width, sizes.time, sizes.heads, dropout)
        self.single_positions = [m.name for m in modalities if not kind(m.kind).sequence]
        self.position = nn.Parameter(0.02 * torch.randn(sizes.steps, sizes.width))
        self.blocks = nn.ModuleList([InterleavedBlock(len(self.names), sizes, dropout) for _ in range(sizes.layers)])
        self.norms = nn.ModuleDict({name: nn.LayerNorm(sizes.width) for name in self.names})
        joint = sizes.width * len(self.names)
        self.residual = nn.Sequential(nn.Linear(joint, joint), nn.ReLU(), nn.Dropout(dropout), nn.Linear(joint, joint))
        self.dropout = nn.Dropout(dropout)
        self.classifier = self.new_head(joint)

    @property
    def unused_parameters(self) -> dict[str, str]:
        """Queries and keys of the grids of modalities with a single position."""
        reason = "where there is a single position, every time of the grid attends to it"
        return {f"grids.{name}.{part}": reason for name in self.single_positions for part in ("query", "key")}

    def logits(self, batch: Batch) -> Tensor:
        """Outputs of the head ``(B, outputs)``."""
        scale = sqrt(self.config.interleaved.width)
        z = [self.dropout(scale * self._on_grid(batch, name) + self.position) for name in self.names]
        for block in self.blocks:
            z = block(z, batch.present)
        last = torch.stack([self.norms[name](x[:, -1]) for name, x in zip(self.names, z, strict=True)], dim=1)
        joint = torch.where(batch.present[..., None], last, 0).flatten(1)
        return self.classifier(joint + self.residual(joint)).float()

    def _on_grid(self, batch: Batch, name: str) -> Tensor:
        sizes = self.config.interleaved
        if batch.rows[name].numel() == 0:
            return batch.label.new_zeros(len(batch), sizes.steps, sizes.width, dtype=torch.float32)
        positions, mask = self._positions(present_values(batch, name), name)
        grid = self.grids[name]
        z = grid(positions, mask, self.time) if isinstance(grid, GatedSeries) else grid(positions, mask, self.time, sizes.steps)
        return spread(z.float(), batch, name)

    def _positions(self, value: Value, name: str) -> tuple[Tensor, Tensor]:
        if isinstance(value, Tensor) and name not in self.encoders:
            return value, value.new_ones(value.shape[:2], dtype=torch.bool)
        return states(self.encoders[name], value)
