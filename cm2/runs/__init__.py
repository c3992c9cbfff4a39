"""The run store: trains each configuration at most once, and finds it from then on."""

from cm2.runs.store import Run, RunStore, evaluate, fit, fit_all, record_over_seeds

__all__ = ["Run", "RunStore", "evaluate", "fit", "fit_all", "record_over_seeds"]
