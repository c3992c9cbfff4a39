"""MIMIC-III and MIMIC-IV: a researcher's own, credentialed copy becomes a prepared cohort. Needs DuckDB and Pillow (``cm2[prep]``)."""

from data_prep.mimic.prepare import prepare_mimic3, prepare_mimic4
from data_prep.mimic.quirks import SENTENCES, Quirks

__all__ = ["SENTENCES", "Quirks", "prepare_mimic3", "prepare_mimic4"]
