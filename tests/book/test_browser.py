"""The book from a USB stick: Chromium over ``file://``, every other host blocked."""

import re

import pytest

from tests.book import browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chapter(rendered, tmp_path_factory):
    return browser.visit((rendered / "book" / "tails.html").as_uri(), tmp_path_factory.mktemp("chromium"))


def test_equations_are_typeset_without_another_host(chapter):
    assert chapter.dom.count("<mjx-container") >= 3
    assert "<mjx-merror" not in chapter.dom
    assert chapter.hosts == set()
    assert not [line for line in chapter.console if ":INFO:" not in line]


def dom_with(rendered, text, folder):
    """The tree of a page of the small book that ends with this text, as the browser has it."""
    page = rendered / "book" / "longer.html"
    page.write_text((rendered / "book" / "tails.html").read_text().replace("</article>", text, 1))
    try:
        return browser.visit(page.as_uri(), folder).dom
    finally:
        page.unlink()


def test_an_inline_formula_wider_than_the_column_can_be_scrolled(rendered, tmp_path):
    formula = '<span id="{}" class="math notranslate nohighlight">\\({}\\)</span>'
    long = " + ".join(f"x_{{{i}}}" for i in range(200))
    text = f"<p>{formula.format('long', long)} and {formula.format('short', 'y')}</p></article>"
    dom = dom_with(rendered, text, tmp_path)
    classes = {name: re.search(rf'<span id="{name}" class="([^"]*)"', dom)[1].split() for name in ("long", "short")}
    assert "cm2-wide" in classes["long"] and "cm2-wide" not in classes["short"]
    assert dom.count("cm2-wide") == 1


def test_a_formula_that_cannot_be_reached_would_be_seen(rendered, tmp_path):
    long = " + ".join(f"x_{{{i}}}" for i in range(60))
    text = f'<p><span id="long" class="math notranslate nohighlight">\\({long}\\)</span></p></article>'
    page = rendered / "book" / "cut.html"
    marked = (rendered / "book" / "tails.html").read_text().replace("</article>", text, 1)
    page.write_text(marked.replace("wide_math.js", "no_such_script.js"))
    try:
        found = browser.layout_problems(rendered, tmp_path)
    finally:
        page.unlink()
    assert {re.sub(r"\d+ pixels off", "pixels off", line) for line in found} == {
        f"book/cut.html at {width} pixels cuts pixels off long" for width in browser.WIDTHS
    }


def test_a_request_to_another_host_would_be_seen(tmp_path):
    (tmp_path / "page.html").write_text('<img src="http://host.example/a.png"><script src="https://other.example/b.js"></script>')
    assert browser.visit((tmp_path / "page.html").as_uri(), tmp_path, seconds=2).hosts == {"host.example", "other.example"}


def test_the_explorer_draws_and_says_what(chapter):
    assert re.search(r'aria-label="1,500 draws from the Gumbel copula with alpha 2.5', chapter.dom)
    assert "τ = 0.600; tail dependence: lower 0.000, upper 0.680" in chapter.dom
    assert '<p aria-live="polite">' in chapter.dom


def test_search_finds_a_chapter(rendered, tmp_path):
    page = browser.visit((rendered / "search.html").as_uri() + "?q=copula", tmp_path)
    results = re.search(r'<ul class="search[^>]*>(.*?)</ul>', page.dom, re.DOTALL)
    assert results and "book/tails.html" in results[1]
    assert page.hosts == set()


def test_the_index_opens(rendered, tmp_path):
    page = browser.visit((rendered / "index.html").as_uri(), tmp_path)
    assert "<h1>Preface" in page.dom and page.hosts == set()


def test_a_full_stop_stays_with_its_formula(rendered, tmp_path):
    formula = '<span class="math notranslate nohighlight">\\(W_j\\)</span>'
    lines = "".join(
        f'<p class="try" style="width: {width}px">negatives for the other {formula}, and the mean</p>' for width in range(180, 260)
    )
    script = """window.MathJax.startup.promise.then(() => {
      for (const line of document.querySelectorAll("p.try")) {
        const comma = document.createRange();
        comma.setStart(line.lastChild, 0);
        comma.setEnd(line.lastChild, 1);
        const alone = comma.getBoundingClientRect().left < line.querySelector("mjx-math").getBoundingClientRect().right - 3;
        line.dataset.comma = alone ? "alone" : "beside";
      }
    });"""
    text = f'{lines}<script>window.addEventListener("load", () => {{ {script} }})</script></article>'
    dom = dom_with(rendered, text, tmp_path)
    found = re.findall(r'<p class="try"[^>]*data-comma="(\w+)"', dom)
    assert len(found) == 80 and set(found) == {"beside"}
