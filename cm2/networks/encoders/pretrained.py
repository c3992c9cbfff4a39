"""Pretrained weights and tokenizers, from this machine or the network; an error if neither has them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from torch import Tensor, nn

from cm2.durable import file_sha256
from cm2.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
        except (OSError, ValueError):
            continue
        if len(tokenizer) > len(tokenizer.all_special_tokens):  # without files of a tokenizer one comes that knows no word
            return tokenizer
    if Path(name).is_dir():
        warn_once(f"{name} has no tokenizer; one is trained on the cohort's texts")
        return None
    raise InputError(f"tokenizer of {name}: {absent('the hub', 'encoder.text.pretrained=')}")


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
    raise InputError(f"ImageNet weights of {name}: {absent(weights.url, 'encoder.image.pretrained=false')}")


def load_imagenet(network: nn.Module, name: str, convert: Callable[[Any], Any] | None = None) -> None:
    """Loads ImageNet weights into a torchvision model, converted first if it has other shapes. Errors are those of `imagenet_weights`."""
    state = imagenet_weights(name)
    network.load_state_dict(state if convert is None else convert(state))


def imagenet_digest(name: str) -> str:
    """SHA-256 of the file with the ImageNet weights of a torchvision model. Errors are those of `imagenet_weights`."""
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
