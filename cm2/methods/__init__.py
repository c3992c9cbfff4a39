"""Every method that can be trained, by name: CM² and what it is compared with.

A method is a `Method`; ``cm2.methods.contract`` says what that is.
"""

from __future__ import annotations

import torch

from cm2.cohorts import Cohort
from cm2.config import Config
from cm2.config.names import choose
from cm2.methods import baselines, cm2  # their classes enter themselves into METHODS
from cm2.methods.contract import METHODS, Method
from cm2.networks.encoders import pretrained_tokenizer

__all__ = ["METHODS", "Method", "baselines", "build_method", "cm2", "tokenised"]


def build_method(config: Config, cohort: Cohort) -> Method:
    """The untrained method of a configuration, its random start decided by ``config.seed``.

    Args:
        config: of the run.
        cohort: see ``tokenised``.

    Raises:
        ValueError: an unknown method; the message lists what is known.
    """
    if config.method not in METHODS:
        raise ValueError(f"unknown method {config.method!r}; {choose(config.method, sorted(METHODS))}")
    torch.manual_seed(config.seed)
    return METHODS[config.method](config, cohort.modalities)


def tokenised(cohort: Cohort, config: Config) -> Cohort:
    """The cohort with the configuration's modalities, its texts as the configuration's text encoder wants them."""
    text = config.encoder.text
    return cohort.with_modalities(config.modalities).with_text(
        text.max_length, text.vocabulary, pretrained_tokenizer(text.pretrained) if text.pretrained else None
    )
