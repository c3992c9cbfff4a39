"""Methods that can be trained, by name: CM² and its baselines.

Each is a subclass of `Method`; `cm2.methods.contract` defines the interface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cm2.cohorts import Cohort
from cm2.cohorts.text import byte_tokenizer
from cm2.config import Config, TextEncoderConfig
from cm2.config.names import choose
from cm2.errors import InputError, errors_of
from cm2.kinds import kind
from cm2.methods import baselines, cm2  # the import registers their classes in METHODS
from cm2.methods.contract import METHODS, Method
from cm2.methods.outside import identities
from cm2.networks.encoders import MissingWeightsError, own_starts_from, pretrained_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["METHODS", "Method", "baselines", "build_method", "cm2", "parts_from_outside", "starts_from", "tokenised"]


def build_method(config: Config, cohort: Cohort) -> Method:
    """Builds the untrained method of a configuration; ``config.seed`` determines its random initialisation.

    Args:
        config: the run's configuration.
        cohort: the cohort as prepared by ``tokenised``.

    Raises:
        ValueError: an unknown method or task; the message lists the known ones. Or a task that the method cannot learn.
    """
    method = METHODS.find(config.method)
    torch.manual_seed(config.seed)
    return method(config, cohort.modalities, cohort.task(config.task))


def starts_from(config: Config, cohort: Cohort) -> dict[str, str]:
    """Digests of the pretrained weights that a configuration's networks start from, by modality; none for a random start.

    Raises:
        ValueError: weights that are neither on this machine nor reachable.
    """
    own = config.encoder.own
    kinds = _kinds(config, cohort)
    digests: dict[str, str] = {}
    for name, of in kinds.items():
        with errors_of(f"encoder.{name}" if name in own else ""):
            digests[name] = own_starts_from(own[name]) if name in own else kind(of).starts_from(config.encoder)
    return {name: digest for name, digest in digests.items() if digest}


def parts_from_outside(config: Config, cohort: Cohort) -> dict[str, str]:
    """Identities of the parts from outside the package that a run would use, by what names them; see `cm2.parts.identity`.

    Together with the configuration they say what is trained: a part of the same name with other code is another one.
    """
    task = cohort.manifest["tasks"].get(config.task, {}).get("type", "binary")
    return identities(config, _kinds(config, cohort), task)


def _kinds(config: Config, cohort: Cohort) -> dict[str, str]:
    """Kinds of the modalities that take part, by name."""
    entries = cohort.manifest["modalities"]
    return {name: entries[name]["kind"] for name in config.modalities or entries if name in entries}


def tokenised(cohort: Cohort, config: Config) -> Cohort:
    """The cohort with the configuration's modalities, its texts tokenised for the configuration's text encoder.

    Raises:
        InputError: a modality, or an encoder for one, that the cohort does not have.
    """
    text, names = config.encoder.text, tuple(cohort.manifest["modalities"])
    if unknown := sorted(config.encoder.own.keys() - {*names, *config.modalities}):
        raise InputError(f"encoder.{unknown[0]}: the cohort {cohort.name} has no modality {unknown[0]!r}; {choose(unknown[0], names)}")
    return cohort.with_modalities(config.modalities).with_text(text.max_length, text.vocabulary, _tokenizer(text))


def _tokenizer(text: TextEncoderConfig) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a pretrained model, or that of bytes; None: one is trained on the cohort's texts."""
    if text.pretrained:
        try:
            if (found := pretrained_tokenizer(text.pretrained)) is not None:
                return found
        except MissingWeightsError:
            if not text.allow_random_start:
                raise
    return byte_tokenizer() if text.tokenizer == "bytes" else None
