"""Kinds of modality, one file each: series, image, text, vector; `KINDS` lists them by name."""

from cm2.batch import Modality
from cm2.config import EncoderConfig
from cm2.config.names import choose, import_all
from cm2.errors import InputError
from cm2.kinds.contract import KINDS, ArrayKind, Data, Kind, Stored
from cm2.networks.encoders import Encoder

__all__ = ["KINDS", "ArrayKind", "Data", "Kind", "Stored", "build_encoder", "kind"]

import_all(__name__, __path__)  # importing a module registers its class in KINDS


def kind(name: str) -> Kind:
    """Returns a kind of modality by name.

    Raises:
        ValueError: an unknown name.
    """
    if name not in KINDS:
        raise InputError(f"unknown kind of modality {name!r}; {choose(name, sorted(KINDS))}")
    return KINDS[name]()


def build_encoder(modality: Modality, config: EncoderConfig) -> Encoder:
    """Builds the encoder of a modality, randomly initialised unless the configuration asks for pretrained weights.

    Args:
        modality: its kind and shape determine the class and its input.
        config: one group of settings for each kind.

    Raises:
        ValueError: an unknown kind, or a shape that its encoder cannot read.
    """
    return kind(modality.kind).build_encoder(modality, config)
