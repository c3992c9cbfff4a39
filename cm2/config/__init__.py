"""Configuration of a run: frozen dataclasses, read from a profile, overridden by name, stored with every result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cm2.config.baselines import BaselineConfig, DrFuseConfig, InterleavedConfig, LSMTConfig
from cm2.config.checks import one_of
from cm2.config.encoders import EncoderConfig, ImageEncoderConfig, SeriesEncoderConfig, TextEncoderConfig, VectorEncoderConfig
from cm2.config.files import read_toml
from cm2.config.model import ModelConfig
from cm2.config.names import choose, did_you_mean
from cm2.config.reading import build, keyed, later, merge, without_asides
from cm2.config.training import TrainConfig
from cm2.errors import InputError

__all__ = [
    "MECHANISMS",
    "PROFILES",
    "RECIPES",
    "BaselineConfig",
    "Config",
    "DrFuseConfig",
    "EncoderConfig",
    "ImageEncoderConfig",
    "InterleavedConfig",
    "LSMTConfig",
    "ModelConfig",
    "SeriesEncoderConfig",
    "TextEncoderConfig",
    "TrainConfig",
    "VectorEncoderConfig",
    "did_you_mean",
]

PROFILES = Path(__file__).parent / "profiles"
RECIPES = Path(__file__).parent / "recipes"
"""Settings of CM² by name, ``v3.toml`` and so on, on top of a profile's sizes."""
LARGEST_SEED = 2**63
MECHANISMS = ("mcar", "mar", "mnar")
"""Missingness mechanisms; see `cm2.cohorts.missingness`."""


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
    """Fraction of training and validation stays whose modality is masked at random, by modality."""
    absent_test: dict[str, float] = field(default_factory=dict)
    """The same for the test stays."""
    mechanism: str = later("mcar")
    """How modalities are masked: completely at random (``mcar``), by a modality that is never masked (``mar``), or by the masked one
    itself (``mnar``)."""
    labels: float = later(1.0)
    """Share of the training stays, and of the validation stays, whose outcome is known, for each outcome alike. Training stays without it
    stay in the batches: methods read their modalities. Test stays keep theirs."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """CM² itself."""
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    """The methods it is compared with."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The networks below them."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How it is trained."""

    def __post_init__(self) -> None:
        one_of("mechanism", self.mechanism, MECHANISMS)
        if not 0 <= self.seed < LARGEST_SEED:
            raise InputError(f"seed: expected a whole number from 0 to below 2^63, got {self.seed:g}")
        if not 0 < self.labels <= 1:
            raise InputError(f"labels: expected a share above 0 and at most 1, got {self.labels}")

    @classmethod
    def from_profile(cls, profile: str, overrides: Mapping[str, Any] | None = None) -> Config:
        """The configuration of a profile with single fields overridden.

        Args:
            profile: ``smoke``, ``quick``, ``open`` or ``paper``, or the path of a TOML file.
            overrides: by dotted name, for example ``{"model.link": "scalar", "seed": 3}``; strings are read as the field's type.
                ``recipe`` names a version of CM², whose settings come before the other overrides: ``v3``, ``v2`` or ``paper``. It
                has at most as many directions as the embeddings have coordinates.

        Raises:
            ValueError: an unknown profile, recipe or field, or a value that does not fit; the message lists what is known.
        """
        path = Path(profile) if profile.endswith(".toml") else PROFILES / f"{profile}.toml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.toml")))
            raise InputError(f"unknown profile {profile!r}; choose one of {known}, or give the path of a TOML file")
        tree = read_toml(path)
        overrides = dict(overrides or {})
        recipe = overrides.pop("recipe", None)
        if recipe is not None:
            merge(tree, _recipe(str(recipe)))
        for name, value in overrides.items():
            _override(tree, name, value)
        if recipe is not None and "model.directions" not in overrides:
            _cut_directions(tree["model"])
        return cls.from_dict(tree)

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Config:
        """The inverse of ``to_dict``; fields left out keep their defaults. Raises ValueError for unknown fields."""
        return build(cls, tree, "")

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries of plain values, ready for JSON."""
        return asdict(self)

    def in_training(self, complete: bool) -> Config:
        """The configuration with everything at one value that only the test reads, or that only the speed depends on: runs that are equal
        in this have the same weights.

        Args:
            complete: whether every training and validation stay has all modalities, so that nothing is filled in.
        """
        masked, model = self.absent, self.model
        if complete and model.impute != "token":  # which is trained, and has a parameter
            model = replace(model, impute="zero", n_draws=ModelConfig.n_draws)
        mechanism, train = self.mechanism if masked else "mcar", without_asides(self.train)
        return replace(self, absent_test={}, mechanism=mechanism, model=model, train=train)

    def in_pretraining(self, complete: bool) -> Config:
        """The same of what `ModelConfig.pretrain` reads, which is no outcome."""
        return replace(self.in_training(complete), labels=1.0)

    def digest(self) -> str:
        """A hash of every field (64 hexadecimal digits); see `reading.later` for fields that were added after runs had been stored, and
        `reading.aside` for those that only the speed depends on."""
        return hashlib.sha256(json.dumps(keyed(self), sort_keys=True).encode()).hexdigest()


def _override(tree: dict[str, Any], name: str, value: Any) -> None:
    """Sets a field by its dotted name."""
    *parents, last = name.split(".")
    node = tree
    for place, parent in enumerate(parents):
        if parents[0] == "encoder" and place == 1 and isinstance(node.get(parent), str):
            node[parent] = {"part": node[parent]}  # the name of an encoder, whose options follow
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise InputError(f"{name}: {parent} is a value, not a group of fields")
    if parents == ["encoder"] and isinstance(value, str) and isinstance(node.get(last), dict):
        if "part" in node[last]:
            node[last]["part"] = value
        else:  # a modality that is called like a kind: the settings of the kind stay
            node.setdefault("own", {}).setdefault(last, {})["part"] = value
        return
    node[last] = value


def _recipe(name: str) -> dict[str, Any]:
    path = RECIPES / f"{name}.toml"
    if not path.is_file():
        raise InputError(f"unknown recipe {name!r}; {choose(name, sorted(p.stem for p in RECIPES.glob('*.toml')))}")
    return read_toml(path)


def _cut_directions(model: dict[str, Any]) -> None:
    """Leaves no more directions than embeddings have coordinates."""
    width = str(model.get("embedding_dim", ModelConfig.embedding_dim))
    if model.get("link") == "vector" and width.isdigit():
        model["directions"] = min(model.get("directions", Config().model.directions), int(width))
