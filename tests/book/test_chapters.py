"""The chapters of the repository: each follows the template and executes, and the whole renders without a warning."""

import pytest
from filelock import FileLock

from cm2.book import build, find_root, read_chapters
from cm2.book.chapters import documents
from cm2.book.runner import execute
from tests.book import browser, html_checks, minibook, notebook_checks

ROOT = minibook.REPOSITORY
PRESENT = sorted((ROOT / "book").glob("*.ipynb"))
COMPLETE = all((ROOT / f"{name}.ipynb").is_file() or (ROOT / f"{name}.md").is_file() for name in documents(ROOT))


@pytest.mark.parametrize("path", PRESENT, ids=lambda path: path.stem)
def test_the_template(path):
    assert notebook_checks.problems(path) == []


def test_the_template_of_the_small_book(book):
    assert notebook_checks.problems(book / "book" / "tails.ipynb") == []


def test_the_template_is_missed_where_it_is_not_followed(tmp_path):
    cells = [minibook.markdown("# Nothing"), minibook.code("import tqdm.auto\nplt.show()\n" + "x = 1\n" * 40)]
    minibook.write(tmp_path, tails=minibook.notebook(cells))
    assert len(notebook_checks.problems(tmp_path / "book" / "tails.ipynb")) == 13


@pytest.fixture(scope="session")
def smoke():
    """Every chapter, executed once for all tests: each of pytest's processes takes those that no other has begun."""
    return execute([], None, "smoke", 1, find_root(ROOT), lambda line: None)


@pytest.mark.skipif(not COMPLETE, reason="_toc.yml lists chapters that are not written yet")
@pytest.mark.parametrize("name", [path.stem for path in PRESENT])
def test_a_chapter_executes(smoke, name):
    done, failures = smoke
    assert name in done and not done[name].meta["without"], str(failures.get(name))


@pytest.fixture(scope="session")
def pages(smoke, shared):
    """Folder of the pages of the whole book, rendered once, whichever of pytest's processes asks first."""
    folder = shared / "pages"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            build(profile="smoke", root=ROOT, output=folder.with_suffix(".part"), strict=True).parent.rename(folder)
    return folder


@pytest.mark.skipif(not COMPLETE, reason="_toc.yml lists chapters that are not written yet")
def test_the_whole_book_renders_strictly(pages):
    assert html_checks.problems(pages) == []
    assert set(read_chapters(ROOT)) == {path.stem for path in PRESENT}, "every notebook under book is in _toc.yml"


@pytest.mark.browser
@pytest.mark.skipif(not COMPLETE, reason="_toc.yml lists chapters that are not written yet")
def test_the_pages_on_a_phone_and_on_a_laptop(pages, tmp_path):
    assert browser.layout_problems(pages, tmp_path) == []
