"""Networks of DrFuse: two representations of one modality, from a common trunk where possible."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cm2.batch import Modality, Value
from cm2.config import Config
from cm2.errors import InputError
from cm2.kinds import build_encoder
from cm2.methods.baselines.text import build_released_encoder
from cm2.networks.encoders import Encoder, ResNetEncoder

POSITIONS = 350


class TwinEncoder(nn.Module):
    """Two networks over a modality, each with a linear map to the common width.

    Args:
        shared: encoder of the shared representation.
        distinct: encoder of the distinct representation.
        dim: d, width of both representations.
    """

    def __init__(self, shared: Encoder, distinct: Encoder, dim: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList([shared, distinct])
        self.projections = nn.ModuleList([nn.Linear(network.output_dim, dim) for network in (shared, distinct)])

    def forward(self, value: Value) -> tuple[Tensor, Tensor]:
        """The modality's value to two representations, each ``(n, d)``."""
        shared, distinct = (project(network(value)) for network, project in zip(self.networks, self.projections, strict=True))
        return shared, distinct


class TwinTransformer(nn.Module):
    """Post-norm transformer over a series: a common block, then a block and the mean over the steps for each representation.

    Args:
        features: width of a step.
        steps: longest series; at least 350 steps have position vectors.
        dim: d, a multiple of ``heads``.
        heads: attention heads.
        feedforward: width of the feed-forward part.
        dropout: dropout rate everywhere in the blocks.

    Raises:
        ValueError: d is not a multiple of ``heads``.
    """

    def __init__(self, features: int, steps: int, dim: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        if dim % heads:
            raise InputError(f"drfuse: baseline.embedding_dim = {dim} is not a multiple of baseline.drfuse.heads = {heads}; change one")
        self.project = nn.Linear(features, dim)
        self.position = nn.Parameter(torch.empty(max(POSITIONS, steps), dim).uniform_(-0.1, 0.1))
        block = lambda: nn.TransformerEncoderLayer(dim, heads, feedforward, dropout, batch_first=True)
        self.trunk, self.shared, self.distinct = block(), block(), block()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(n, T, F)`` to two representations, each ``(n, d)``."""
        common = self.trunk(self.project(x) + self.position[: x.shape[1]])
        return self.shared(common).mean(dim=1), self.distinct(common).mean(dim=1)


def twin_encoder(modality: Modality, config: Config) -> TwinEncoder | TwinTransformer:
    """The two networks of a modality: DrFuse's or, with ``baseline.encoders = "common"``, those of [encoder].

    Args:
        modality: its kind and shape determine the network.
        config: the run's configuration.
    """
    baseline = config.baseline
    own, dim, sizes = baseline.encoders == "own", baseline.embedding_dim, baseline.drfuse
    if own and modality.kind == "series":
        steps, features = modality.shape
        return TwinTransformer(features, steps, dim, sizes.heads, sizes.feedforward, baseline.dropout)
    if own and modality.kind == "image":
        first, second = (ResNetEncoder(sizes.image_depth, config.encoder.image.pretrained) for _ in range(2))
        second.network.conv1, second.network.bn1 = first.network.conv1, first.network.bn1  # the common trunk of both
        return TwinEncoder(first, second, dim)
    if baseline.variant == "released":
        shared, distinct = (build_released_encoder(modality, config.encoder, baseline.text_dim) for _ in range(2))
    else:
        shared, distinct = (build_encoder(modality, config.encoder) for _ in range(2))
    return TwinEncoder(shared, distinct, dim)
