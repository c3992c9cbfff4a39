"""The cohort and the store that the tests of tables share."""

from tests.tables.conftest import store, tiny

__all__ = ["store", "tiny"]
