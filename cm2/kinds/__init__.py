"""Kinds of modality, one file each: series, image, text, vector; `KINDS` lists them by name."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from cm2.batch import Batch, Modality
from cm2.config import EncoderConfig
from cm2.config.names import import_all
from cm2.kinds.contract import KINDS, ArrayKind, Data, Kind, Stored
from cm2.networks.encoders import Encoder, named_encoder
from cm2.networks.encoders.own import example

__all__ = ["KINDS", "ArrayKind", "Data", "Kind", "Stored", "augmented", "build_encoder", "feature_ndim", "kind", "ready"]

import_all(__name__, __path__)  # importing a module registers its class in KINDS


def kind(name: str) -> Kind:
    """Returns a kind of modality by name.

    Raises:
        ValueError: an unknown name.
    """
    return KINDS.find(name)()


def build_encoder(modality: Modality, config: EncoderConfig) -> Encoder:
    """Builds the encoder of a modality, randomly initialised unless the configuration asks for pretrained weights.

    Args:
        modality: its kind and shape determine the class and its input, unless the configuration names an encoder for it.
        config: one group of settings for each kind, and encoders from outside by modality.

    Raises:
        ValueError: an unknown kind or encoder, or a shape that its encoder cannot read.
    """
    if (own := config.own.get(modality.name)) is not None:
        return named_encoder(modality, own)
    return kind(modality.kind).build_encoder(modality, config)


@torch.no_grad()
def feature_ndim(encoder: Encoder, modality: Modality, config: EncoderConfig) -> int:
    """Number of dimensions of an encoder's feature map, the batch's included; one from outside is tried on two values of zeros."""
    if modality.name not in config.own:
        return kind(modality.kind).feature_ndim(config)
    training = encoder.training
    try:
        return encoder.eval().features(example(modality)).values.ndim
    finally:
        encoder.train(training)


def ready(batch: Batch, modalities: Sequence[Modality]) -> Batch:
    """A batch of raw values as methods read it, on its device, for which this does not wait; any other batch unchanged."""
    if not batch.raw:
        return batch
    values = {m.name: kind(m.kind).ready(batch.values[m.name], batch.rows[m.name], batch.present[:, i]) for i, m in enumerate(modalities)}
    return replace(batch, values=values, raw=False)


def augmented(batch: Batch, modalities: Sequence[Modality], strength: float) -> Batch:
    """A training batch with values changed at random, of the kinds that can be (`Kind.augmented`); does not wait for its device."""
    return replace(batch, values={m.name: kind(m.kind).augmented(batch.values[m.name], strength) for m in modalities})
