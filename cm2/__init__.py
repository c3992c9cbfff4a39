"""CM²: cross-modal alignment via variational copula modelling.

The names below are the package's front door; the mathematics is in ``cm2.copulas``, ``cm2.marginals`` and ``cm2.joint``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cm2.environment import moved
from cm2.environment.extras import require_extra
from cm2.environment.version import version

if TYPE_CHECKING:
    from cm2.cohorts import load_cohort
    from cm2.config import Config
    from cm2.estimators import CM2Classifier, CM2Regressor
    from cm2.methods.cm2 import CM2
    from cm2.runs.run import Run
    from cm2.runs.store import RunStore, evaluate, fit, fit_all

    __version__: str

__all__ = [
    "CM2",
    "CM2Classifier",
    "CM2Regressor",
    "Config",
    "Run",
    "RunStore",
    "__version__",
    "evaluate",
    "fit",
    "fit_all",
    "load_cohort",
]

moved.install()

_HOMES = {
    "CM2": "cm2.methods.cm2",
    "CM2Classifier": "cm2.estimators",
    "CM2Regressor": "cm2.estimators",
    "Config": "cm2.config",
    "Run": "cm2.runs.store",
    "RunStore": "cm2.runs.store",
    "evaluate": "cm2.runs.store",
    "fit": "cm2.runs.store",
    "fit_all": "cm2.runs.store",
    "load_cohort": "cm2.cohorts",
}


def __getattr__(name: str) -> Any:
    """Imports a front-door name on first use: the copulas alone should not wait for the training stack, nor need it.

    Raises:
        MissingExtraError: the extra ``train`` is not installed.
    """
    if name == "__version__":
        return version()
    if name not in _HOMES:
        raise AttributeError(f"module 'cm2' has no attribute {name!r}")
    require_extra("train")
    return getattr(import_module(_HOMES[name]), name)
