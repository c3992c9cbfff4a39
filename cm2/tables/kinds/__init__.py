"""The kinds of table, one file each; importing this package registers them in `cm2.tables.contract.TABLE_KINDS`."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")  # registers its class in TABLE_KINDS
