"""A page has something to show whatever its cohort may show: none of its numbers, some of them, or all."""

from __future__ import annotations

import json
from dataclasses import replace

import matplotlib
import pytest

from cm2.results import kept
from cm2.tables import kept_table, load_table, notes, read, table, tally, values, verdict_grid, verdicts
from cm2.tables.for_pages import OPEN, for_page
from tests.book.minibook import REPOSITORY

HIDDEN = {"value": None, "low": None, "high": None, "seeds": (), "stays": (), "se_stays": None, "difference": None}


def hidden(result, which=lambda cell: True):
    """The table as `cm2.tables.release` leaves it where groups have too few stays."""
    cells = tuple(replace(cell, n=None, positives=None, **HIDDEN) if which(cell) else cell for cell in result.cells)
    return replace(result, cells=cells, provenance={**result.provenance, "cohort": "mimic9", "credentialed": True})


@pytest.mark.parametrize("name", ["methods", "2", "7", "11", "figure-5", "alignment"])
def test_where_nothing_may_be_shown_the_books_own_table_stands_in_its_place(name):
    stem = load_table(name).file
    own = read(kept() / OPEN / f"{stem}.json")
    found = for_page(hidden(own), stem, kept())
    assert found.cells == own.cells and found.provenance["cohort"] == OPEN
    text = notes(found)
    assert "No number of this table may be shown for mimic9: each group has fewer than 10 positives or negatives" in text
    assert f"are those of {OPEN}" in text and "On this page" not in notes(own) + values(found)


def test_groups_that_may_not_be_shown_are_left_out_and_counted():
    own = read(kept() / OPEN / "methods.json")
    section = own.cells[0].section
    found = for_page(hidden(own, lambda cell: cell.section == section), "methods", kept())
    assert {cell.section for cell in found.cells} == {cell.section for cell in own.cells} - {section}
    assert found.frame()["value"].notna().all() and tally(verdicts(found)) and section not in verdict_grid(found)
    few = len(own.cells) - len(found.cells)
    assert f"{few} of the {len(own.cells)} numbers of this table are not shown" in notes(found)


def test_a_table_that_shows_everything_or_counts_stays_is_as_it_was(tiny):
    own = read(kept() / OPEN / "methods.json")
    assert for_page(own, "methods", None) is own
    counts = table(8, tiny, progress=False)
    assert for_page(hidden(counts), "table-8", None).cells == hidden(counts).cells


def test_without_the_books_tables_it_is_one_clear_error(tmp_path):
    own = hidden(read(kept() / OPEN / "methods.json"))
    for folder in (None, tmp_path):
        with pytest.raises(ValueError, match=r"table methods: no number of this table may be shown for mimic9.*more test stays"):
            for_page(own, "methods", folder)


@pytest.mark.parametrize("name", ["two_modalities", "three_modalities"])
def test_a_chapter_renders_on_a_cohort_whose_tables_show_nothing(name, tiny, tmp_path, monkeypatch):
    """Every cell that reads tables, run as the book runs it on the folder of a prepared cohort."""
    matplotlib.use("Agg")
    monkeypatch.setenv("CM2_RESULTS", str(tmp_path))
    monkeypatch.setattr(
        "cm2.tables.committed.table", lambda name, *_, **__: hidden(read(REPOSITORY / f"results/{OPEN}/{load_table(name).file}.json"))
    )
    assert "No number" in notes(kept_table(2, tiny.path))
    cells = json.loads((REPOSITORY / "book" / f"{name}.ipynb").read_text())["cells"]
    around = {"__name__": name}
    for cell in cells:
        tags = cell["metadata"].get("tags", ())
        if cell["cell_type"] != "code" or "solution" in tags:
            continue
        exec("".join(cell["source"]), around)  # the chapter itself
        if "parameters" in tags:
            around |= {"cohort": str(tiny.path), "profile": "smoke"}
    assert around["about"]["cohort"] == OPEN and len(around["found"])
