"""The networks below every method: one group of settings for each kind of modality."""

from __future__ import annotations

from dataclasses import dataclass, field

from cm2.config.checks import not_negative, one_of, rates
from cm2.config.reading import later


@dataclass(frozen=True)
class SeriesEncoderConfig:
    """The network of a time series."""

    hidden: int = 256
    """Width of the hidden state; the paper's code has 256."""
    layers: int = 2
    """Stacked layers (paper: two)."""
    dropout: float = 0.0
    """Between the layers and on the last hidden state."""
    kind: str = "lstm"
    """``lstm`` (paper) or ``transformer`` (paper, Table 10)."""
    heads: int = 4
    """Attention heads of the transformer."""
    summary: int = later(0)
    """Width of a second path beside the network: a linear layer of the channels' statistics over time (mean, extremes, first, last,
    standard deviation, slope; of a mask, the share observed), joined with the network's output. 0: no such path."""

    def __post_init__(self) -> None:
        one_of("encoder.series.kind", self.kind, ("lstm", "transformer"))
        not_negative(**{"encoder.series.summary": self.summary})
        rates(**{"encoder.series.dropout": self.dropout})


@dataclass(frozen=True)
class ImageEncoderConfig:
    """The network of a radiograph."""

    depth: int = 34
    """Of the residual network: 10, 18, 34 (paper) or 50."""
    pretrained: bool = False
    """ImageNet weights; the paper's code starts at random."""
    kind: str = "resnet"
    """``resnet``, a residual network (paper), or ``vit``, a Vision Transformer (paper, Table 10)."""
    vit: str = "b_16"
    """The Vision Transformer: ``b_16``, or ``small`` for images of some tens of pixels."""

    def __post_init__(self) -> None:
        one_of("encoder.image.kind", self.kind, ("resnet", "vit"))
        one_of("encoder.image.vit", self.vit, ("b_16", "small"))


@dataclass(frozen=True)
class TextEncoderConfig:
    """The BERT of a note; the defaults are TinyBERT_General_4L_312D."""

    layers: int = 4
    """Transformer blocks."""
    hidden: int = 312
    """Width; a multiple of ``heads``."""
    heads: int = 12
    """Attention heads."""
    intermediate: int = 1200
    """Width of the feed-forward part."""
    dropout: float = 0.1
    """Everywhere BERT has one."""
    pooling: str = "cls"
    """Token vectors to one: ``cls`` (paper), or their ``mean``, which a small random start learns much sooner."""
    max_length: int = 512
    """Tokens kept of a text, [CLS] and [SEP] included; longer texts are cut and the cut is counted."""
    vocabulary: int = 2000
    """Size of the vocabulary trained on the cohort's training texts."""
    pretrained: str = ""
    """Folder of a pretrained model, or its name on the model hub; empty for a random start."""

    def __post_init__(self) -> None:
        one_of("encoder.text.pooling", self.pooling, ("cls", "mean"))
        rates(**{"encoder.text.dropout": self.dropout})


@dataclass(frozen=True)
class VectorEncoderConfig:
    """The encoder of a modality that is a vector already."""

    hidden: int = 64
    """Width of its hidden layer; 0 hands the vector through."""


@dataclass(frozen=True)
class EncoderConfig:
    """One encoder for each kind of modality."""

    series: SeriesEncoderConfig = field(default_factory=SeriesEncoderConfig)
    """Time series."""
    image: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    """Radiographs."""
    text: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    """Notes and reports."""
    vector: VectorEncoderConfig = field(default_factory=VectorEncoderConfig)
    """Feature vectors."""
