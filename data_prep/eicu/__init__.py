"""Preparation of the eICU Collaborative Research Database, a second hospital system, as the channels of MIMIC; and raw files made up."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cm2.environment.extras import require

if TYPE_CHECKING:
    from data_prep.eicu.fabricate import fabricate_eicu
    from data_prep.eicu.prepare import prepare_eicu

__all__ = ["fabricate_eicu", "prepare_eicu"]

_HOMES = {"fabricate_eicu": "data_prep.eicu.fabricate", "prepare_eicu": "data_prep.eicu.prepare"}


def __getattr__(name: str) -> Any:
    """Imports on first use: raw files can be made up without DuckDB.

    Raises:
        MissingExtraError: DuckDB is not installed.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'data_prep.eicu' has no attribute {name!r}")
    require(*(["duckdb"] if name.startswith("prepare") else []))
    return getattr(import_module(_HOMES[name]), name)
