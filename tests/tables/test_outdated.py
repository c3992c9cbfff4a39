"""Kept tables are those of this version, or the book says what has changed since."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cm2.tables import load_table, markdown, notes, read, table
from cm2.tables.for_pages import for_page
from cm2.tables.outdated import outdated
from cm2.tables.result import Cell, TableResult, is_table
from cm2.tables.spec import Role
from tests.tables.conftest import FAST

OLDER: set[str] = set()
"""Kept tables that wait to be computed again; their pages say so. Take a name out when its table has been computed."""


def kept(repository):
    return {path: read(path) for path in sorted(repository.glob("results/*/*.json")) if is_table(path)}


def test_every_kept_table_is_that_of_this_version(repository):
    tables = kept(repository)
    beside = {path: [other for where, other in tables.items() if where.parent == path.parent] for path in tables}
    changed = {path.stem: reasons for path, result in tables.items() if (reasons := outdated(result, beside[path]))}
    assert set(changed) == OLDER, changed


def physionet(repository, stem) -> TableResult:
    return read(repository / "results" / "physionet2012" / f"{stem}.json")


def without(result: TableResult, gone: Callable[[Cell], bool]) -> TableResult:
    """A copy that lacks some cells, with the same provenance."""
    left = tuple(cell for cell in result.cells if not gone(cell))
    assert 0 < len(left) < len(result.cells)
    return replace(result, cells=left)


PARTLY, MATCHED = "partially matched", "totally matched"
EVERY, RANDOM = "bedside to laboratory, of all", "bedside to laboratory, of 100"


@pytest.mark.parametrize(
    ("stem", "gone", "reasons"),
    [
        ("table-9", lambda c: c.section == PARTLY, [f"it lacks the section {PARTLY!r}"]),
        ("table-9", lambda c: (c.section, c.row) == (PARTLY, "LSMT"), [f"it lacks the row 'LSMT', section {PARTLY!r}"]),
        ("table-9", lambda c: c.row == "LSMT", ["it lacks the row 'LSMT'"]),
        ("table-9", lambda c: c.metric == "aupr", ["it lacks the metric 'aupr'"]),
        ("table-9", lambda c: (c.metric, c.section) == ("aupr", MATCHED), [f"it lacks the metric 'aupr', section {MATCHED!r}"]),
        ("table-9", lambda c: (c.row, c.metric) == ("LSMT", "auroc"), ["it lacks the metric 'auroc', row 'LSMT'"]),
        ("table-5", lambda c: c.row == "w/o GPS", ["it lacks the row 'w/o GPS'"]),
        ("version-3", lambda c: c.metric == "brier", ["it lacks the metric 'brier'"]),
        ("alignment", lambda c: c.section == EVERY, [f"it lacks the section {EVERY!r}"]),
        ("alignment", lambda c: c.section == RANDOM, [f"it lacks the section {RANDOM!r}"]),
        (
            "alignment",
            lambda c: (c.section, c.row) == (RANDOM, "DrFuse, cosine"),
            [f"it lacks the row 'DrFuse, cosine', section {RANDOM!r}"],
        ),
        ("alignment", lambda c: c.method == "DrFuse", ["it lacks the row 'DrFuse'"]),
        ("alignment-pair", lambda c: c.metric == "recall_5", ["it lacks the metric 'recall_5'"]),
        ("alignment-pair", lambda c: c.metric == "auroc", ["it lacks the metric 'auroc'"]),
        ("imputation", lambda c: c.section.startswith("bedside, 25%"), ["it lacks the section 'bedside, 25% of the others hidden'"]),
        ("imputation-pair", lambda c: c.metric == "energy_gain", ["it lacks the metric 'energy_gain'"]),
    ],
)
def test_what_a_copy_lacks_is_told(repository, stem, gone, reasons):
    assert outdated(without(physionet(repository, stem), gone)) == reasons


@pytest.mark.parametrize(
    ("stem", "change", "reason"),
    [
        ("table-6", {"margin": 0.02}, "its margin is 0.02, the table's is 0.01 now"),
        ("table-6", {"margin": None}, "its margin is None, the table's is 0.01 now"),
        ("table-9", {"margins": {"aupr": 0.02}}, "its margins is {'aupr': 0.02}, the table's is {} now"),
        ("table-9", {"split": "valid"}, "its split is 'valid', the table's is 'test' now"),
        ("version-3", {"split": "test"}, "its split is 'test', the table's is 'valid' now"),
    ],
)
def test_other_definitions_of_a_copy_are_told(repository, stem, change, reason):
    result = physionet(repository, stem)
    assert outdated(replace(result, provenance={**result.provenance, **change})) == [reason]


def test_another_reference_or_kind_is_told(repository):
    result = physionet(repository, "table-9")
    assert outdated(replace(result, reference="LSMT")) == ["its reference is 'LSMT', the table's is 'CM2' now"]
    assert outdated(replace(result, kind="tests")) == ["its kind is 'tests', the table's is 'results' now"]


def test_fewer_and_more_seeds_than_planned_are_told(repository):
    """Interleaved has three by its own limit; the others have the table's five."""
    result = physionet(repository, "table-9")
    fewer = [replace(cell, runs=cell.runs[:4]) if cell.row == "LSMT" else cell for cell in result.cells]
    assert outdated(replace(result, cells=tuple(fewer))) == ["the row 'LSMT' has 4 seeds, and 5 now"]
    assert outdated(replace(result, provenance={**result.provenance, "seeds": 2})) == [
        f"the row {row!r} has {count} seeds, and 2 now" for row, count in (("LSMT", 5), ("Interleaved", 3), ("CM2", 5))
    ]
    none = [replace(cell, runs=()) if cell.row == "LSMT" else cell for cell in result.cells]
    assert outdated(replace(result, cells=tuple(none))) == ["the row 'LSMT' has 0 seeds, and 5 now"]


def test_another_cohort_than_that_of_its_folder_is_told(repository):
    tables = [physionet(repository, stem) for stem in ("table-4", "table-5", "table-6")]
    other = replace(tables[0], provenance={**tables[0].provenance, "cohort_checksum": "0123456789abcdef"})
    assert [outdated(result, [other, *tables[1:]]) for result in tables[1:]] == [[], []]
    assert outdated(other, [other, *tables[1:]]) == [
        "it is about the cohort 0123456789ab, most tables of its folder are about d35bfd0e3493"
    ]


def test_a_task_that_was_asked_for_is_whole_and_others_may_be_absent(repository):
    """The cohort has two tasks. A task with a part of the rows is none that was asked for."""
    result = physionet(repository, "table-9")
    first = [cell for cell in result.cells if cell.task == "IHM"]
    assert outdated(replace(result, cells=tuple(first))) == []
    second = [replace(cell, task="In hospital > 7 d") for cell in first if cell.row != "LSMT"]
    told = outdated(replace(result, cells=(*first, *second)))
    assert "it lacks the row 'LSMT', task 'In hospital > 7 d'" in told
    assert outdated(replace(result, cells=())) == [f"it lacks the section {section!r}" for section in (PARTLY, MATCHED)]


def test_a_row_that_cannot_have_such_a_table_is_not_lacking(repository):
    result = physionet(repository, "alignment")
    assert "MMTM" in result.provenance["cannot"]
    able = {label: why for label, why in result.provenance["cannot"].items() if label != "MMTM"}
    assert outdated(replace(result, provenance={**result.provenance, "cannot": able})) == ["it lacks the row 'MMTM'"]
    gone = {**result.provenance["cannot"], "MMTN": "cannot"}
    assert outdated(replace(result, provenance={**result.provenance, "cannot": gone})) == [
        "it has a row 'MMTN' that the table no longer has"
    ]


def test_what_a_page_leaves_out_is_not_lacking(repository):
    result = physionet(repository, "table-9")
    few = [replace(cell, value=None, difference=None) if cell.row == "LSMT" else cell for cell in result.cells]
    assert outdated(for_page(replace(result, cells=tuple(few)), "table-9", None)) == []


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
