"""Fabricated copies are prepared, trained on, tabulated, published, saved and rendered; nothing that comes out tells of a patient."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from cm2 import RunStore, load_cohort
from cm2.cli import app
from cm2.cohorts.disclosure import DIGITS, FABRICATED, few
from cm2.cohorts.format import PRIVATE
from cm2.methods import tokenised
from tests.data_prep.leaks import Secrets, unpacked
from tests.fresh_process import predicted_elsewhere

COUNTS = {"n", "positives", "stays", "dropped", "present", "unknown", "train", "valid", "test", "total"}
BYTES = ["--set", "encoder.text.tokenizer=bytes"]
"""Of whose vocabulary a saved model may tell."""


@dataclass(frozen=True)
class Source:
    """A fabricated copy, and what is done with it.

    Args:
        stays: of the copy; as many as other tests want, which share it. Some groups of its test stays are too small to be shown.
        prepare: further words of ``cm2 prepare``.
        method: that is trained, evaluated and saved.
        absent: share of a modality that is masked in the evaluation.
        table: number of a table that trains; empty if the cohort lacks what tables need.
        figure: whether a figure is drawn.
    """

    stays: int
    prepare: list[str] = field(default_factory=list)
    method: str = "late_fusion"
    absent: str = ""
    table: str = ""
    figure: bool = False


SOURCES = {
    "mimic3": Source(600, absent="note=0.5", table="3", figure=True),
    "mimic4": Source(200, ["--image-size", "32"], absent="report=0.5", table="3"),
    "eicu": Source(500, method="single_modality"),
}


@pytest.fixture(scope="module", params=SOURCES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def source(name):
    return SOURCES[name]


@pytest.fixture(scope="module")
def raw(name, source, fabricated):
    return fabricated(name, source.stays)


@pytest.fixture(scope="module")
def work(name, source, raw, tmp_path_factory):
    """Everything that a user does; what the terminal showed is in ``terminal.txt``."""
    folder, terminal = tmp_path_factory.mktemp("work"), io.StringIO()

    def cm2(*words: object, fails: bool = False) -> None:
        with redirect_stdout(terminal), redirect_stderr(terminal):
            ran = CliRunner().invoke(app, [str(word) for word in words])
        terminal.write(f"$ cm2 {words[0]}\n{ran.output}\n{ran.exception or ''}\n")
        assert (ran.exit_code != 0) == fails, ran.output

    cohort, store = folder / "cohort", folder / "store"
    fast = ["--profile", "smoke", "--set", "train.epochs=2", "--store", store]
    cm2("prepare", name, "--raw", raw, "--out", cohort, *source.prepare)
    cm2("verify", cohort)
    cm2("train", "--cohort", cohort, "--profile", "smoke", "--method", source.method, *BYTES, "--out", store)
    cm2("runs", "--store", store)
    run = next(store.glob("*/metrics.json")).parent
    cm2("evaluate", run, "--cohort", cohort, "--split", "valid", *(["--absent", source.absent] if source.absent else []))
    cm2("export", run, "--out", folder / "model")
    for table in (1, 8) if source.table else ():
        cm2("table", table, "--cohort", cohort, "--publish", folder / "published", "--store", store)
    if source.table:
        row = ["--cohort", cohort, *fast, "--seeds", 1, "--row", "Unified"]
        cm2("table", source.table, *row, "--publish", folder / "published")
        cm2("table", source.table, *row, "--out", folder / "own")
    if source.figure:
        cm2("figure", 3, "--cohort", cohort, *fast, "--set", "method=cm2", "--out", folder / "figures")
    cm2("train", "--cohort", cohort, "--profile", "smoke", "--set", "labels=0.001", "--out", store, fails=True)
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
    texts = [path.read_text() for path in sorted([*(work / "published").rglob("*.md"), work / "model" / "README.md"])]
    (source / "index.md").write_text("\n\n".join(texts))
    assert build_main(["-q", "-b", "html", "-d", str(work / "doctrees"), str(source), str(work / "html")]) == 0
    return (work / "html" / "index.html").read_text()


def shown(work: Path) -> Iterator[Path]:
    """Every file that is for other eyes; the cohort and the predictions and weights of runs are the user's own."""
    own = {"predictions.parquet", PRIVATE, "stays.parquet"}
    for path in sorted(work.rglob("*")):
        inside = path.relative_to(work).parts[0]
        private = path.name in own or (inside == "cohort" and path.suffix in (".npy", ".parquet")) or path.suffix in (".ckpt", ".lock")
        if path.is_file() and not private and inside != "doctrees" and "_static" not in path.parts:
            yield path


@pytest.fixture(scope="module")
def secrets(raw):
    return Secrets.of(raw)


def test_no_byte_tells_of_a_patient(name, source, work, page, secrets):
    assert len(secrets.numbers) > source.stays and (name == "eicu" or len(secrets.dates) > 100)
    assert bool(secrets.fragments) == (name != "eicu") and bool(secrets.names) == (name != "mimic3")
    seen = set()
    for path in shown(work):
        seen.add(path.suffix)
        for content in unpacked(path.read_bytes()):
            if path.suffix in (".html", ".svg"):  # coordinates are no identifiers
                content = re.sub(rb"<[^>]*>", b" ", content)
            if path.name == "manifest.json":  # nor are thousands of events, as guarded counts
                content = re.sub(rb'": \d+(?=,?\n)', b'": ', content)
            if path.suffix == ".safetensors":  # nor the places of tensors, whose bytes stay where they are
                content = re.sub(rb'"data_offsets":\[[\d,]+\]', lambda found: b" " * len(found[0]), content)
            if path.suffix == ".pdf":  # nor lengths and places of its parts
                content = re.sub(rb"/\w+ \d+|startxref\s+\d+|^\d{10} \d{5} [nf]", b"", content, flags=re.MULTILINE)
            assert not secrets.told(content), path
    assert {".safetensors", ".json", ".md", ".html"} <= seen and (not source.figure or {".png", ".pdf", ".svg"} <= seen)


def test_a_scan_finds_what_it_looks_for(secrets, tmp_path):
    """An identifier as text and as a number in every sort of file, and words of a text."""
    number = max(secrets.numbers)
    np.savez_compressed(tmp_path / "a.npz", ids=np.array([[1, number]]))
    pd.DataFrame({"id": [number]}).to_parquet(tmp_path / "a.parquet")
    about = PngInfo()
    about.add_text("Comment", f"stay {number}", zip=True)
    about.add_itxt("Title", f"stay {number}", zip=True)
    Image.new("L", (8, 8)).save(tmp_path / "a.png", pnginfo=about)
    from matplotlib.figure import Figure

    figure = Figure()
    figure.text(0.1, 0.5, f"stay {number}")
    figure.savefig(tmp_path / "a.pdf")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.parquet", "inner.parquet")
    for path in tmp_path.iterdir():
        assert any(number in secrets.told(content) for content in unpacked(path.read_bytes())), path.name
    assert secrets.told(b"8 bytes." + np.float64(number).tobytes()) == {np.float64(number).view("i8")}
    for secret in [*sorted(secrets.fragments)[:1], *sorted(secrets.names)[:1], *sorted(secrets.dates)[:1]]:
        assert secret in secrets.told(f"a {secret}\nb".encode())


def test_a_saved_model_predicts_the_same_without_the_cohort(source, work, tmp_path):
    """In a fresh process, from values in their own units."""
    cohort, (run, *_) = load_cohort(work / "cohort"), [run for run in RunStore(work / "store").runs() if run.config.method == source.method]
    cohort = tokenised(cohort, run.config)
    stays = cohort.split("test", run.config.task)
    values = {}
    for m, present in zip(stays.modalities, stays.present[:20].numpy().T, strict=True):
        entry, scale = cohort.manifest["modalities"][m.name], cohort.manifest["normalisation"].get(m.name)
        if entry["kind"] == "text":
            values[m.name] = [cohort.texts(m.name)[row] for row in stays.rows[:20]]
            continue
        array = np.array(cohort.array(m.name)[stays.rows[:20]], dtype=float)
        if scale:
            columns = [entry["features"].index(feature) for feature in scale["features"]]
            array[..., columns] = array[..., columns] * scale["std"] + scale["mean"]
        array[~present] = np.nan
        values[m.name] = array.tolist()
    torch.manual_seed(0)
    with torch.no_grad():
        expected = run.load_method(cohort).predict(stays.batch(range(20)))
    torch.testing.assert_close(predicted_elsewhere(work / "model", values, tmp_path), expected, rtol=1e-4, atol=1e-4)


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


def test_no_two_published_counts_differ_by_few(name, source, work):
    if not source.table:
        pytest.skip("no table of one modality")
    cells = [c for path in (work / "published").rglob("table-3*.json") for c in json.loads(path.read_text())["cells"]]
    for key in ("n", "positives"):
        assert not any(few(abs(a - b)) for a, b in combinations({c[key] for c in cells if c.get(key)}, 2))
    counted = json.loads((work / "published" / f"{name}-fabricated" / "table-8.json").read_text())["cells"]
    tested = {c["value"] for c in counted if c["metric"] == "test" and "value" in c}
    assert not any(few(abs(c["n"] - count)) for c in cells if c.get("n") for count in tested)


def test_metrics_are_rounded_or_hidden(name, work):
    paths = [*(work / "published").rglob("table-3*.json"), *work.glob("store/*/metrics.json")]
    values = [value for path in paths for value in floats(json.loads(path.read_text()))]
    assert all(value == float(f"{value:.{DIGITS}g}") for value in values) and (values or name != "mimic3")
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
    for path in (work / "figures").glob("*.svg"):
        assert "Fabricated" in path.read_text() or "<text" not in path.read_text()
    assert "fabricated" in (work / "model" / "README.md").read_text().lower()
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
