"""Modules that moved: their old names can be imported for one more release, with a warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED: dict[str, tuple[str, ...]] = {
    "cm2.alignment": ("cm2.methods.alignment_losses",),
    "cm2.baselines": ("cm2.methods.baselines",),
    "cm2.checks": ("cm2.book.checks",),
    "cm2.embedded": ("cm2.evaluation.embeddings",),
    "cm2.embedding": ("cm2.networks.embedding",),
    "cm2.encoders": ("cm2.networks.encoders", "cm2.kinds"),
    "cm2.experiments": (
        "cm2.runs.store",
        "cm2.runs.run",
        "cm2.runs.recording",
        "cm2.methods",
        "cm2.cohorts.simulated",
        "cm2.runs.provenance",
    ),
    "cm2.extras": ("cm2.environment.extras",),
    "cm2.fusion": ("cm2.networks.fusion",),
    "cm2.imputation": ("cm2.evaluation.imputation",),
    "cm2.links": ("cm2.joint.links",),
    "cm2.machine": ("cm2.environment.machine",),
    "cm2.model": ("cm2.methods.cm2",),
    "cm2.released": ("cm2.methods.released_score",),
    "cm2.retrieval": ("cm2.evaluation.retrieval",),
    "cm2.rosenblatt": ("cm2.marginals.rosenblatt",),
    "cm2.scores": ("cm2.evaluation.scores", "cm2.metrics"),
    "cm2.search": ("cm2.runs.search",),
    "cm2.training": ("cm2.runs.trainer", "cm2.runs.loops", "cm2.runs.batches", "cm2.methods.contract"),
    "cm2.truth": ("cm2.evaluation.simulation_truth",),
    "cm2.weights": ("cm2.networks.mixture_weights",),
    "cm2.numerics.absence": ("cm2.cohorts.missingness",),
    "cm2.copulas.concordance": ("cm2.copulas.law_dependence",),
    "cm2.copulas.correlation": ("cm2.copulas.families.elliptical",),
    "cm2.copulas.dependence": ("cm2.copulas.sample_dependence",),
    "cm2.copulas.normal_probability": ("cm2.numerics.bivariate_normal",),
    "cm2.copulas.points": ("cm2.copulas.tails",),
    "cm2.copulas.rectangle": ("cm2.numerics.orthants",),
    "cm2.copulas.t_probability": ("cm2.numerics.bivariate_t",),
    "cm2.tables.kept": ("cm2.tables.committed", "cm2.tables.run"),
    "cm2.tables.words": ("cm2.tables.verdicts",),
    **{
        f"cm2.copulas.{name}": (f"cm2.copulas.families.{name}",)
        for name in ("archimedean", "clayton", "frank", "gaussian", "gumbel", "independence", "joe", "mixture", "rotated", "student")
    },
    **{
        f"cm2.copulas.{name}": (f"cm2.copulas.inference.{name}",)
        for name in ("estimation", "goodness_of_fit", "likelihood", "report", "selection")
    },
}
"""The new modules of each old name; the submodules of a moved package are redirected as well."""


class _Old(Loader):
    """Loads an old name as a view of the new modules."""

    def __init__(self, homes: Sequence[str]) -> None:
        self.homes = homes

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As for any module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Imports the new modules and looks up every attribute in them."""
        homes = [import_module(home) for home in self.homes]
        module.__doc__ = homes[0].__doc__

        def find(name: str) -> Any:
            for home in homes:
                if not name.startswith("__") and hasattr(home, name):
                    return getattr(home, name)
            raise AttributeError(f"module {module.__name__!r}, now {' and '.join(self.homes)}, has no attribute {name!r}")

        module.__dict__["__getattr__"] = find


class MovedFinder(MetaPathFinder):
    """Finds modules under the names that they had before they moved."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The view of an old name, with a warning; None for any other."""
        if not name.startswith("cm2."):
            return None
        package, _, rest = name.rpartition(".")
        homes = MOVED.get(name) or tuple(f"{home}.{rest}" for home in MOVED.get(package, ())[:1])
        if not homes:
            return None
        told = f"{name} has moved to {' and '.join(homes)}; the old name will be removed in the next release"
        warnings.warn(told, DeprecationWarning, stacklevel=2)
        return ModuleSpec(name, _Old(homes), is_package=True)


def install() -> None:
    """Makes the old names importable."""
    if not any(isinstance(finder, MovedFinder) for finder in sys.meta_path):
        sys.meta_path.append(MovedFinder())
