"""The rendered book: strict, whole, and with nothing of the machine it was made on."""

import json
import re
from pathlib import Path

import pytest

from cm2.book import RenderError, build
from cm2.environment.machine import describe
from tests.book import html_checks, minibook

REAL = minibook.REPOSITORY / "_build" / "html"


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def test_pages_have_no_dead_link_foreign_asset_or_undescribed_image(rendered):
    assert html_checks.problems(rendered) == []


def test_the_real_book_as_it_was_last_rendered():
    if not (REAL / "index.html").is_file():
        pytest.skip("the book has not been rendered here yet (make book)")
    assert html_checks.problems(REAL) == []


def test_the_checker_finds_what_is_wrong(tmp_path):
    (tmp_path / "a.html").write_text(
        '<link rel="stylesheet" href="https://host.example/x.css"><a href="b.html">b</a><a href="#no">n</a><a href="../up.html">u</a>'
        '<img src="data:x" alt="plot_3.png"><img src="data:y"><script src="gone.js"></script><p style="background: url(//host.example/z)">'
    )
    assert len(html_checks.problems(tmp_path)) == 8


def test_the_index_is_the_first_page_seen_from_above(rendered):
    index = text(rendered / "index.html")
    assert "<h1>Preface" in index and 'href="book/tails.html"' in index and 'data-content_root="./"' in index


def test_numbers_carry_their_provenance(rendered):
    found = re.search(r'<span class="cm2-res" tabindex="0" title="([^"]*)">(-?\d\.\d\d)</span>', text(rendered / "book" / "tails.html"))
    assert found and found[1] == f"tails:correlation: cohort draws; machine {describe()}; profile quick; seeds 0"
    glued = re.search(r"The correlation of .*? is .*?(-?\d\.\d\d)", text(rendered / "book" / "tails.html"), re.DOTALL)
    assert glued and glued[1] == found[2]


def test_a_chapter_says_what_it_was_executed_with(rendered):
    assert "profile <code>quick</code>, seed <code>0</code>, n <code>500</code>" in text(rendered / "book" / "tails.html")


def test_theorems_figures_equations_and_exercises_are_numbered(rendered):
    page = re.sub(r"<[^>]+>", "", text(rendered / "book" / "tails.html"))
    assert all(words in page for words in ("Definition 1.1", "Theorem 1.1", "Fig. 1.1", "Exercise 1.3", "Solution to")), page[-3000:]


def test_a_solution_is_folded_away(rendered):
    assert re.search(r'class="[^"]*solution[^"]*dropdown', text(rendered / "book" / "tails.html"))


def test_the_download_is_the_executed_notebook_without_paths_and_times(rendered):
    notebook = json.loads(text(rendered / "_sources" / "book" / "tails.ipynb"))
    assert any(cell.get("outputs") for cell in notebook["cells"])
    metadata = [notebook["metadata"], *(cell["metadata"] for cell in notebook["cells"])]
    assert not [entry for entry in metadata if {"papermill", "execution"} & set(entry)]
    assert str(rendered.parents[1]) not in json.dumps(notebook)


def test_there_is_one_search_box_and_no_live_code(rendered):
    page = text(rendered / "book" / "tails.html")
    assert page.count('class="sidebar-primary-item">') >= 1
    assert len(re.findall(r'class="btn search-button', page)) + len(re.findall("search-button-field", page)) <= 2
    assert "thebe" not in page.lower()


def test_mathjax_is_the_part_that_is_needed(rendered):
    folder = rendered / "_static" / "mathjax"
    assert (folder / "tex-chtml.js").is_file() and (folder / "output/chtml/fonts/woff-v2/MathJax_Main-Regular.woff").is_file()
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 4e6


def test_figures_are_vectors_without_a_date(rendered):
    figures = [path for path in (rendered / "_images").glob("*.svg") if "logo" not in path.name]
    assert figures and all(b"<dc:date>" not in path.read_bytes() for path in figures)


def test_what_is_missing_fails_the_build_each_time(tmp_path):
    lines = ["{res}`tails:nothing`", "{prf:ref}`thm-unknown`", "{ref}`nowhere`", "{cite:p}`nobody1900`"]
    parameters = minibook.code('profile = "quick"\nseed = 0', tags=["parameters"])
    broken = minibook.notebook([minibook.markdown("# Preface\n\n" + ", ".join(lines)), parameters])
    root = minibook.write(tmp_path, preface=broken, tails=minibook.notebook([minibook.markdown("# Tails\n\nA word.")]))
    minibook.pretend(root, "preface", "tails")
    for _ in range(2):
        with pytest.raises(RenderError) as refusal:
            build(root=root)
        for missing in ("no result 'tails:nothing' is recorded", "thm-unknown", "nowhere", "nobody1900"):
            assert missing in str(refusal.value)


def test_one_chapter_alone_is_rendered_without_the_others(tmp_path):
    root = minibook.write(tmp_path, tails=minibook.notebook([minibook.markdown("# Tails\n\nA word.")]))
    minibook.pretend(root, "tails")
    said = []
    index = build("tails", root=root, report=said.append)
    assert any("left out: preface" in line for line in said)
    assert "<h1>" in text(index) and "Tails" in text(index) and "preface" not in text(index)
