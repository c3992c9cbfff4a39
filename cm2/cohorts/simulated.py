"""Simulated cohort of the book, prepared on first use."""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from typing import Any

from cm2.cohorts.cohort import Cohort
from cm2.cohorts.opening import load_cohort
from cm2.config.names import choose
from cm2.errors import InputError
from cm2.results import home

EMBEDDED_STAYS = {"smoke": 300, "quick": 2000, "open": 10_000, "paper": 20_000}
SMOKE_OPTIONS = {"image_size": 32}


def embedded_cohort(
    profile: str = "quick", seed: int = 0, family: str = "gumbel", link: str = "component", mechanism: str = "mcar"
) -> Cohort:
    """The simulated cohort of the book, prepared once under ``home() / "cohorts"`` and reused.

    Args:
        profile: determines the number of stays (300 with small images for ``smoke``, 2,000 for ``quick``, ...).
        seed: seed of every draw.
        family: copula family of the true distribution.
        link: link between that copula and the embeddings.
        mechanism: missingness mechanism; see ``data_prep.prepare_synthetic``.

    Raises:
        ValueError: an unknown profile, or arguments that ``data_prep.prepare_synthetic`` refuses.
    """
    if profile not in EMBEDDED_STAYS:
        raise InputError(f"unknown profile {profile!r}; {choose(profile, EMBEDDED_STAYS)}")
    usual = {"family": "gumbel", "link": "component", "mechanism": "mcar"}
    options: dict[str, Any] = {k: v for k, v in {"family": family, "link": link, "mechanism": mechanism}.items() if v != usual[k]}
    options = SMOKE_OPTIONS | options if profile == "smoke" else options
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8] if options else "default"
    out = home() / "cohorts" / f"synthetic-{profile}-{seed}-{digest}"
    return load_cohort(import_module("data_prep").prepare_synthetic(out, stays=EMBEDDED_STAYS[profile], seed=seed, **options))
