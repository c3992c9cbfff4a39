"""Tokenizers of LSMT: latents that attend to a series, patches of an image."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cm2.config import LSMTConfig
from cm2.errors import InputError
from cm2.methods.baselines.attention import Attention
from cm2.networks.encoders import FeatureNetwork, Features, channels_first

BANDS, HIGHEST = 6, 10
"""Fourier bands of a step's position in the series, and the highest sampling rate that they resolve."""
GREY = (0.449, 0.226)
"""Mean and standard deviation of ImageNet's images, averaged over their colours."""


class GatedFeedForward(nn.Module):
    """Layer normalisation, a linear map gated by the GELU of another, and a linear map back to the width.

    Args:
        dim: width.
        factor: hidden width as a multiple of ``dim``.
    """

    def __init__(self, dim: int, factor: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, 2 * factor * dim)
        self.narrow = nn.Linear(factor * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., dim) -> (..., dim)``."""
        value, gate = self.widen(self.norm(x)).chunk(2, dim=-1)
        return self.narrow(value * F.gelu(gate))


class LatentBlock(nn.Module):
    """Latents attend to the series, then to each other, each followed by a gated feed-forward part; all residual and pre-norm.

    Args:
        dim: width of the latents.
        heads: heads between latents; they attend to the series with one head of half their width.
        context: width of a step of the series.
    """

    def __init__(self, dim: int, heads: int, context: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(dim), nn.LayerNorm(context), nn.LayerNorm(dim)])
        self.cross = Attention(dim, 1, max(dim // 2, 1), context)
        self.itself = Attention(dim, heads, dim // heads)
        self.feedforward = nn.ModuleList([GatedFeedForward(dim), GatedFeedForward(dim)])

    def forward(self, latents: Tensor, series: Tensor) -> Tensor:
        """Latents ``(B, N, dim)`` and series ``(B, T, context)`` to latents."""
        ask, asked, again = self.norms
        latents = latents + self.cross(ask(latents), asked(series))
        latents = latents + self.feedforward[0](latents)
        latents = latents + self.itself(again(latents))
        return latents + self.feedforward[1](latents)


class LatentTokens(FeatureNetwork):
    r"""A series as a fixed number of latents that attend to it repeatedly (Jaegle et al., "Perceiver", ICML 2021).

    Each step is concatenated with :math:`t`, :math:`\sin(\pi f_k t)`, :math:`\cos(\pi f_k t)`: its position t from -1 to 1, at six
    frequencies :math:`f_k` from 1 to 5.

    Args:
        features: F, width of a step.
        sizes: number and width of the latents, blocks, heads.

    Raises:
        ValueError: a width that is not a multiple of the heads.
    """

    def __init__(self, features: int, sizes: LSMTConfig) -> None:
        super().__init__()
        dim, heads = sizes.latent_width, sizes.latent_heads
        if dim % heads:
            raise InputError(f"lsmt: latent_width = {dim} is not a multiple of latent_heads = {heads}; change one of them")
        self.latents = nn.Parameter(torch.randn(sizes.latents, dim))
        self.blocks = nn.ModuleList([LatentBlock(dim, heads, features + 2 * BANDS + 1) for _ in range(sizes.latent_layers)])
        self.feature_dim = dim

    def features(self, x: Tensor) -> Features:
        """``(n, T, F)`` to latents ``(n, N, latent_width)``."""
        place = torch.linspace(-1, 1, x.shape[1], device=x.device, dtype=x.dtype)[:, None]
        angle = pi * place * torch.linspace(1, HIGHEST / 2, BANDS, device=x.device, dtype=x.dtype)
        fourier = torch.cat((angle.sin(), angle.cos(), place), dim=1).expand(len(x), -1, -1)
        series, latents = torch.cat((x, fourier), dim=-1), self.latents.expand(len(x), -1, -1)
        for block in self.blocks:
            latents = block(latents, series)
        return Features(latents)


class PatchTokens(FeatureNetwork):
    """A Vision Transformer's class token and patches after its last block (Dosovitskiy et al., ICLR 2021).

    The original is ViT-S/16 for 384 pixels, pretrained on ImageNet, with three colour channels. This one is randomly initialised and has
    one channel for grey images: three equal channels would only add up three random maps.

    Args:
        shape: height and width of the images; a third number, their channels, for images in colour.
        sizes: patch, width, blocks, heads.

    Raises:
        ValueError: images that are not a multiple of the patches, or a width that is not a multiple of the heads.
    """

    def __init__(self, shape: tuple[int, ...], sizes: LSMTConfig) -> None:
        super().__init__()
        dim, heads, patch = sizes.width, sizes.image_heads, sizes.patch
        if any(side % patch for side in shape[:2]):
            raise InputError(
                f"lsmt: images of {shape} pixels do not fall into patches of {patch}; set baseline.lsmt.patch to a divisor of both sides"
            )
        if dim % heads:
            raise InputError(f"lsmt: width = {dim} is not a multiple of image_heads = {heads}; change one of them")
        self.shape = tuple(shape)
        count = (shape[0] // patch) * (shape[1] // patch)
        self.patches = nn.Conv2d(shape[2] if len(shape) == 3 else 1, dim, patch, stride=patch)
        self.first = nn.Parameter(0.02 * torch.randn(dim))
        self.position = nn.Parameter(0.02 * torch.randn(1 + count, dim))
        block = nn.TransformerEncoderLayer(dim, heads, 4 * dim, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, sizes.image_layers, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.feature_dim = dim

    def features(self, x: Tensor) -> Features:
        """``(n, *shape)`` in [0, 1] to tokens ``(n, 1 + patches, width)``. Raises ValueError for images of another shape."""
        if x.shape[1:] != self.shape:
            expected = ", ".join(map(str, ("B", *self.shape)))
            raise InputError(f"image: expected ({expected}), got {tuple(x.shape)}; build it for the cohort's images")
        mean, deviation = GREY
        patches = self.patches((channels_first(x) - mean) / deviation).flatten(2).mT
        tokens = torch.cat((self.first.expand(len(x), 1, -1), patches), dim=1)
        return Features(self.blocks(tokens + self.position))

    def compilable(self) -> tuple[nn.Module]:
        """The blocks."""
        return (self.blocks,)
