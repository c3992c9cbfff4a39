"""Encoders by name, and any network as an encoder: how an encoder from outside the package reads a modality."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cm2.batch import Modality, Value
from cm2.config.names import did_you_mean
from cm2.errors import InputError
from cm2.networks.encoders.base import ENCODERS, Encoder
from cm2.networks.encoders.features import Features
from cm2.parts.registry import registering

T = TypeVar("T")
PART = "part"
"""The entry of ``encoder.own`` that names the encoder; the others are its options."""


def register_encoder(name: str, version: str = "") -> Callable[[T], T]:
    """Decorator that gives a class or function a name in ``encoder.MODALITY``.

    What it decorates is called with the `cm2.batch.Modality` and the options of the configuration, and returns any module that maps a
    batch's value of n stays to vectors ``(n, width)``. A subclass of `Encoder` that sets ``name`` needs no decorator.

    Args:
        name: what configurations call it.
        version: raise it when the same options no longer give the same network; without one the source decides (`cm2.parts.identity`).

    Example:
        >>> @register_encoder("flat", version="1")
        ... def flat(modality, width=8):
        ...     return nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.ReLU())
        >>> named_encoder(Modality("audio", "series", (100, 2)), {"part": "flat", "width": 16}).output_dim
        16
        >>> del ENCODERS["flat"]
    """
    return registering(ENCODERS, name, version)


class PlainEncoder(Encoder):
    """Any module that maps n values to vectors, as an encoder; its feature map is the vector, without positions.

    Args:
        module: ``(n, ...) -> (n, width)``; of a text it gets the dictionary of token ids and mask.
        modality: what it reads.

    Raises:
        InputError: it does not read the modality's shape, or gives something other than vectors.
    """

    def __init__(self, module: nn.Module, modality: Modality) -> None:
        super().__init__()
        self.module, self.modality = module, modality.name
        z = _tried(module, modality)
        if not isinstance(z, Tensor) or z.ndim != 2 or len(z) != 2:
            told = f"shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
            raise InputError(f"encoder of {modality.name}: expected vectors (n, width) for n = 2 values, got {told}; flatten or pool them")
        self.output_dim = self.feature_dim = z.shape[1]

    def features(self, x: Any) -> Features:
        """The vector ``(n, width)``."""
        return Features(self.module(x))

    def pool(self, features: Features) -> Tensor:
        """The vector, unchanged."""
        return features.values


def as_encoder(module: nn.Module, modality: Modality) -> Encoder:
    """An `Encoder` as it is, any other module as a `PlainEncoder`."""
    return module if isinstance(module, Encoder) else PlainEncoder(module, modality)


def named_encoder(modality: Modality, own: Mapping[str, Any]) -> Encoder:
    """Builds an encoder from outside.

    Args:
        modality: what it reads.
        own: its name, the entry ``part``, and its options.

    Raises:
        InputError: an unknown name, an option that it does not have, or a modality that it does not read.
    """
    where = f"encoder.{modality.name}"
    make = ENCODERS.find(str(own[PART]), where)
    made = make(modality, **checked_options(make, own, where))
    if not isinstance(made, nn.Module):
        raise InputError(f"{where}: {own[PART]} made a {type(made).__name__}; an encoder is a torch.nn.Module")
    return as_encoder(made, modality)


def checked_options(make: Callable[..., Any], own: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The options of an encoder, without its name. Raises InputError for one that it does not have."""
    options = {name: value for name, value in own.items() if name != PART}
    parameters = list(inspect.signature(make).parameters.values())[1:]
    known = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    unknown = [name for name in options if name not in known]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise InputError(
            f"{where}: {own[PART]} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}{did_you_mean(unknown[0], known)}"
        )
    return options


def own_starts_from(own: Mapping[str, Any]) -> str:
    """Digest of the pretrained weights that an encoder from outside starts from; empty if it says nothing of them.

    It says so by ``starts_from(**options)``, an attribute of what is registered.
    """
    name = str(own[PART])
    says = getattr(ENCODERS[name], "starts_from", None) if name in ENCODERS else None
    return says(**{key: value for key, value in own.items() if key != PART}) if callable(says) else ""


def example(modality: Modality, rows: int = 2) -> Value:
    """Zeros in the shape of some values of a modality; of a text, its padding."""
    if not modality.vocabulary:
        return torch.zeros(rows, *modality.shape)
    ids = torch.zeros(rows, *modality.shape, dtype=torch.int64)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@torch.no_grad()
def _tried(module: nn.Module, modality: Modality) -> Any:
    """What a module makes of two values; layers that are lazy get their shapes."""
    training, value = module.training, example(modality)
    like = next((p for p in module.parameters() if not isinstance(p, nn.UninitializedParameter)), None)
    if like is not None:
        value = {k: v.to(like.device) for k, v in value.items()} if isinstance(value, dict) else value.to(like.device)
    try:
        return module.eval()(value)
    except InputError:
        raise
    except Exception as error:  # of whatever network it is
        shown = {k: tuple(v.shape) for k, v in value.items()} if isinstance(value, dict) else tuple(value.shape)
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:160]
        raise InputError(f"encoder of {modality.name}: the module does not read {modality.kind} of shape {shown} ({reason})") from error
    finally:
        module.train(training)
