"""LSMT: one transformer over the tokens of every modality."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cm2.batch import Batch, Modality
from cm2.config import Config, LSMTConfig
from cm2.containers import ModulesByName
from cm2.kinds import build_encoder
from cm2.methods.baselines.attention import Attention
from cm2.methods.baselines.base import Baseline
from cm2.methods.baselines.lsmt_tokens import LatentTokens, PatchTokens
from cm2.methods.baselines.states import states
from cm2.networks.embedding import present_values, spread
from cm2.networks.encoders import FeatureNetwork
from cm2.tasks import Task


class TokenBlock(nn.Module):
    """Self-attention and a feed-forward part with GELU, both residual and pre-norm.

    Args:
        sizes: width, heads, width of a head, width of the feed-forward part.
    """

    def __init__(self, sizes: LSMTConfig) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(sizes.width), nn.LayerNorm(sizes.width)])
        self.attention = Attention(sizes.width, sizes.heads, sizes.head_width)
        self.feedforward = nn.Sequential(nn.Linear(sizes.width, sizes.feedforward), nn.GELU(), nn.Linear(sizes.feedforward, sizes.width))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens ``(B, L, width)`` and their mask ``(B, L)`` to tokens."""
        tokens = tokens + self.attention(self.norms[0](tokens), mask=mask)
        return tokens + self.feedforward(self.norms[1](tokens))


class LSMT(Baseline):
    r"""A transformer over a class token and the tokens of every observed modality; the class token's state is classified.

    .. math::
        X = [c, \; W_1 T_1 + e_1 + P, \; \dots, \; W_M T_M + e_M + P], \qquad
        \hat y = \sigma(w^\top \mathrm{LN}(\mathrm{Transformer}(X)_0) + b)

    with :math:`T_m` a modality's tokens, :math:`e_m` a learnt vector of the modality and P sines and cosines of a token's position in
    it. The tokens of a series are a fixed number of latents that attend to it repeatedly, those of an image its patches after a Vision
    Transformer, those of a text its token states; a vector is one token. Tokens of missing modalities and padding are masked. The
    original, which has a series and an image of every stay, masks nothing, counts positions through the whole sequence and has no
    :math:`e_m`; with any number of modalities and texts of any length, a position in the whole sequence would identify neither the
    modality nor the position in it. The original's program adds every token to itself along with its position; here it is added once.

    The CM² authors' program has no LSMT and their paper does not say how it was run; both variants are the same.
    ``baseline.encoders = "common"`` takes the feature maps of [encoder] as tokens; the paper's Table 10 can only be run this way.

    References:
        Khader et al., "Medical transformer for multimodal survival prediction in intensive care: integration of imaging and non-imaging
        data", Scientific Reports 2023.

    Args:
        config: the run's configuration.
        modalities: two or more modalities of the cohort.
        task: what is predicted; None: a binary outcome.

    Raises:
        ValueError: images that are not a multiple of the patches, or a width that is not a multiple of its heads.
    """

    name: ClassVar[str] = "lsmt"
    variants: ClassVar[tuple[str, ...]] = ("original",)

    def __init__(self, config: Config, modalities: Sequence[Modality], task: Task | None = None) -> None:
        super().__init__(config, modalities, task)
        sizes = self.config.lsmt
        self.encoders = ModulesByName({m.name: _token_encoder(m, config) for m in modalities})
        self.projections = nn.ModuleDict({name: nn.Linear(encoder.feature_dim, sizes.width) for name, encoder in self.encoders.items()})
        self.class_token = nn.Parameter(torch.randn(sizes.width))
        self.modality = nn.Parameter(0.02 * torch.randn(len(self.names), sizes.width))
        self.blocks = nn.ModuleList([TokenBlock(sizes) for _ in range(sizes.layers)])
        self.norm = nn.LayerNorm(sizes.width)
        self.dropout = nn.Dropout(self.config.dropout)
        self.classifier = self.new_head(sizes.width)

    def tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The class token and every modality's tokens ``(B, L, width)``, and their mask ``(B, L)``."""
        first = self.class_token.expand(len(batch), 1, -1)
        parts = [(first, torch.ones_like(batch.present[:, :1]))]
        parts += [self._tokens_of(batch, m, name) for m, name in enumerate(self.names) if batch.rows[name].numel()]
        tokens, masks = zip(*parts, strict=True)
        return torch.cat(tokens, dim=1), torch.cat(masks, dim=1)

    def logits(self, batch: Batch) -> Tensor:
        """Outputs of the head ``(B, outputs)``."""
        tokens, mask = self.tokens(batch)
        for block in self.blocks:
            tokens = block(tokens, mask)
        return self.classifier(self.dropout(self.norm(tokens[:, 0]))).float()

    def _tokens_of(self, batch: Batch, m: int, name: str) -> tuple[Tensor, Tensor]:
        tokens, mask = states(self.encoders[name], present_values(batch, name))
        tokens = self.projections[name](tokens).float() + self.modality[m]
        return spread(tokens + _positions(tokens), batch, name), spread(mask, batch, name)


def _positions(tokens: Tensor) -> Tensor:
    """Sines and cosines of a token's position (Vaswani et al., NeurIPS 2017), ``(L, width)`` for tokens ``(B, L, width)``."""
    length, width = tokens.shape[1:]
    even = torch.arange(0, width, 2, device=tokens.device)
    angle = torch.arange(length, device=tokens.device)[:, None] * torch.exp(even * (-log(10_000.0) / width))
    return F.pad(torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1), (0, width - 2 * len(even)))


def _token_encoder(modality: Modality, config: Config) -> FeatureNetwork:
    sizes, own = config.baseline.lsmt, config.baseline.encoders == "own"
    if own and modality.kind == "series":
        return LatentTokens(modality.shape[-1], sizes)
    if own and modality.kind == "image":
        return PatchTokens(modality.shape, sizes)
    return build_encoder(modality, config.encoder)
