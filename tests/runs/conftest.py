"""The cohort and the store that the tests of tables share."""

from tests.tables.conftest import complete, store, tiny

__all__ = ["complete", "store", "tiny"]
