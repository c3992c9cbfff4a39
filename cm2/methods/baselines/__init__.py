"""The methods that CM² is compared with, each in a file of its own; what a file defines is found in `BASELINES`."""

from cm2.config.names import import_all
from cm2.methods.baselines.base import Baseline
from cm2.methods.contract import METHODS

import_all(__name__, __path__)  # its class enters itself into METHODS

BASELINES: dict[str, type[Baseline]] = {name: method for name, method in METHODS.items() if issubclass(method, Baseline)}

__all__ = ["BASELINES", "Baseline"]
