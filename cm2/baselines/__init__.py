"""The methods that CM² is compared with, by name; each is one file."""

from cm2.baselines.base import Baseline
from cm2.baselines.late_fusion import LateFusion

BASELINES: dict[str, type[Baseline]] = {
    "late_fusion": LateFusion,
}

__all__ = ["BASELINES", "Baseline"]
