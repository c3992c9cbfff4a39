"""MIMIC-III and MIMIC-IV: a researcher's own, credentialed copy becomes a prepared cohort. Needs DuckDB and Pillow, the extra ``prep``."""

from typing import TYPE_CHECKING, Any

from data_prep.mimic.quirks import SENTENCES, Quirks

if TYPE_CHECKING:
    from data_prep.mimic.prepare import prepare_mimic3, prepare_mimic4

__all__ = ["SENTENCES", "Quirks", "prepare_mimic3", "prepare_mimic4"]


def __getattr__(name: str) -> Any:
    """The preparations as ``data_prep`` finds them, on first use: the quirks can be listed without DuckDB."""
    if name not in __all__:
        raise AttributeError(f"module 'data_prep.mimic' has no attribute {name!r}")
    import data_prep

    return getattr(data_prep, name)
