"""The networks below every method: one group of settings for each kind of modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from cm2.config.checks import not_negative, one_of, positive, rates
from cm2.config.names import did_you_mean
from cm2.config.reading import LATER_EMPTY, later
from cm2.errors import InputError


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
        positive(**{f"encoder.series.{name}": getattr(self, name) for name in ("hidden", "layers", "heads")})
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
    trainable_blocks: int = later(-1)
    """How many of the last blocks are trained, with what follows them; the rest stays as it starts. 0: none; -1: everything."""
    allow_random_start: bool = later(False)
    """Whether weights that are not there give way to a random start, which is another run: its key says so."""

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
    tokenizer: str = later("words")
    """``words``: pieces of words learnt from the cohort's training texts, of which the vocabulary then tells; or ``bytes``: the 256 bytes
    of UTF-8, which tell nothing, so that a model of a credentialed cohort may travel. A pretrained model brings its own."""
    pretrained: str = ""
    """Folder of a pretrained model, or its name on the model hub; empty for a random start."""
    trainable_blocks: int = later(-1)
    """How many of the last blocks are trained, with what follows them; the rest stays as it starts. 0: none; -1: everything."""
    allow_random_start: bool = later(False)
    """Whether a pretrained model that is not there gives way to a random start, which is another run: its key says so."""

    def __post_init__(self) -> None:
        one_of("encoder.text.pooling", self.pooling, ("cls", "mean"))
        one_of("encoder.text.tokenizer", self.tokenizer, ("words", "bytes"))
        sizes = ("layers", "hidden", "heads", "intermediate", "max_length", "vocabulary")
        positive(**{f"encoder.text.{name}": getattr(self, name) for name in sizes})
        rates(**{"encoder.text.dropout": self.dropout})


@dataclass(frozen=True)
class VectorEncoderConfig:
    """The encoder of a modality that is a vector already."""

    hidden: int = 64
    """Width of its hidden layer; 0 hands the vector through."""

    def __post_init__(self) -> None:
        not_negative(**{"encoder.vector.hidden": self.hidden})


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
    own: dict[str, dict[str, Any]] = field(default_factory=dict, metadata=LATER_EMPTY)
    """Encoders by modality that replace those of its kind: for each the name, ``part``, and its options. Written ``audio = "my-encoder"``,
    or ``audio = {part = "my-encoder", width = 32}``; on the command line ``encoder.audio=my-encoder`` and ``encoder.audio.width=32``.
    Methods that bring networks of their own, or none, do not read it."""

    def __post_init__(self) -> None:
        for name, part in self.own.items():
            if not isinstance(part.get("part"), str) or not part["part"]:
                raise InputError(f'encoder.{name}: names no encoder; give encoder.{name}=NAME, or the entry part = "NAME"')

    @classmethod
    def adopt(cls, tree: Mapping[str, Any]) -> dict[str, Any]:
        """A tree in which the entries that are called like a modality are moved to ``own``.

        Raises:
            InputError: a group of settings that is called like nothing here and names no encoder.
        """
        known = [each.name for each in fields(cls)]
        own = tree.get("own", {})
        if not isinstance(own, Mapping) or not all(isinstance(part, Mapping) for part in own.values()):
            raise InputError(f"encoder.own: expected a group with the entry part for each modality, got {own!r:.60}")
        given = {name: dict(part) for name, part in own.items()}
        rest: dict[str, Any] = {}
        for name, value in tree.items():
            if isinstance(value, str) and name != "own":
                given[name] = {"part": value} | {k: v for k, v in given.get(name, {}).items() if k != "part"}
            elif name in known:
                rest[name] = value
            elif isinstance(value, Mapping) and "part" in value:
                given[name] = dict(value)
            else:
                raise InputError(
                    f"unknown field encoder.{name}; known here: {', '.join(known)}{did_you_mean(name, known)}; an encoder for the modality"
                    f" {name} is encoder.{name}=NAME"
                )
        return rest | {"own": {name: {k: _plain(v, f"encoder.{name}.{k}") for k, v in part.items()} for name, part in given.items()}}


def _plain(value: Any, name: str) -> Any:
    """An option as TOML and the command line both give it: a number, a truth value, or a text."""
    if isinstance(value, str) and not name.endswith(".part"):
        for word, truth in (("true", True), ("false", False)):
            if value.lower() == word:
                return truth
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    if not isinstance(value, str | int | float | bool):
        raise InputError(f"{name}: expected a number, a text, or true or false, got {value!r:.60}")
    return value
