"""Baselines of CM², one file each; `BASELINES` lists them by name."""

from cm2.config.names import import_all
from cm2.methods.baselines.base import Baseline
from cm2.methods.contract import METHODS

import_all(__name__, __path__)  # importing a module registers its class in METHODS

BASELINES: dict[str, type[Baseline]] = {name: method for name, method in METHODS.own().items() if issubclass(method, Baseline)}

__all__ = ["BASELINES", "Baseline"]
