"""The methods that CM² is compared with, each in a file of its own; what a file defines is found in `BASELINES`."""

from importlib import import_module
from pkgutil import iter_modules

from cm2.methods.baselines.base import Baseline
from cm2.methods.contract import METHODS

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")  # its class enters itself into METHODS

BASELINES: dict[str, type[Baseline]] = {name: method for name, method in METHODS.items() if issubclass(method, Baseline)}

__all__ = ["BASELINES", "Baseline"]
