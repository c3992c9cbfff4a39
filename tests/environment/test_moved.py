"""Old import paths work for one release, with a warning."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from cm2.environment.moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_gives_the_new_modules_names(old, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=rf"^{old} has moved to {MOVED[old][0]}"):
        module = import_module(old)
    for home in map(import_module, MOVED[old]):
        for name in getattr(home, "__all__", [n for n in vars(home) if not n.startswith("_")]):
            assert getattr(module, name) is not None


def test_names_that_people_import():
    with pytest.warns(DeprecationWarning):
        from cm2.baselines.daft import DAFT
        from cm2.experiments import METHODS, embedded_cohort, fit, provenance
        from cm2.model import CM2
        from cm2.training import Method, train
    assert METHODS["daft"] is DAFT and METHODS["cm2"] is CM2
    assert issubclass(CM2, Method) and callable(fit) and callable(train) and callable(embedded_cohort) and callable(provenance)


def test_a_name_that_never_was_is_an_error():
    with pytest.raises(ModuleNotFoundError, match=r"cm2\.nothing"):
        import_module("cm2.nothing")
    with pytest.warns(DeprecationWarning), pytest.raises(ImportError, match="no_such_class"):
        from cm2.model import no_such_class  # noqa: F401
