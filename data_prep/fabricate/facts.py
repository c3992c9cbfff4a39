"""Shared by raw files, injected errors and truth: the 17 channels, the 114 item ids, the two spellings of the coma scale."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pandas as pd

from data_prep.channels import CHANNELS, feature_names

__all__ = ["CATEGORICAL", "CHANNELS", "GCS_CAREVUE", "NAMES", "VARIANTS", "feature_names", "item_variables", "items"]

VARIANTS = ("released", "corrected")
NAMES = tuple(channel.name for channel in CHANNELS)
CATEGORICAL = tuple(channel.name for channel in CHANNELS if channel.categories)
ITEMS = Path(__file__).parents[1] / "mimic" / "items.csv"

# MetaVision's spelling to CareVue's
GCS_CAREVUE = {
    "Glascow coma scale eye opening": {
        "None": "1 No Response",
        "To Pain": "2 To pain",
        "To Speech": "3 To speech",
        "Spontaneously": "4 Spontaneously",
    },
    "Glascow coma scale motor response": {
        "No response": "1 No Response",
        "Abnormal extension": "2 Abnorm extensn",
        "Abnormal Flexion": "3 Abnorm flexion",
        "Flex-withdraws": "4 Flex-withdraws",
        "Localizes Pain": "5 Localizes Pain",
        "Obeys Commands": "6 Obeys Commands",
    },
    "Glascow coma scale verbal response": {
        "No Response-ETT": "1.0 ET/Trach",
        "No Response": "1 No Response",
        "Incomprehensible sounds": "2 Incomp sounds",
        "Inappropriate Words": "3 Inapprop words",
        "Confused": "4 Confused",
        "Oriented": "5 Oriented",
    },
}


@lru_cache(maxsize=1)
def items() -> pd.DataFrame:
    """The 114 item ids: ``itemid``, ``variable``, ``source`` (lab, carevue, metavision) and ``unit`` ("" where the id implies none)."""
    return pd.read_csv(ITEMS, keep_default_na=False)


def item_variables() -> dict[int, str]:
    """Variable of each of the 114 item ids."""
    return dict(zip(items()["itemid"].tolist(), items()["variable"], strict=True))
