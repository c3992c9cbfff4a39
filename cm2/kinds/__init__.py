"""Kinds of modality, each in a file of its own: series, image, text, vector; what a file defines is found in `KINDS`."""

from cm2.batch import Modality
from cm2.config import EncoderConfig
from cm2.config.names import choose, import_all
from cm2.kinds.contract import KINDS, ArrayKind, Data, Kind, Stored
from cm2.networks.encoders import Encoder

__all__ = ["KINDS", "ArrayKind", "Data", "Kind", "Stored", "build_encoder", "kind"]

import_all(__name__, __path__)  # its class enters itself into KINDS


def kind(name: str) -> Kind:
    """A kind of modality by name.

    Raises:
        ValueError: an unknown name.
    """
    if name not in KINDS:
        raise ValueError(f"unknown kind of modality {name!r}; {choose(name, sorted(KINDS))}")
    return KINDS[name]()


def build_encoder(modality: Modality, config: EncoderConfig) -> Encoder:
    """The encoder of a modality, at random.

    Args:
        modality: its kind and shape decide the class and its input.
        config: one group of settings for each kind.

    Raises:
        ValueError: an unknown kind, or a shape that its encoder cannot read.
    """
    return kind(modality.kind).build_encoder(modality, config)
