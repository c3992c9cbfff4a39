"""Hyper-parameters of the methods that CM² is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field

from cm2.config.checks import all_positive, not_negative, one_of, rates
from cm2.config.reading import later


@dataclass(frozen=True)
class DrFuseConfig:
    """Sizes of drfuse that no other method has."""

    heads: int = 4
    """Attention heads of the transformer over a series."""
    feedforward: int = 2048
    """Width of its feed-forward part."""
    image_depth: int = 50
    """Depth of its two residual networks: 10, 18, 34 or 50."""

    def __post_init__(self) -> None:
        all_positive("baseline.drfuse", self)


@dataclass(frozen=True)
class LSMTConfig:
    """Sizes of lsmt that no other method has; the defaults are those of its authors' program."""

    width: int = 384
    """Width of a token."""
    layers: int = 4
    """Blocks over all modalities' tokens."""
    heads: int = 4
    """Attention heads of such a block."""
    head_width: int = 128
    """Width of such a head."""
    feedforward: int = 384
    """Width of such a block's feed-forward part."""
    patch: int = 16
    """Side of an image's patches in pixels."""
    image_layers: int = 12
    """Blocks over an image's patches."""
    image_heads: int = 6
    """Attention heads of such a block."""
    latents: int = 128
    """Latent tokens of a series."""
    latent_width: int = 128
    """Their width, a multiple of ``latent_heads``."""
    latent_layers: int = 6
    """Cross-attention layers from the latents to the series."""
    latent_heads: int = 4
    """Attention heads of the latents."""

    def __post_init__(self) -> None:
        all_positive("baseline.lsmt", self)


@dataclass(frozen=True)
class InterleavedConfig:
    """Sizes of interleaved that no other method has; the defaults are those of its paper."""

    width: int = 128
    """Width of a modality's state at a point of the time grid, a multiple of ``heads``."""
    time: int = 64
    """Width of the embedding of a time, a multiple of ``heads``."""
    heads: int = 8
    """Attention heads, over time and between modalities."""
    layers: int = 3
    """Blocks of self- and cross-attention."""
    steps: int = 48
    """Points of the time grid."""

    def __post_init__(self) -> None:
        all_positive("baseline.interleaved", self)


@dataclass(frozen=True)
class BaselineConfig:
    """The compared methods; one group for all of them, its widths those of the released code."""

    variant: str = "original"
    """``original``: as the method's own paper has it; ``released``: as the CM² authors' program runs it."""
    modality: str = ""
    """The one that single_modality reads and that daft modulates; empty: the method's own choice."""
    encoders: str = "own"
    """Of drfuse, lsmt and interleaved, which bring networks of their own: ``own``, or ``common``, those of [encoder] (paper, Table 10)."""
    dropout: float = 0.3
    """Before a classifier; inside the attention of drfuse and interleaved."""
    embedding_dim: int = 256
    """Width of a modality's vector: unified, medfuse, drfuse (there a multiple of ``drfuse.heads``); linear, at most."""
    fusion_hidden: int = 512
    """Width of what joins the modalities: the LSTM of medfuse, the joint head of mmtm (released)."""
    pretrain_epochs: int = later(0)
    """Epochs in which each encoder of medfuse first learns the outcome with a head of its own, at ``train.learning_rate``."""
    text_dim: int = 512
    """Width that a text's vector is brought to by a linear layer (released), that of the released image vector."""
    trees: int = 300
    """Boosting rounds at most: boosted_trees."""
    tree_depth: int = 4
    """Splits from a tree's root to a leaf at most: boosted_trees."""
    tree_stays: int = 20
    """Training stays in a leaf at least: boosted_trees."""
    tree_learning_rate: float = 0.05
    """Shrinkage of a tree: boosted_trees."""
    tree_tokens: int = 256
    """Tokens of a text that are counted: boosted_trees, logistic, trees_and_logistic, linear."""
    drfuse: DrFuseConfig = field(default_factory=DrFuseConfig)
    """Further sizes of drfuse."""
    lsmt: LSMTConfig = field(default_factory=LSMTConfig)
    """Further sizes of lsmt."""
    interleaved: InterleavedConfig = field(default_factory=InterleavedConfig)
    """Further sizes of interleaved."""

    def __post_init__(self) -> None:
        one_of("baseline.variant", self.variant, ("original", "released"))
        one_of("baseline.encoders", self.encoders, ("own", "common"))
        all_positive("baseline", self, but=("dropout", "pretrain_epochs"))
        not_negative(**{"baseline.pretrain_epochs": self.pretrain_epochs})
        rates(**{"baseline.dropout": self.dropout})
