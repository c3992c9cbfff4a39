"""Kept tables are those of this version, or the book says what has changed since."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cm2.tables import load_table, markdown, notes, read, table
from cm2.tables.outdated import outdated
from cm2.tables.result import is_table
from cm2.tables.spec import Role
from tests.tables.conftest import FAST

OLDER: set[str] = set()
"""Kept tables that wait to be computed again; their pages say so. Take a name out when its table has been computed."""


def kept(repository):
    return {path: read(path) for path in sorted(repository.glob("results/*/*.json")) if is_table(path)}


def test_every_kept_table_is_that_of_this_version(repository):
    changed = {path.stem: reasons for path, result in kept(repository).items() if (reasons := outdated(result))}
    assert set(changed) == OLDER, changed


@pytest.fixture
def result(tiny, store, monkeypatch):
    """A table on a cohort that has a role, with the settings of its test for every run."""
    from cm2.config import Config

    whole = Config.from_profile.__func__
    monkeypatch.setattr(Config, "from_profile", classmethod(lambda cls, profile, given=None: whole(cls, profile, FAST | (given or {}))))
    role = Role(("bedside", "laboratory"), ("series", "vector"), {"death": "death"}, {"laboratory": 0.5})
    monkeypatch.setattr("cm2.tables.spec.roles", lambda: {"tiny": role})
    monkeypatch.setattr("cm2.tables.outdated.roles", lambda: {"tiny": role})
    return table(6, tiny, "smoke", seeds=2, store=store, progress=False)


def test_a_table_just_computed_is_current(result):
    assert outdated(result) == [] and "earlier version" not in notes(result)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda spec: replace(spec, row=spec.row[:2]), f"it has a row {'Gaussian'!r} that the table no longer has"),
        (lambda spec: replace(spec, row=(*spec.row, replace(spec.row[0], label="Joe"))), "it lacks the row 'Joe'"),
        (
            lambda spec: replace(spec, row=(*spec.row[:2], replace(spec.row[2], set={"model.family": "joe"}))),
            "the row 'Gaussian' has other settings now",
        ),
    ],
)
def test_what_has_changed_since_is_told(result, monkeypatch, change, reason):
    monkeypatch.setattr("cm2.tables.outdated.load_table", lambda name: change(load_table(name)))
    assert outdated(result) == [reason]
    assert f"*Computed by an earlier version: {reason}.*" in notes(result)
    assert "earlier version" not in markdown(result), "what is written beside the numbers stays as it was"


def test_another_version_of_a_method_is_told(result, monkeypatch):
    from cm2.methods import METHODS

    monkeypatch.setattr(METHODS["cm2"], "version", "99")
    assert outdated(result) == ["cm2 is in version 99 now, the table has version 2"]


def test_a_cohort_of_ones_own_has_nothing_to_compare_with(result):
    other = replace(result, provenance={**result.provenance, "cohort": "mine"})
    with pytest.raises(ValueError, match=r"the cohort 'mine' has no role in cohorts\.toml"):
        outdated(other)
    assert "earlier version" not in notes(other)
