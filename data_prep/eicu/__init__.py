"""Preparation of the eICU Collaborative Research Database, a second hospital system, as the channels of MIMIC. Needs DuckDB."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cm2.environment.extras import require

if TYPE_CHECKING:
    from data_prep.eicu.prepare import prepare_eicu

__all__ = ["prepare_eicu"]


def __getattr__(name: str) -> Any:
    """Imports the preparation on first use.

    Raises:
        MissingExtraError: DuckDB is not installed.
    """
    if name not in __all__:
        raise AttributeError(f"module 'data_prep.eicu' has no attribute {name!r}")
    require("duckdb")
    return getattr(import_module("data_prep.eicu.prepare"), name)
