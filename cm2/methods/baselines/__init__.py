"""The methods that CM² is compared with, by name; each is one file."""

from cm2.baselines.base import Baseline
from cm2.baselines.boosted_trees import BoostedTrees
from cm2.baselines.daft import DAFT
from cm2.baselines.drfuse import DrFuse
from cm2.baselines.interleaved import Interleaved
from cm2.baselines.late_fusion import LateFusion
from cm2.baselines.lsmt import LSMT
from cm2.baselines.medfuse import MedFuse
from cm2.baselines.mmtm import MMTM
from cm2.baselines.single_modality import SingleModality
from cm2.baselines.unified import Unified

BASELINES: dict[str, type[Baseline]] = {
    "late_fusion": LateFusion,
    "single_modality": SingleModality,
    "boosted_trees": BoostedTrees,
    "unified": Unified,
    "medfuse": MedFuse,
    "mmtm": MMTM,
    "daft": DAFT,
    "drfuse": DrFuse,
    "lsmt": LSMT,
    "interleaved": Interleaved,
}

__all__ = ["BASELINES", "Baseline"]
