"""Sentences follow the numbers: with every difference reversed no statement about a side stays as it was."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cm2.book.cache import Execution
from cm2.book.runner import execute
from cm2.tables import read
from cm2.tables.recomputation import recompute
from cm2.uncertainty import INFLUENCE
from tests.book import minibook, reversed_results

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
SOURCES = {"kept_table", "kept_predictions", "kept", "other_cohorts"}
"""Functions through which a chapter gets kept results."""
SIDES = re.compile(
    r"\b(above|below|better|worse|ahead|behind|beats?|beaten|won|lost|loses?|leads?|first|best|worst|(larg|small|high|low)est|nearer|farther"
    r"|higher|lower|larger|smaller|more|less|fewer|rises?|falls?|gains?|reached|missed|cheaper|dearer|exceeds?|helps?|harms?)\b|[+−-]\d",
    re.IGNORECASE,
)
NUMBER = re.compile(r"(?<![\d.+−-])\d*\.\d+(e[+-]?\d+)?|[+−-]0?\.0+\b")
"""A decimal without a sign, or none at all: sizes may stay or change, sides may not. Counts and signed numbers are part of a statement."""
GLUED, RECORDED = re.compile(r"\{glue:text\}`([^`:]+)(?::([^`]*))?`"), re.compile(r"\{res\}`(\w+):([^`|]+)(?:\|([^`]*))?`")
PAPERS = re.compile(r"\bpaper|\bprint", re.IGNORECASE)
"""Of a sentence about printed numbers, which are not reversed."""


def sentences(text: str) -> Iterator[str]:
    """Statements of a text, without sizes."""
    for sentence in re.split(r"(?<=[.;:])\s+|\n", text):
        if SIDES.search(sentence := NUMBER.sub("#", sentence.strip(" |*"))) and not PAPERS.search(sentence):
            yield sentence


def of_results(sources: list[str]) -> list[bool]:
    """Whether each cell of a chapter computes with kept results: with a name that a statement made from them."""
    made, imported, found = set(SOURCES), set(), []
    for source in sources:
        found.append(False)
        for statement in ast.parse(source).body:
            nodes = list(ast.walk(statement))
            names = [node for node in nodes if isinstance(node, ast.Name)]
            new = {name.id for name in names if isinstance(name.ctx, ast.Store)}
            if isinstance(statement, ast.FunctionDef):
                new = {statement.name}
            imported |= {(alias.asname or alias.name).split(".")[0] for node in nodes if isinstance(node, ast.alias) for alias in [node]}
            if made & {name.id for name in names if isinstance(name.ctx, ast.Load)}:
                # `text.append(...)` and `text[...] = ...` change what the name stands for
                changed = {node.value.id for node in nodes if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.value, ast.Name)}
                made |= new | (changed - imported if isinstance(statement, ast.Expr | ast.Assign | ast.For) else set())
                found[-1] = True
            else:
                made -= new - SOURCES
    return found


def shown(outputs: list[dict[str, Any]]) -> str:
    """What the outputs of a cell say, and what they hand to the text."""
    parts = [output.get("text", "") for output in outputs]
    parts += [value for output in outputs for kind, value in output.get("data", {}).items() if kind.endswith(("plain", "markdown"))]
    return "\n".join("".join(part) for part in parts)


def computed(notebook: Path) -> set[str]:
    """Statements about sides in the outputs of the cells that compute with kept results."""
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    about = of_results(["".join(cell["source"]) for cell in cells])
    return {said for cell, of in zip(cells, about, strict=True) if of for said in sentences(shown(cell["outputs"]))}


def glued(notebook: Path) -> dict[str, str]:
    """Numbers and words that an executed chapter hands to its text."""
    found = {}
    for cell in json.loads(notebook.read_text())["cells"]:
        for output in cell.get("outputs", ()):
            if name := output.get("metadata", {}).get("scrapbook", {}).get("name"):
                found[name] = "".join(output["data"]["application/papermill.record/text/plain"])
    return found


def recorded(executions: Mapping[str, Execution]) -> dict[tuple[str, str], Any]:
    """What executed chapters leave for others, by chapter and name."""
    paths = [path for execution in executions.values() for path in execution.results.glob("*.json")]
    return {(path.stem, name): entry["value"] for path in paths for name, entry in json.loads(path.read_text()).items()}


def written(page: Path, values: Mapping[str, str], records: Mapping[tuple[str, str], Any]) -> list[list[str]]:
    """Sentences of a page with what stands in them, each with the numbers and words that it takes from results."""


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Executions of the chapters, with the results as they are and reversed."""
    mirror = reversed_results.checkout(minibook.REPOSITORY, tmp_path_factory.mktemp("reversed") / "checkout")
    found = []
    for root in (minibook.REPOSITORY, mirror):
        done, failures = execute(CHAPTERS, None, "smoke", 1, root, lambda line: None)
        assert not failures, failures
        found.append(done)
    return found
