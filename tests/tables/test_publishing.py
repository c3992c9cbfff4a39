"""What ``cm2 table --publish`` writes: guarded tables of several cohorts, side by side, and the blocks that chapters show of them."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from itertools import combinations

import pytest
from typer.testing import CliRunner

from cm2.cli import app
from cm2.cohorts.disclosure import DIGITS, FABRICATED, few
from cm2.cohorts.format import MANIFEST
from cm2.tables import Cell, TableResult, notes, on_papers_cohort, other_cohorts, publish, read, side_by_side, table
from cm2.tables.release import released
from tests.tables.conftest import FAST, write

OPTIONS = {"profile": "smoke", "seeds": 1, "settings": FAST, "only": ["Unified"], "tasks": ["death"]}


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """The same stays as the tiny cohort's, under a use agreement."""
    cohort = write(tmp_path_factory.mktemp("cohorts") / "ward", name="ward")
    cohort.manifest["credentialed"] = True
    return cohort


@pytest.fixture(scope="module")
def published(tiny, ward, store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    publish(3, [tiny, ward], folder, store=store, **OPTIONS)
    return folder


def test_each_cohort_has_a_folder_and_all_stand_side_by_side(published, tiny, ward):
    names = {path.relative_to(published).as_posix() for path in published.rglob("*") if path.is_file()}
    files = {f"table-3-unified.{ending}" for ending in ("csv", "json", "md")} | {"cohort.json"}
    predictions = f"tiny/predictions-{tiny.checksum[:8]}.parquet"
    assert names == {*(f"{cohort}/{file}" for cohort in ("tiny", "ward") for file in files), predictions, "table-3-unified.md"}
    page = (published / "table-3-unified.md").read_text()
    assert "|  | tiny: death | ward: death |" in page and "Of these stays no count below 10 is shown" in page


def test_of_a_credentialed_cohort_numbers_are_rounded_and_of_an_open_one_exact(published):
    exact, shown = (read(published / name / "table-3-unified.json") for name in ("tiny", "ward"))
    values = lambda result: [cell.value for cell in result.cells] + [cell.difference["p"] for cell in result.cells if cell.difference]
    assert values(shown) == [float(f"{value:.{DIGITS}g}") for value in values(exact)] != values(exact)
    assert (exact.rounding, shown.rounding) == (1e-9, 1e-2)
    assert [cell.positives for cell in exact.cells] == [cell.positives for cell in shown.cells]


def test_files_have_the_permissions_of_the_umask(published):
    fresh = published / "fresh"
    fresh.touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (fresh, *published.glob("*/*.json"), *published.glob("*.md"))}
    fresh.unlink()
    assert len(modes) == 1


def test_counts_are_set_against_the_other_tables_of_the_cohort(ward):
    cell = Cell("all", "CM2", "death", "auroc", 0.81234, 0.7, 0.9, seeds=(0.81234,), n=80, positives=30)
    other = replace(cell, n=75, positives=26)
    beside = TableResult("3", "another", "results", "CM2", (other,))
    (alone,) = released([cell], ward)
    assert (alone.n, alone.positives, alone.value) == (80, 30, 0.812)
    (seen,) = released([cell], ward, [beside])
    assert (seen.n, seen.positives, seen.value) == (None, None, 0.812)
    pair = released([cell, replace(other, section="matched")], ward)
    for name in ("n", "positives"):
        assert not any(few(abs(a - b)) for a, b in combinations([getattr(c, name) for c in pair if getattr(c, name) is not None], 2))


@pytest.mark.parametrize(("n", "positives"), [(80, 9), (80, 71), (80, 0)])
def test_nothing_is_said_of_few_positives_or_negatives(ward, n, positives):
    cell = Cell("all", "CM2", "death", "auroc", 0.8, 0.7, 0.9, (0.8,), ((0.7, 0.9),), 0.1, n=n, positives=positives, difference={"p": 0.1})
    (shown,) = released([cell], ward)
    assert (shown.value, shown.seeds, shown.stays, shown.difference) == (None, (), (), None) and shown.positives in (None, 0)


def test_an_error_comes_before_training(ward, tiny, published, tmp_path):
    with pytest.raises(ValueError, match="two cohorts are called tiny"):
        publish(3, [tiny, tiny], tmp_path)
    other = write(tmp_path / "other", name="ward", complete=True)
    with pytest.raises(ValueError, match=r"is about another version of ward \(.*publish into another folder"):
        publish(3, [other], published)
    for words in (["--cohort", str(ward.path), "--cohort", str(tiny.path)], ["--cohort", "c", "--out", "a", "--publish", "b"]):
        ran = CliRunner().invoke(app, ["table", "3", *words])
        assert ran.exit_code == 1 and "--publish" in str(ran.exception)


def test_a_fabricated_cohort_stands_beside_no_row_of_the_paper(store, tmp_path, monkeypatch):
    cohort = write(tmp_path / "mimic3", name="mimic3")
    monkeypatch.setitem(cohort.manifest, "fabricated", True)
    made_up = table(3, cohort, store=store, **OPTIONS)
    assert made_up.provenance["fabricated"] is True and not any(cell.printed for cell in made_up.cells) and not on_papers_cohort(made_up)
    assert FABRICATED in notes(made_up) and "mimic3 (fabricated): death" in side_by_side([made_up])
    open_one = replace(made_up, provenance={**made_up.provenance, "fabricated": False})
    assert made_up.frame()["fabricated"].all() and "fabricated" not in open_one.frame()


def test_a_chapter_shows_every_other_cohort_but_no_fabricated_one(published, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert other_cohorts(3, cohort="tiny") == (
        "No other cohort's table is kept. `cm2 table 3 --cohort DIR --publish results` adds the block of a cohort of your own, a copy of"
        " MIMIC for example."
    )
    kept = tmp_path / "results"
    for name in ("tiny", "ward", "ward-fabricated"):
        (kept / name).mkdir(parents=True)
        tree = json.loads((published / name.partition("-")[0] / "table-3-unified.json").read_text())
        tree["provenance"]["fabricated"] = name.endswith("fabricated")
        (kept / name / "table-3.json").write_text(json.dumps(tree))
    shown = other_cohorts(3, cohort="tiny")
    assert shown.startswith("**Table 3, ward**") and shown.count("**Table 3") == 1


def test_the_flags_of_a_manifest_are_true_or_false(ward):
    manifest = json.loads((ward.path / MANIFEST).read_text())
    assert manifest["fabricated"] is False and manifest["credentialed"] is False
