"""ARCHITECTURE.md and the pages beside it say what is so: the tree, the picture, the names; who draws random numbers, writes, fetches."""

from __future__ import annotations

import ast
import importlib.util
import re
import statistics
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from cm2.copulas import make
from cm2.environment.moved import MOVED
from tests.test_house_rules import FUNCTION, SOURCES, parse, text
from tests.test_layers import ROOMS
from tests.test_layers import SOURCES as MODULES
from tests.test_readme import OTHERS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *(ROOT / ".github").rglob("*.md"),
]
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PATH = re.compile(r"`((?:cm2|data_prep|tests|benchmarks|book|figures|results|\.ci|\.github)/[\w./-]*)`")


@pytest.fixture(scope="module")
def picture():
    """The script that draws the rooms."""
    spec = importlib.util.spec_from_file_location("picture", ROOT / ".ci" / "picture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def section(heading: str) -> str:
    return PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def table(heading: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    lines = [line for line in section(heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_tree_is_the_rooms_floor_by_floor(picture):
    tree = section("Rooms and floors").partition("```\n")[2].partition("```")[0]
    floors = [re.findall(r"^  (\w+)(?:/|\.py) +\S", block, re.MULTILINE) for block in tree.split("\n\n")]
    assert floors == picture.floors()
    assert [room for floor in floors for room in floor] == list(ROOMS)


def test_the_picture_is_drawn_from_the_code(picture):
    drawn = picture.PICTURE.read_text(encoding="utf-8")
    edges = re.findall(r'class="import" data-from="(\w+)" data-to="(\w+)"', drawn)
    again = "run .venv/bin/python .ci/picture.py"
    assert sorted(edges) == picture.needed(picture.imports()), again
    assert drawn == picture.draw(), again


def test_the_edges_left_out_follow_from_others(picture):
    assert picture.needed({"a": {"b", "c"}, "b": {"c"}, "c": set(), "d": {"a", "c"}}) == [("a", "b"), ("b", "c"), ("d", "a")]
    imports, drawn = picture.imports(), picture.needed(picture.imports())

    def reached(room: str) -> set[str]:
        below = {b for a, b in drawn if a == room}
        return below.union(*map(reached, below))

    assert {room: left for room, others in imports.items() if (left := others - reached(room))} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_and_links_lead_somewhere(page):
    words = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", words)
    lost = [path for path in [*PATH.findall(words), *links] if not (ROOT / path).exists() and path not in made_by_recipes(words)]
    assert lost == []


def made_by_recipes(words: str) -> set[str]:
    """Files that a page's code blocks begin with: the reader makes them."""
    return set(re.findall(r"^```\w+\n# (\S+)\n", words, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_address_of_a_repository_is_invented(page):
    addresses = re.findall(r"\b(?:github|gitlab|bitbucket)\.(?:com|org|io)[/:][\w.-]+(?:/[\w.-]+)?|git clone \S+", page.read_text("utf-8"))
    assert set(addresses) <= OTHERS


def test_the_changelog_names_every_module_that_moved():
    rows = re.findall(r"^\| `([\w.]+)` \| (.*) \|$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [(old, tuple(re.findall(r"`([\w.]+)`", new))) for old, new in rows] == sorted(MOVED.items())


@pytest.mark.parametrize("form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda form: form.stem)
def test_issue_forms_ask_for_no_patient_data(form):
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.stem == "config":
        assert content == {"blank_issues_enabled": False}, "no address is known that a link could lead to"
        return
    assert {"name", "description", "body"} <= set(content)
    promises = [option for part in content["body"] if part["type"] == "checkboxes" for option in part["attributes"]["options"]]
    assert any("no patient data" in option["label"] and option["required"] for option in promises)
    ids = [part["id"] for part in content["body"] if part["type"] != "markdown"]
    assert len(ids) == len(set(ids)) and (form.stem != "bug" or {"version", "command", "error"} <= set(ids))


def test_ten_questions_have_their_answers():
    rows = table("Ten questions")
    assert len(rows) == 10
    for question, where, names in rows:
        files = [ROOT / path for path in PATH.findall(where) if (ROOT / path).is_file()]
        found = "\n".join(file.read_text(encoding="utf-8") for file in files)
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"(?:(?:def|class) {name}\b)|^{name} =", found, re.MULTILINE), f"{question} {name}"


@pytest.mark.parametrize("heading", ["The way of a stay", "The chain of log densities"])
def test_names_of_classes_and_methods_are_those_of_the_code(heading):
    code = "\n".join(text(path) for path in SOURCES)
    names = {*re.findall(r"`(?:[A-Z]\w+\.)?(\w+)`", section(heading))} - {"z", "joint"}
    assert {name for name in names if not re.search(rf"(?:def|class) {name}\b|^    {name}: ", code, re.MULTILINE)} == set()


def test_the_chain_of_log_densities(monkeypatch):
    """Who calls whom, as the page says."""
    law, called = make("frank", 3, alpha=2.0)(), []
    for name in ("log_prob", "_log_prob", "_pointwise", "_log_density_at", "_log_margin_at", "log_prob_tails", "_log_density"):
        method = getattr(type(law), name)

        def noted(self, *arguments, name=name, method=method):
            called.append(name)
            return method(self, *arguments)

        monkeypatch.setattr(type(law), name, noted)
    u, present = torch.tensor([[0.2, 0.3, 0.7]]), torch.tensor([[True, True, False]])
    chains = []
    for ask in (lambda: law.log_prob(u), lambda: law.log_prob(u, present), lambda: law.log_prob_tails(u.log(), (-u).log1p(), present)):
        called.clear()
        ask()
        chains.append(list(called))
    checked = ["log_prob", "_log_prob"]
    assert chains[0][:4] == [*checked, "_pointwise", "_log_density_at"]
    assert chains[1:] == [[*checked, "_log_margin_at", "_log_density"], ["log_prob_tails", "_log_density"]]
    told = re.findall(r"^( *)(_?log_\w+)\(", section("The chain of log densities").partition("```\n")[2].partition("```")[0], re.MULTILINE)
    levels = [(len(indent) // 2, name) for indent, name in told]
    assert levels == [
        *((0, "log_prob"), (1, "_log_prob"), (2, "_log_density_at"), (3, "_log_margin_at"), (2, "_log_margin_at"), (3, "_log_density")),
        *((0, "log_prob_tails"), (1, "_log_density")),
    ]


def where(holds: Callable[[str], object]) -> set[str]:
    return {name for name in SOURCES if holds(text(name))}


def told(concern: str) -> set[str]:
    return set(PATH.findall(next(row[2] for row in table("Randomness, time, devices, files, network") if row[0] == concern)))


def imports(*modules: str) -> Callable[[str], object]:
    """Whether a source imports one of these."""
    return re.compile(rf"^\s*(?:import|from) (?:{'|'.join(map(re.escape, modules))})\b", re.MULTILINE).search


def test_random_numbers_come_from_seeds_that_are_handed_down():
    assert where(re.compile(r"(?<!Generator\(\)\.)\bmanual_seed\(").search) == told("randomness")
    assert where(imports("random", "secrets")) == set()
    used = {name for source in SOURCES for name in re.findall(r"np\.random\.(\w+)", text(source))}
    assert used <= {"Generator", "SeedSequence", "default_rng"}, "NumPy's global generator"
    assert where(re.compile(r"default_rng\(\)").search) == set(), "a generator without a seed"


def test_the_clock_the_devices_and_the_network_are_asked_in_few_places():
    assert where(imports("time", "datetime")) == told("time")
    assert where(re.compile(r"\btorch\.(?:cuda|accelerator|mps|xpu)\b").search) == told("devices")
    fetches = re.compile(r"\bfrom_pretrained\b|^\s*(?:import|from) (?:urllib\.request|requests|ftplib|huggingface_hub)\b", re.MULTILINE)
    assert where(fetches.search) == told("network")


def test_files_are_written_in_few_rooms():
    writes = re.compile(r"\.(?:write_text|to_csv|to_parquet|savefig|mkdir|unlink)\(|\b(?:save_file|save_model|open_memmap|np\.save)\(")
    rooms = {Path(name).parts[1] if name.startswith("cm2") else "data_prep" for name in where(writes.search)}
    line = next(line for line in PAGE.splitlines() if line.startswith("Files are written by"))
    assert rooms == set(re.findall(r"`([\w.]+)`", line))


def test_files_are_replaced_and_locked_in_one_place():
    replaces = re.compile(
        r"\bos\.(?:replace|rename|fsync)\(|\.rename\(self\.|\bFileLock\(|\b(?:NamedTemporaryFile|mkstemp)\(|part\.replace\("
    )
    assert where(replaces.search) == {"cm2/durable.py", "cm2/progress/display.py"}, "the latter's files need not last"


def test_nothing_that_is_read_can_run_code():
    assert where(imports("pickle", "shelve", "marshal", "dill")) == set()
    assert where(re.compile(r"allow_pickle=True|weights_only=False|\bjoblib\.load\b").search) == set()
    assert where(re.compile(r"\btorch\.load\((?![^\n]*weights_only=True)").search) == set()


def test_files_and_functions_have_the_usual_size():
    lengths = [len(text(name).splitlines()) for name in SOURCES if not name.endswith("__init__.py")]
    functions = [n.end_lineno - n.lineno + 1 for name in SOURCES for n in ast.walk(parse(name)) if isinstance(n, FUNCTION)]
    assert 100 <= statistics.median(lengths) <= 220
    assert np.percentile(functions, 90) <= 20


PATTERNS = {"cm2.after", "cm2.figures.figure_N", "cm2.encoders", "cm2.fusions"}
"""Dotted words in the code that name no object: a key of metadata, a pattern, groups of entry points."""


def exists(name):
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        if ".".join(parts[:k]) in MODULES:
            found = import_module(".".join(parts[:k]))
            for attribute in parts[k:]:
                found = getattr(found, attribute, None)
            return found is not None
    return False


def test_names_that_docstrings_and_messages_send_to_exist():
    named = {name for path in MODULES.values() for name in re.findall(r"\bcm2(?:\.[A-Za-z_]\w*)+", path.read_text(encoding="utf-8"))}
    assert {name for name in named if not exists(name)} - PATTERNS - set(MOVED) == set()
