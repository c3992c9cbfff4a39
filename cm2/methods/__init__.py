"""Methods that can be trained, by name: CM² and its baselines.

Each is a subclass of `Method`; `cm2.methods.contract` defines the interface.
"""

from __future__ import annotations

import torch

from cm2.cohorts import Cohort
from cm2.config import Config
from cm2.config.names import choose
from cm2.errors import InputError
from cm2.kinds import kind
from cm2.methods import baselines, cm2  # the import registers their classes in METHODS
from cm2.methods.contract import METHODS, Method
from cm2.networks.encoders import pretrained_tokenizer

__all__ = ["METHODS", "Method", "baselines", "build_method", "cm2", "tokenised"]


def build_method(config: Config, cohort: Cohort) -> Method:
    """Builds the untrained method of a configuration; ``config.seed`` determines its random initialisation.

    Args:
        config: the run's configuration.
        cohort: the cohort as prepared by ``tokenised``.

    Raises:
        ValueError: an unknown method; the message lists the known ones.
    """
    if config.method not in METHODS:
        raise InputError(f"unknown method {config.method!r}; {choose(config.method, sorted(METHODS))}")
    torch.manual_seed(config.seed)
    return METHODS[config.method](config, cohort.modalities)


def starts_from(config: Config, cohort: Cohort) -> dict[str, str]:
    """Digests of the pretrained weights that a configuration's networks start from, by modality; none for a random start.

    Raises:
        ValueError: weights that are neither on this machine nor reachable.
    """
    entries = cohort.manifest["modalities"]
    kinds = {name: kind(entries[name]["kind"]) for name in config.modalities or entries if name in entries}
    return {name: digest for name, each in kinds.items() if (digest := each.starts_from(config.encoder))}


def tokenised(cohort: Cohort, config: Config) -> Cohort:
    """The cohort with the configuration's modalities, its texts tokenised for the configuration's text encoder."""
    text = config.encoder.text
    return cohort.with_modalities(config.modalities).with_text(
        text.max_length, text.vocabulary, pretrained_tokenizer(text.pretrained) if text.pretrained else None
    )
