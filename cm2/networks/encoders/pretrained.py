"""Pretrained weights and tokenizers, from this machine or the network; one warning if neither has them."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@cache
def pretrained_tokenizer(name: str) -> PreTrainedTokenizerBase | None:
    """Tokenizer of a pretrained text encoder; None, with one warning, if it is neither on this machine nor reachable."""
    from huggingface_hub import constants
    from transformers import AutoTokenizer

    for options in ({"local_files_only": True}, {}):  # the network only for what is not cached
        if not options and (constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT)):
            break
        try:
            return AutoTokenizer.from_pretrained(name, **options)
        except (OSError, ValueError):
            continue
    warn_once(f"tokenizer of {name}: not on this machine and the hub cannot be reached; one is trained on the cohort's texts")
    return None


def imagenet_weights(name: str) -> dict[str, Tensor] | None:
    """ImageNet weights of a torchvision model; None, with one warning, if they are neither on this machine nor reachable."""
    from torchvision.models import get_model_weights

    weights = get_model_weights(name).DEFAULT
    stored = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if stored.is_file() or reachable(weights.url):
        try:
            return weights.get_state_dict(progress=False, check_hash=True)
        except OSError:
            pass
    warn_once(f"ImageNet weights of {name}: not on this machine and {weights.url} cannot be reached; the network starts at random")
    return None


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
