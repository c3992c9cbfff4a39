"""What a run is: frozen configurations, read from a profile, overridden by name, written beside every result."""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

PROFILES = Path(__file__).parent / "profiles"


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """The nearest known name as an end of an error message, ``" (did you mean 'gumbel'?)"``; empty where none is near."""
    near = difflib.get_close_matches(given, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}: unknown value {value!r}; choose one of {', '.join(known)}{did_you_mean(value, known)}")


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}: expected a positive number, got {value}")


def _all_positive(group: str, config: Any, but: tuple[str, ...] = ()) -> None:
    values = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in but}
    _positive(**{f"{group}.{name}": value for name, value in values.items() if isinstance(value, (int, float))})


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

    def __post_init__(self) -> None:
        _one_of("encoder.series.kind", self.kind, ("lstm", "transformer"))


@dataclass(frozen=True)
class ImageEncoderConfig:
    """The network of a radiograph."""

    depth: int = 34
    """Of the residual network: 10, 18, 34 (paper) or 50."""
    pretrained: bool = False
    """ImageNet weights where they can be reached; the paper's code starts at random."""
    kind: str = "resnet"
    """``resnet``, a residual network (paper), or ``vit``, a Vision Transformer (paper, Table 10)."""
    vit: str = "b_16"
    """The Vision Transformer: ``b_16``, or ``small`` for images of some tens of pixels."""

    def __post_init__(self) -> None:
        _one_of("encoder.image.kind", self.kind, ("resnet", "vit"))
        _one_of("encoder.image.vit", self.vit, ("b_16", "small"))


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
    """Name of pretrained weights on the model hub, or empty for a random start."""

    def __post_init__(self) -> None:
        _one_of("encoder.text.pooling", self.pooling, ("cls", "mean"))


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


@dataclass(frozen=True)
class ModelConfig:
    """CM²: embeddings, their law, what is drawn for an absent modality, fusion."""

    embedding_dim: int = 64
    """Dimension d of every modality's embedding (paper: 256)."""
    normalisation: str = "layer"
    """``layer``: each embedding has mean 0 and variance 1 over its coordinates; ``batch``: each coordinate over the stays of a training
    batch; ``l2``: unit norm (released code); ``none``."""
    components: int = 3
    """Components K of each Gaussian mixture (paper: 3)."""
    minimum_scale: float = 0.05
    """Floor of a component's standard deviation: without one the likelihood of a mixture is unbounded."""
    family: str = "gumbel"
    """Copula family, see ``cm2.copulas.FAMILIES``: ``gumbel``, ..., a ``mixture`` of three, or for three and more modalities a ``vine``
    (the D-vine in their order)."""
    pair_family: str = "gaussian"
    """Family of a vine's pair copulas; with Gaussian ones the vine is a Gaussian copula."""
    link: str = "component"
    """How the copula ties embeddings: ``component``, ``scalar`` or ``dimension``, which are exact; ``paper``, the printed formula, which
    is no density of vectors; or ``released``, the score of the released program, weighted by ``lambda_copula`` alone."""
    types: str = "independent"
    """Whether the mixtures' labels are ``independent`` between modalities or have a ``joint`` table."""
    weights: str = "learned"
    """Weights of each mixture: ``learned``, the same for all stays, or ``predicted`` from the stay's other present modalities (paper)."""
    alignment: str = "copula"
    """What aligns embeddings: the ``copula``'s joint law, or in the place of its terms ``cosine`` or ``kl`` (paper, Table 4)."""
    lambda_alignment: float = 1.0
    """Weight of the cosine or KL alignment (released code: 1)."""
    impute: str = "conditional"
    """Embedding of an absent modality: ``conditional`` draw, ``marginal`` draw (paper), ``zero``, ``mean`` or ``token``."""
    n_draws: int = 8
    """Draws averaged in a prediction when a modality is absent."""
    lambda_mix: float = 1e-3
    """Weight of the mixtures' log-likelihood, per stay (paper: 1e-6 to 1e-5, inert)."""
    lambda_copula: float = 1e-3
    """Weight of the dependence term, per stay; 0 leaves the copula's parameter where it starts."""
    stop_gradient: str = "none"
    """Term whose gradient does not reach the encoders, while the law is fitted all the same: ``none``; ``mixture``, so that the dependence
    alone shapes the embeddings; ``copula``, so that the mixtures alone do; or ``both``."""
    temperature: float = 0.0
    """T of the annealing: the task loss is multiplied by 1/max(exp(-T·epoch), 1e-3); 0 switches it off."""
    fusion: str = "lstm"
    """What joins the embeddings before the classifier: an ``lstm`` over the modalities, or ``concat``, side by side (paper, Table 5)."""
    fusion_reads: str = "all"
    """Embeddings that fusion reads: ``all``, imputed ones included; only ``present`` ones (released code); or of those the ``first_two``
    (released code for three modalities, where the third is never read)."""
    fusion_hidden: int = 512
    """Width of the fusion LSTM."""
    fusion_layers: int = 2
    """Layers of the fusion LSTM (paper: two; released code: one)."""
    dropout: float = 0.1
    """Before the classifier."""

    def __post_init__(self) -> None:
        _one_of("model.normalisation", self.normalisation, ("layer", "batch", "l2", "none"))
        _one_of("model.link", self.link, ("component", "scalar", "dimension", "paper", "released"))
        _one_of("model.types", self.types, ("independent", "joint"))
        _one_of("model.weights", self.weights, ("learned", "predicted"))
        _one_of("model.alignment", self.alignment, ("copula", "cosine", "kl"))
        _one_of("model.fusion", self.fusion, ("lstm", "concat"))
        _one_of("model.fusion_reads", self.fusion_reads, ("all", "present", "first_two"))
        _one_of("model.impute", self.impute, ("conditional", "marginal", "zero", "mean", "token"))
        _one_of("model.stop_gradient", self.stop_gradient, ("none", "mixture", "copula", "both"))
        if self.types == "joint" and self.link != "component":
            raise ValueError(f"model.types: joint is a table of component labels, which link {self.link} has none of; use link component")
        self._check_combination()
        _positive(**{"model.embedding_dim": self.embedding_dim, "model.components": self.components, "model.n_draws": self.n_draws})

    def _check_combination(self) -> None:
        if self.link in ("paper", "released") and self.impute == "conditional":
            raise ValueError(
                f"model.impute: link {self.link} is no law that an embedding could be drawn from given others; "
                "use impute marginal, zero, mean or token"
            )
        if self.link == "released" and self.weights != "learned":
            raise ValueError("model.weights: link released has free weights of its own; use weights learned")
        if self.link == "released" and self.stop_gradient not in ("none", "both"):
            raise ValueError(
                f"model.stop_gradient: link released has one score, of which {self.stop_gradient} is no part; use none or both"
            )
        if self.weights == "predicted" and self.types == "joint":
            raise ValueError("model.weights: a joint table of types has weights of its own; use types independent or weights learned")
        if self.fusion_reads != "all" and self.impute == "token":
            raise ValueError("model.impute: a token that fusion never reads cannot be learnt; use fusion_reads all or another impute")


@dataclass(frozen=True)
class DrFuseConfig:
    """Sizes of drfuse that no other method has."""

    heads: int = 4
    """Attention heads of the transformer over a series."""
    feedforward: int = 2048
    """Width of its feed-forward part."""
    image_depth: int = 50
    """Of its two residual networks: 10, 18, 34 or 50."""

    def __post_init__(self) -> None:
        _all_positive("baseline.drfuse", self)


@dataclass(frozen=True)
class LSMTConfig:
    """Sizes of lsmt that no other method has; the defaults are those of its authors' program."""

    width: int = 384
    """Of a token."""
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
    """Tokens that a series becomes."""
    latent_width: int = 128
    """Their width, a multiple of ``latent_heads``."""
    latent_layers: int = 6
    """Times that they read the series."""
    latent_heads: int = 4
    """Attention heads between them."""

    def __post_init__(self) -> None:
        _all_positive("baseline.lsmt", self)


@dataclass(frozen=True)
class InterleavedConfig:
    """Sizes of interleaved that no other method has; the defaults are those of its paper."""

    width: int = 128
    """Of a modality's state at a point of the time grid, a multiple of ``heads``."""
    time: int = 64
    """Width of the embedding of a time, a multiple of ``heads``."""
    heads: int = 8
    """Attention heads, over time and between modalities."""
    layers: int = 3
    """Blocks of self- and cross-attention."""
    steps: int = 48
    """Points of the time grid."""

    def __post_init__(self) -> None:
        _all_positive("baseline.interleaved", self)


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
    """Width of a modality's vector: unified, medfuse, drfuse (there a multiple of ``drfuse.heads``)."""
    fusion_hidden: int = 512
    """Width of what joins the modalities: the LSTM of medfuse, the joint head of mmtm (released)."""
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
    """Tokens of a text that are counted: boosted_trees."""
    drfuse: DrFuseConfig = field(default_factory=DrFuseConfig)
    """Further sizes of drfuse."""
    lsmt: LSMTConfig = field(default_factory=LSMTConfig)
    """Further sizes of lsmt."""
    interleaved: InterleavedConfig = field(default_factory=InterleavedConfig)
    """Further sizes of interleaved."""

    def __post_init__(self) -> None:
        _one_of("baseline.variant", self.variant, ("original", "released"))
        _one_of("baseline.encoders", self.encoders, ("own", "common"))
        _all_positive("baseline", self, but=("dropout",))


@dataclass(frozen=True)
class TrainConfig:
    """How a method is trained; the same for every method."""

    epochs: int = 100
    """At most (paper: 100)."""
    patience: int = 15
    """Epochs without a better validation AUROC before training stops (paper: 15)."""
    batch_size: int = 32
    """Stays per step (paper: 32 for MIMIC-IV, 16 for MIMIC-III)."""
    learning_rate: float = 1e-4
    """Adam's step for the networks."""
    law_learning_rate: float = 1e-2
    """Adam's step for mixtures and copula: Adam moves by its step whatever the gradient's size, so 1e-4 would only count steps."""
    beta_1: float = 0.9
    """Adam's first decay."""
    beta_2: float = 0.999
    """Adam's second decay (released code: 0.9)."""
    weight_decay: float = 0.0
    """Adam's weight decay."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient; 0 switches clipping off."""
    precision: str = "32-true"
    """Lightning's precision, for example ``bf16-mixed``."""
    workers: int = 0
    """Loading processes; a batch is one gather from memory maps, so 0 is right unless the disk is slow."""

    def __post_init__(self) -> None:
        named = {name: getattr(self, name) for name in ("epochs", "patience", "batch_size", "learning_rate", "law_learning_rate")}
        _positive(**{f"train.{name}": value for name, value in named.items()})


@dataclass(frozen=True)
class Config:
    """One run: what is trained, on which task, from which seed."""

    method: str = "cm2"
    """Name of the method."""
    task: str = "in_hospital_mortality"
    """Label column of the cohort."""
    seed: int = 0
    """Of the initialisation, the order of the stays and every draw."""
    modalities: tuple[str, ...] = ()
    """Modalities of the cohort that take part, in this order; empty: all of them."""
    matched: bool = False
    """Whether only stays that have all of these modalities take part (paper: totally matched)."""
    absent: dict[str, float] = field(default_factory=dict)
    """Further fraction of stays, by modality, that lose it at random in training and validation."""
    absent_test: dict[str, float] = field(default_factory=dict)
    """The same for the test stays."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """CM² itself."""
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    """The methods it is compared with."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The networks below them."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How it is trained."""

    @classmethod
    def from_profile(cls, profile: str, overrides: Mapping[str, Any] | None = None) -> Config:
        """The configuration of a profile with single fields overridden.

        Args:
            profile: ``smoke``, ``quick``, ``open`` or ``paper``, or the path of a TOML file.
            overrides: by dotted name, for example ``{"model.link": "scalar", "seed": 3}``; strings are read as the field's type.

        Raises:
            ValueError: an unknown profile or field, or a value that does not fit; the message lists what is known.
        """
        path = Path(profile) if profile.endswith(".toml") else PROFILES / f"{profile}.toml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.toml")))
            raise ValueError(f"unknown profile {profile!r}; choose one of {known}, or give the path of a TOML file")
        tree = tomllib.loads(path.read_text())
        for name, value in (overrides or {}).items():
            *parents, last = name.split(".")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
                if not isinstance(node, dict):
                    raise ValueError(f"{name}: {parent} is a value, not a group of fields")
            node[last] = value
        return cls.from_dict(tree)

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Config:
        """The inverse of ``to_dict``; fields left out keep their defaults. Raises ValueError for unknown fields."""
        return _build(cls, tree, "")

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries of plain values, ready for JSON."""
        return asdict(self)

    def digest(self) -> str:
        """A hash of every field (64 hexadecimal digits)."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def _build(cls: type, tree: Mapping[str, Any], prefix: str) -> Any:
    hints = get_type_hints(cls)
    unknown = sorted(set(tree) - set(hints))
    if unknown:
        known = [f.name for f in fields(cls)]
        raise ValueError(f"unknown field {prefix}{unknown[0]}; known here: {', '.join(known)}{did_you_mean(unknown[0], known)}")
    return cls(**{name: _convert(hints[name], value, f"{prefix}{name}") for name, value in tree.items()})


def _convert(kind: Any, value: Any, name: str) -> Any:
    if is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ValueError(f"{name}: a group of fields, got {value!r}; set one of its fields, for example {name}.{fields(kind)[0].name}")
        return _build(kind, value, f"{name}.")
    if get_origin(kind) in (Union, UnionType):
        kind = next(k for k in get_args(kind) if k is not type(None))
    if get_origin(kind) is dict:
        pairs = json.loads(value) if isinstance(value, str) else value
        return {str(k): float(v) for k, v in pairs.items()}
    if get_origin(kind) is tuple:
        parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        return tuple(str(part) for part in parts)
    if kind is bool and isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise ValueError(f"{name}: expected true or false, got {value!r}")
        return value.lower() == "true"
    try:
        converted = kind(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected {kind.__name__}, got {value!r}") from error
    if kind is int and float(value) != converted:
        raise ValueError(f"{name}: expected a whole number, got {value!r}")
    return converted
