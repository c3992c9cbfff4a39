"""Synthetic raw files in the official layouts, with the flaws of the real ones; for MIMIC with the correct answers beside them."""

from data_prep.fabricate.eicu import fabricate_eicu
from data_prep.fabricate.mimic3 import fabricate_mimic3
from data_prep.fabricate.mimic4 import fabricate_mimic4

__all__ = ["fabricate_eicu", "fabricate_mimic3", "fabricate_mimic4"]
