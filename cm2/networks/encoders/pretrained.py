"""Pretrained weights and tokenizers, from this machine or the network; an error if neither has them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from torch import Tensor, nn

from cm2.durable import file_sha256
from cm2.environment.hub import hub_errors
from cm2.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


RANDOM = "random"
"""What stands in a run's key for pretrained weights that were not there, where a random start was allowed."""
_ARCHITECTURES: ContextVar[Mapping[str, Any] | None] = ContextVar("architectures", default=None)


class MissingWeightsError(InputError):
    """Pretrained weights or a tokenizer are neither on this machine nor reachable."""


@contextmanager
def without_weights(architectures: Mapping[str, Any]) -> Iterator[None]:
    """Context in which networks that start from pretrained weights are built without them, because others are loaded next.

    Args:
        architectures: configurations of transformers by the name of the model, for those that are not on this machine.
    """
    token = _ARCHITECTURES.set(architectures)
    try:
        yield
    finally:
        _ARCHITECTURES.reset(token)


def only_architectures() -> Mapping[str, Any] | None:
    """What `without_weights` was given; None outside of it."""
    return _ARCHITECTURES.get()


def pretrained_tokenizer(name: str) -> PreTrainedTokenizerBase | None:
    """Tokenizer of a pretrained text encoder; None, with one warning, for a folder that has none.

    Raises:
        ValueError: it is neither on this machine nor reachable.
    """
    return _tokenizer(name, stamp(name))


@cache
def _tokenizer(name: str, _: object) -> PreTrainedTokenizerBase | None:
    from huggingface_hub import constants
    from transformers import AutoTokenizer

    for options in ({"local_files_only": True}, {}):  # the network only for what is not cached
        if not options and (Path(name).is_dir() or constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT)):
            break
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **options)
        except hub_errors(ValueError):
            continue
        if len(tokenizer) > len(tokenizer.all_special_tokens):  # without files of a tokenizer one comes that knows no word
            return tokenizer
    if Path(name).is_dir():
        warn_once(f"{name} has no tokenizer; one is trained on the cohort's texts")
        return None
    raise MissingWeightsError(f"tokenizer of {name}: {absent('the hub', 'encoder.text.pretrained=')}")


def imagenet_weights(name: str) -> dict[str, Tensor]:
    """ImageNet weights of a torchvision model.

    Raises:
        ValueError: they are neither on this machine nor reachable, or the stored file is damaged.
    """
    weights, stored = _imagenet(name)
    if stored.is_file() or reachable(weights.url):
        try:
            return weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except OSError:
            pass
        except Exception as error:  # whatever damage makes of the reader
            reason = str(error).partition("\n")[0]
            raise InputError(f"{stored} is damaged ({reason}); remove it, and it is fetched again") from None
    raise MissingWeightsError(f"ImageNet weights of {name}: {absent(weights.url, 'encoder.image.pretrained=false')}")


def load_imagenet(network: nn.Module, name: str, convert: Callable[[Any], Any] | None = None, allow_random_start: bool = False) -> None:
    """Loads ImageNet weights into a torchvision model.

    Args:
        network: the model.
        name: what torchvision calls it.
        convert: changes the weights first, if the model has other shapes.
        allow_random_start: whether weights that are not there are left out.

    Raises:
        InputError: as `imagenet_weights`.
    """
    if only_architectures() is not None:
        return
    try:
        state = imagenet_weights(name)
    except MissingWeightsError:
        if not allow_random_start:
            raise
        return
    network.load_state_dict(state if convert is None else convert(state))


def imagenet_digest(name: str, allow_random_start: bool = False) -> str:
    """SHA-256 of the file with the ImageNet weights of a torchvision model.

    Args:
        name: what torchvision calls the model.
        allow_random_start: whether to return `RANDOM` if they are not there.

    Raises:
        InputError: as `imagenet_weights`.
    """
    try:
        return _imagenet_digest(name)
    except MissingWeightsError:
        if not allow_random_start:
            raise
        return RANDOM


def _imagenet_digest(name: str) -> str:
    _, stored = _imagenet(name)
    if not stored.is_file():
        imagenet_weights(name)
    return _sha256(stored, stamp(str(stored)))


def _imagenet(name: str) -> tuple[Any, Path]:
    from torchvision.models import get_model_weights

    weights = get_model_weights(name).DEFAULT
    return weights, Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name


@cache
def _sha256(path: Path, _: object) -> str:
    return file_sha256(path)


def stamp(name: str) -> object:
    """What differs when the files behind the name of a model do: sizes and dates of a folder or file, the version of one from the hub."""
    from huggingface_hub import try_to_load_from_cache

    path = Path(name)
    if path.exists():
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    try:
        return str(try_to_load_from_cache(name, "config.json"))
    except ValueError:  # no name on the hub
        return ""


def absent(where: str, setting: str) -> str:
    """What to do about pretrained weights that are not there: a network that starts at random instead is another method."""
    return f"not on this machine, and {where} cannot be reached; put them there, or ask for a random start with --set {setting}"


@cache
def reachable(url: str, seconds: float = 3.0) -> bool:
    """Whether a server answers at all; checked before calling a client that would retry for half a minute."""
    try:
        urlopen(Request(url, method="HEAD"), timeout=seconds).close()
    except HTTPError:
        return True
    except OSError:
        return False
    return True


@cache
def warn_once(message: str) -> None:
    """Warns once per process and text."""
    warnings.warn(message, stacklevel=2)
