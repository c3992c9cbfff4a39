"""Training and run store: each configuration is trained at most once."""

from cm2.runs.recording import record_over_seeds
from cm2.runs.run import Run
from cm2.runs.store import RunStore, evaluate, fit, fit_all

__all__ = ["Run", "RunStore", "evaluate", "fit", "fit_all", "record_over_seeds"]
