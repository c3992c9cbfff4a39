"""Preparation of MIMIC-III and MIMIC-IV from your own credentialed copy. Needs DuckDB and Pillow, the extra ``prep``."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cm2.environment.extras import require
from data_prep.mimic.quirks import SENTENCES, Quirks

if TYPE_CHECKING:
    from data_prep.mimic.prepare import prepare_mimic3, prepare_mimic4

__all__ = ["SENTENCES", "Quirks", "prepare_mimic3", "prepare_mimic4"]


def __getattr__(name: str) -> Any:
    """Imports the preparations on first use: the quirks can be listed without DuckDB.

    Raises:
        MissingExtraError: DuckDB or Pillow is not installed.
    """
    if name not in __all__:
        raise AttributeError(f"module 'data_prep.mimic' has no attribute {name!r}")
    require("duckdb", "PIL")
    return getattr(import_module("data_prep.mimic.prepare"), name)
