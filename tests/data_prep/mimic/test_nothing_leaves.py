"""A fabricated copy is prepared, trained on, tabulated, published and rendered; nothing that comes out tells of a patient."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from cm2.cli import app
from cm2.cohorts.disclosure import DIGITS, FABRICATED, few
from cm2.cohorts.format import PRIVATE
from data_prep.mimic.raw import MIMIC3, find_table

STAYS = 600
"""As many as other tests of fabricated copies want, which share it; some groups of its test stays are too small to be shown."""
TIMES = re.compile(r"2[1-9]\d\d-\d\d-\d\d")
COUNTS = {"n", "positives", "stays", "dropped", "present", "unknown", "train", "valid", "test", "total"}
WORDS = 5
"""Words in a row that make a fragment of a note."""


@pytest.fixture(scope="module")
def work(tmp_path_factory, fabricated):
    """Everything that a user does; what the terminal showed is in ``terminal.txt``."""
    raw, folder = fabricated("mimic3", STAYS), tmp_path_factory.mktemp("work")
    terminal = io.StringIO()

    def cm2(*words: object, fails: bool = False) -> None:
        with redirect_stdout(terminal), redirect_stderr(terminal):
            ran = CliRunner().invoke(app, [str(word) for word in words])
        terminal.write(f"$ cm2 {words[0]}\n{ran.output}\n{ran.exception or ''}\n")
        assert (ran.exit_code != 0) == fails, ran.output

    cohort, store = folder / "cohort", folder / "store"
    fast = ["--profile", "smoke", "--set", "train.epochs=2", "--store", store]
    cm2("prepare", "mimic3", "--raw", raw, "--out", cohort)
    cm2("verify", cohort)
    cm2("train", "--cohort", cohort, "--profile", "smoke", "--method", "late_fusion", "--out", store)
    cm2("runs", "--store", store)
    cm2("evaluate", next(store.glob("*/metrics.json")).parent, "--cohort", cohort, "--split", "valid", "--absent", "note=0.5")
    tables = ["--cohort", cohort, "--publish", folder / "published"]
    for table in (1, 8):
        cm2("table", table, *tables, "--store", store)
    cm2("table", 3, *tables, *fast, "--seeds", 1, "--row", "Unified")
    cm2("table", 3, "--cohort", cohort, *fast, "--seeds", 1, "--row", "Unified", "--out", folder / "own")
    cm2("figure", 3, "--cohort", cohort, *fast, "--set", "method=cm2", "--out", folder / "figures")
    cm2("table", 3, "--cohort", cohort, *fast, "--set", "labels=0.001", fails=True)
    (folder / "terminal.txt").write_text(terminal.getvalue())
    return folder


@pytest.fixture(scope="module")
def page(work):
    """The published tables as the book renders them."""
    pytest.importorskip("myst_nb")
    from sphinx.cmd.build import build_main

    source = work / "page"
    source.mkdir()
    (source / "conf.py").write_text('extensions = ["myst_nb"]\nproject = "tables"\nnb_execution_mode = "off"\n')
    texts = [path.read_text() for path in sorted((work / "published").rglob("*.md"))]
    (source / "index.md").write_text("\n\n".join(texts))
    assert build_main(["-q", "-b", "html", "-d", str(work / "doctrees"), str(source), str(work / "html")]) == 0
    return (work / "html" / "index.html").read_text()


def shown(work: Path) -> Iterator[Path]:
    """Every file that is for other eyes; the cohort and the predictions and weights of runs are the user's own."""
    own = {"predictions.parquet", "model.safetensors", PRIVATE, "stays.parquet", "series.npy", "note.parquet"}
    for path in sorted(work.rglob("*")):
        if path.is_file() and path.name not in own and path.suffix not in (".ckpt", ".lock", ".doctree"):
            yield path


@pytest.fixture(scope="module")
def secrets(fabricated):
    """Identifiers, times and fragments of notes of the raw copy."""
    raw = fabricated("mimic3", STAYS)
    read = lambda name: pd.read_csv(find_table(raw, MIMIC3, name), encoding="utf-8-sig", encoding_errors="replace")
    tables = {name: read(name) for name in ("icustays", "admissions", "noteevents")}
    ids = {str(int(n)) for t in tables.values() for c in ("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID") if c in t for n in t[c].dropna()}
    times = set(tables["icustays"]["INTIME"].str[:10]) | set(tables["admissions"]["ADMITTIME"].str[:10])
    notes = [text.lower().split() for text in tables["noteevents"]["TEXT"].dropna()]
    return ids, times, {" ".join(words[i : i + WORDS]) for words in notes for i in range(len(words) - WORDS + 1)}


def test_no_byte_tells_of_a_patient(work, page, secrets):
    ids, times, fragments = secrets
    assert len(ids) > STAYS and len(times) > 100 and len(fragments) > 500
    for path in shown(work):
        if path.suffix in (".pdf", ".png"):  # compressed pictures, of which the SVG is read
            continue
        text = path.read_bytes().decode("utf-8", errors="ignore")
        if path.suffix in (".html", ".js", ".css", ".svg"):
            text = re.sub(r"<[^>]*>", " ", text) if "_static" not in path.parts else ""
        if path.name == "manifest.json":  # thousands of events, as guarded counts, are no identifiers
            text = re.sub(r'": \d+(?=,?\n)', '": ', text)
        assert not set(re.findall(r"(?<![\w.])\d{4,}(?![\w.])", text)) & ids, path
        assert not set(TIMES.findall(text)) & times and not re.search(r"\bp1\d/p1\d{7}|\bs5\d{7}", text), path
        words = text.lower().split()
        assert not {" ".join(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1)} & fragments, path


def test_no_path_is_published(work, page):
    for path in [*(work / "published").rglob("*"), *(work / "figures").rglob("*"), work / "html" / "index.html"]:
        if path.is_file():
            assert str(work).encode() not in path.read_bytes() and b"/home/" not in path.read_bytes(), path
    assert not list((work / "published").rglob("*.parquet")) and not list((work / "own").rglob("*.parquet"))


def test_no_small_count_is_shown_nor_follows(work, page):
    for path in [*(work / "published").rglob("*.json"), *(work / "own").glob("*.json"), *work.glob("store/*/metrics.json")]:
        counts = list(numbers(json.loads(path.read_text())))
        assert not [count for count in counts if few(count)], path
    manifest = json.loads((work / "cohort" / "manifest.json").read_text())
    assert not [count for name in ("splits", "tasks", "flow", "counts") for count in whole(manifest[name]) if few(count)]
    texts = [page, (work / "terminal.txt").read_text(), re.sub("<[^>]*>", "\n", (work / "cohort" / "flow.svg").read_text())]
    for text in [*texts, *(path.read_text() for path in (work / "published").rglob("*.md"))]:
        assert not re.search(r"(?<![\d,.])[1-9] (?:test |validation )?(?:stays|positive|dropped)", re.sub("<[^>]*>", "", text))
        assert not re.search(r"n [1-9],|, [1-9] positive|\N{MINUS SIGN}[1-9](?!\d)", text)


def test_no_two_published_counts_differ_by_few(work):
    cells = [c for path in (work / "published").rglob("table-3*.json") for c in json.loads(path.read_text())["cells"]]
    for name in ("n", "positives"):
        assert not any(few(abs(a - b)) for a, b in combinations({c[name] for c in cells if c.get(name)}, 2))
    counted = json.loads((work / "published" / "mimic3-fabricated" / "table-8.json").read_text())["cells"]
    tested = {c["value"] for c in counted if c["metric"] == "test" and "value" in c}
    assert not any(few(abs(c["n"] - count)) for c in cells if c.get("n") for count in tested)


def test_metrics_are_rounded_or_hidden(work):
    (path,) = (work / "published").rglob("table-3*.json")
    values = [value for cell in json.loads(path.read_text())["cells"] for value in floats(cell)]
    assert values and all(value == float(f"{value:.{DIGITS}g}") for value in values)
    assert "too few" in (work / "terminal.txt").read_text()


def test_fabricated_data_say_so_everywhere_and_stand_beside_no_row_of_the_paper(work, page):
    terminal = (work / "terminal.txt").read_text()
    for command in ("prepare", "train", "runs", "evaluate", "table", "verify"):
        for block in re.findall(rf"^\$ cm2 {command}\n(.*?)(?=^\$ cm2|\Z)", terminal, re.MULTILINE | re.DOTALL)[:1]:
            assert "abricated" in block, command
    assert json.loads((work / "cohort" / "manifest.json").read_text())["fabricated"] is True
    assert "Fabricated" in (work / "cohort" / "flow.svg").read_text()
    for path in (work / "store").glob("*/environment.json"):
        assert json.loads(path.read_text())["fabricated"] is True
    for path in [*(work / "published").rglob("*"), *(work / "own").glob("*"), *(work / "figures").glob("*.json")]:
        if path.suffix in (".md", ".json", ".csv"):
            assert "abricated" in path.read_text(), path
            assert "*paper" not in path.read_text() and '"printed"' not in path.read_text(), path
    assert "Fabricated" in (work / "figures" / "figure-3.svg").read_text() or "<text" not in (work / "figures" / "figure-3.svg").read_text()
    assert FABRICATED in re.sub("<[^>]*>", "", page) and "paper, MIMIC" not in page and "Stays here (in the paper" not in terminal


def numbers(tree, key=""):
    """Whole numbers under names of counts, and the values of tables of counts."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from numbers(value, name)
    elif isinstance(tree, list):
        for value in tree:
            yield from numbers(value, key)
    elif key in COUNTS and isinstance(tree, int):
        yield tree


def whole(tree):
    """All whole numbers."""
    if isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from whole(value)
    elif isinstance(tree, int) and not isinstance(tree, bool):
        yield tree


def floats(tree):
    """All numbers that are not whole."""
    if isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from floats(value)
    elif isinstance(tree, float):
        yield tree
