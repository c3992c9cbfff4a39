"""Preparation of cohorts from raw files (``prepare_*``), and synthetic raw files in official layouts (``fabricate_*``)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cm2.environment.extras import require, require_extra

if TYPE_CHECKING:
    from data_prep.eicu import prepare_eicu
    from data_prep.fabricate import fabricate_eicu, fabricate_mimic3, fabricate_mimic4
    from data_prep.mimic.prepare import prepare_mimic3, prepare_mimic4
    from data_prep.physionet2012 import prepare_physionet2012
    from data_prep.synthetic import prepare_synthetic

__all__ = [
    "fabricate_eicu",
    "fabricate_mimic3",
    "fabricate_mimic4",
    "prepare_eicu",
    "prepare_mimic3",
    "prepare_mimic4",
    "prepare_physionet2012",
    "prepare_synthetic",
]

_HOMES = {
    "fabricate_eicu": "data_prep.fabricate",
    "prepare_eicu": "data_prep.eicu",
    "fabricate_mimic3": "data_prep.fabricate",
    "fabricate_mimic4": "data_prep.fabricate",
    "prepare_mimic3": "data_prep.mimic",
    "prepare_mimic4": "data_prep.mimic",
    "prepare_physionet2012": "data_prep.physionet2012",
    "prepare_synthetic": "data_prep.synthetic",
}
_NEEDS = {"data_prep.fabricate": ("PIL",)}  # optional libraries; data_prep.mimic checks for its own


def __getattr__(name: str) -> Any:
    """Imports a preparation on first use.

    Raises:
        MissingExtraError: it needs an optional library that is not installed.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'data_prep' has no attribute {name!r}")
    require_extra("train")
    require(*_NEEDS.get(_HOMES[name], ()))
    return getattr(import_module(_HOMES[name]), name)
