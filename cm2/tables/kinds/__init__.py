"""The kinds of table, one file each; importing this package registers them in `cm2.tables.contract.TABLE_KINDS`."""

from cm2.config.names import import_all

import_all(__name__, __path__)  # registers its class in TABLE_KINDS
