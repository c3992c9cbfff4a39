"""The kinds of table, each in a file of its own; what a file defines is found in `cm2.tables.contract.TABLE_KINDS`."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")  # its class enters itself into TABLE_KINDS
