"""Sentences follow the numbers: with every difference reversed no statement about a side stays as it was."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from cm2.book.runner import execute
from cm2.tables import load_table, read, table_names
from cm2.tables.recomputation import recompute
from cm2.uncertainty import INFLUENCE
from tests.book import minibook, reversed_results
from tests.book.reversed_results import Records, glued, recorded, text_of

CHAPTERS = (
    "two_modalities",
    "three_modalities",
    "ablations",
    "components",
    "other_methods_and_encoders",
    "testing_differences",
    "alignment_and_imputation",
    "when_a_copula_helps",
)
SOURCES = {"kept_table", "kept_predictions", "kept_scores", "kept", "other_cohorts"}
"""Functions through which a chapter gets kept results."""
WORDS = re.compile(
    r"\b(above|below|better|worse|ahead|behind|beats?|beaten|won|lost|leads?|nearer|farther|(high|low)(er|est)|largest|smallest|rises?|falls?)\b"
)
SIGNED = re.compile(r"(?<![\w.])[+−-]\d*\.\d*[1-9]")
LEVEL = re.compile(r"(p-values?|are|is) below #|\[[^][]*\]")
"""A level of a test and intervals, which are on no side."""
NUMBER = re.compile(r"(?<![\w.+−-])\d*\.\d+|\b\d+e-\d+")
"""Sizes, which may stay or change. Counts and signed numbers are part of a statement."""
NEUTRAL = re.compile(
    r"above in (?P<as_often>\d+) of \d+ comparisons,? (and )?below in (?P=as_often)\b"
    r"|\b0 of \d+(?! comparisons)|\bchance\b|true law|largest and the smallest"
    r"|better or worse|above and below|may be ahead|where they lead|tables? below|largest distance of a margin|smallest p-value"
    r"|methods lie above it|no exact link|is no contradiction|nats (a stay|where)",
    re.IGNORECASE,
)
"""Of a statement that takes no side or either, that is not about two rows, or whose other side is a number that nobody reversed."""
ROWS = sorted({row.label for name in table_names() for row in load_table(name).row}, key=lambda label: (-len(label), label))
LABELS = re.compile("|".join(map(re.escape, ROWS)))
"""Of rows, which hold words and numbers of their own."""
GLUED, RECORDED = re.compile(r"\{glue:text\}`([^`:]+)(?::([^`]*))?`"), re.compile(r"\{res\}`(\w+):([^`|]+)(?:\|([^`]*))?`")
PAPERS = re.compile(r"\bpaper|\bprint", re.IGNORECASE)
"""Of a sentence about printed numbers, which are not reversed."""


def sentences(text: str, numbers: bool = True) -> Iterator[str]:
    """Statements of a text about sides, without sizes; with ``numbers`` those that say it by a sign alone, too."""
    for sentence in re.split(r"(?<=\.)\s+|\n(?=\s*[*|\n-])", text):
        if PAPERS.search(sentence):
            continue
        for part in re.split(r"(?<=;)\s+", " ".join(sentence.split())):
            part = LABELS.sub(lambda found: f"<{ROWS.index(found[0])}>", part.strip(" |*"))
            part = LEVEL.sub("", NUMBER.sub("#", part))
            if (WORDS.search(part) or (numbers and SIGNED.search(part))) and not NEUTRAL.search(part):
                yield part


def of_results(sources: list[str]) -> list[bool]:
    """Whether each cell of a chapter computes with kept results: with a name that a statement made from them."""
    made, imported, found = set(SOURCES), set(), []
    for source in sources:
        found.append(False)
        for statement in ast.parse(source).body:
            nodes = list(ast.walk(statement))
            imported |= {alias.asname or alias.name for alias in nodes if isinstance(alias, ast.alias)}
            local = local_names(statement, nodes)
            names = [node for node in nodes if isinstance(node, ast.Name) and node.id not in local]
            new = {statement.name} if isinstance(statement, ast.FunctionDef) else {n.id for n in names if isinstance(n.ctx, ast.Store)}
            if made & {name.id for name in names if isinstance(name.ctx, ast.Load)}:
                made |= new | (changed(nodes) - imported - local)
                found[-1] = True
            else:
                made -= new - SOURCES
    return found


def local_names(statement: ast.stmt, nodes: list[ast.AST]) -> set[str]:
    """Names that mean something else outside the statement: arguments, variables of comprehensions and of a function."""
    inside = [node.target for node in nodes if isinstance(node, ast.comprehension)]
    inside += [statement] if isinstance(statement, ast.FunctionDef) else []
    stored = [node for part in inside for node in ast.walk(part) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return {node.id for node in stored} | {node.arg for node in nodes if isinstance(node, ast.arg)}


def changed(nodes: list[ast.AST]) -> set[str]:
    """Names of what a statement changes in place, by ``text.append(...)`` or ``text[...] = ...``."""
    calls = [node.func for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    places = [func.value for func in calls if func.attr in ("append", "extend", "update", "setdefault", "insert")]
    places += [node.value for node in nodes if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store)]
    return {place.id for place in places if isinstance(place, ast.Name)}


def statements(outputs: list[dict[str, Any]]) -> Iterator[str]:
    """What the outputs of a cell say of sides, and what they hand to the text; tables of numbers say nothing by a sign."""
    for output in outputs:
        yield from sentences("".join(output.get("text", "")))
        for kind, value in output.get("data", {}).items():
            if kind.endswith(("plain", "markdown")):
                yield from sentences("".join(value), numbers=kind.endswith("markdown"))


def computed(notebook: Path) -> set[str]:
    """Statements about sides in the outputs of the cells that compute with kept results."""
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    about = of_results(["".join(cell["source"]) for cell in cells])
    return {said for cell, of in zip(cells, about, strict=True) if of for said in statements(cell["outputs"])}


def printed(value: Any, form: str | None) -> str:
    """A value as the text shows it."""
    try:
        return format(float(value), form or "") if form else str(value).strip("'\"")
    except ValueError:
        return str(value)


def written(page: str, values: Mapping[str, str], records: Records) -> Iterator[tuple[str, str]]:
    """Sentences of a page that take something from cells or records: as they are read, and what they take."""
    for sentence in re.split(r"(?<=[.;])\s+|\n", page):
        taken = [printed(values.get(name, name), form) for name, form in GLUED.findall(sentence)]
        taken += [printed(records.get((chapter, name), name), form) for chapter, name, form in RECORDED.findall(sentence)]
        if taken:
            read_as = GLUED.sub(lambda found: printed(values.get(found[1], found[1]), found[2]), sentence)
            yield RECORDED.sub(lambda found: printed(records.get((found[1], found[2]), found[2]), found[3]), read_as), "; ".join(taken)


def stays(page: str, one: Mapping[str, str], other: Mapping[str, str], first: Records, second: Records) -> Iterator[str]:
    """Sentences of a page about sides that are read alike although a number or word in them is another."""
    for before, after in zip(written(page, one, first), written(page, other, second), strict=True):
        if before[1] != after[1]:
            yield from {*sentences(before[0])} & {*sentences(after[0])}


@pytest.fixture(scope="session")
def mirror(shared):
    """The checkout with reversed results, whichever of pytest's processes asks first."""
    folder = shared / "reversed"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            reversed_results.checkout(minibook.REPOSITORY, folder.with_suffix(".part")).rename(folder)
    return folder


@pytest.fixture(scope="session")
def both(mirror):
    """Executions of the chapters, with the results as they are and reversed."""
    found = []
    for root in (minibook.REPOSITORY, mirror):
        done, failures = execute(CHAPTERS, None, "smoke", 1, root, lambda line: None)
        assert not failures, failures
        found.append(done)
    return found


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_statement_about_a_side_stays(both, chapter):
    said, reversed_ = (computed(each[chapter].notebook) for each in both)
    assert sorted(said & reversed_) == []
    assert said, "and it makes some"


def test_no_recorded_words_stay(both):
    """Other pages read them."""
    said, reversed_ = (recorded(each) for each in both)
    words = {key: value for key, value in said.items() if key[0] in CHAPTERS and isinstance(value, str)}
    assert words and not {key: value for key, value in words.items() if {*sentences(value)} & {*sentences(reversed_[key])}}


def test_no_sentence_of_a_page_stays_whose_numbers_change(both):
    """Of every page of the book, the preface's ledger and the summaries among them."""
    values = [{name: value for chapter in CHAPTERS for name, value in glued(each[chapter].notebook).items()} for each in both]
    records = [recorded(each) for each in both]
    pages = sorted(path for path in (minibook.REPOSITORY / "book").iterdir() if path.suffix in (".md", ".ipynb"))
    changed = sum(len({a[1] for a in written(text_of(path), values[0], records[0])}) for path in pages)
    assert changed > 100
    assert {path.stem: said for path in pages if (said := list(stays(text_of(path), *values, *records)))} == {}


@pytest.mark.parametrize("stem", ["table-4", "version-3", "imputation-pair", "links-fitted"])
def test_reversed_tables_are_those_of_their_predictions_and_scores(mirror, monkeypatch, stem):
    for name, influence in list(INFLUENCE.items()):
        monkeypatch.setitem(INFLUENCE, name, reversed_results.mirrored(influence))
    folder = mirror / "results" / "physionet2012"
    result = read(folder / f"{stem}.json")
    assert result != read(minibook.REPOSITORY / "results" / "physionet2012" / f"{stem}.json")
    assert len(recompute(result, folder)) == len(result.cells)


def chapter_of(folder: Path, name: str, source: str, *said: str) -> Path:
    """An executed chapter of one cell."""
    outputs = [{"output_type": "display_data", "data": {"text/markdown": text}, "metadata": {}} for text in said]
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": source, "outputs": outputs, "metadata": {}}]}))
    return path


@pytest.mark.parametrize(
    ("before", "after", "stuck"),
    [
        ("CM2 is above by 0.012 (IHM).", "CM2 is above by 0.034 (IHM).", True),
        ("CM2 is above by 0.012 (IHM).", "CM2 is below by 0.012 (IHM).", False),
        ("“Frank” differs, +0.012 [-0.010, 0.034].", "“Frank” differs, +0.012 [-0.034, 0.010].", True),
        ("“Frank” differs, +0.012 [-0.010, 0.034].", "“Frank” differs, -0.012 [-0.034, 0.010].", False),
        ("above in 3 of 8 comparisons, below in 1", "above in 1 of 8 comparisons, below in 3", False),
        ("above in 0 of 8 comparisons, below in 3", "above in 0 of 8 comparisons, below in 3", True),
        ("above in 0 of 8 comparisons, below in 0, undecided in 8", "above in 0 of 8 comparisons, below in 0, undecided in 8", False),
        ("above in 2 of 8 comparisons, below in 2, undecided in 4", "above in 2 of 8 comparisons, below in 2, undecided in 4", False),
        ("The largest mean: LSMT (0.8).", "The largest mean: DAFT (0.7).", False),
        ("First modality alone has 0.8.", "First modality alone has 0.8.", False),
        ("In the paper CM2 is above all.", "In the paper CM2 is above all.", False),
    ],
)
def test_a_statement_that_stays_is_found(tmp_path, before, after, stuck):
    source = "result = kept_table(4, 'physionet2012')\nMarkdown(findings(result))"
    said = [computed(chapter_of(tmp_path, name, source, text)) for name, text in (("a", before), ("b", after))]
    assert bool(said[0] & said[1]) == stuck


def test_cells_that_compute_with_kept_results_are_told_from_others():
    cells = [
        "import numpy as np\n\ndef note(name, value):\n    glue(name, value)",
        "result = kept_table(4, cohort)\ntext = ['x']",
        "text.append(result.name)\nnp.exp(result)",
        "print(text)",
        "text = ['another']\nfound = [result for result in range(3)]\nnote('x', np.pi)",
        "print(text, found)",
    ]
    assert of_results(cells) == [False, True, True, True, False, False]


def test_a_sentence_of_a_page_that_stays_is_found():
    page = "CM² is better, by {glue:text}`a-gain:.3f`. It is {res}`ablations:word`; the rest is above {glue:text}`a-count:.0f`."
    one, other = {"a-gain": "0.0123", "a-count": "3.0"}, {"a-gain": "-0.0123", "a-count": "4.0"}
    records = [{("ablations", "word"): word} for word in ("worse", "better")]
    assert list(stays(page, one, {**one, "a-gain": "0.0456"}, records[0], records[0])) == ["CM² is better, by #."]
    assert list(stays(page, one, other, *records)) == []
