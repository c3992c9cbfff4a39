"""Results in which every difference has the opposite sign, in a checkout whose other files are those of this one.

A metric of predictions is one minus what it was: the values, intervals and seeds of every table, and whatever a chapter computes from the
kept predictions, where `mirror_metrics` runs first. So rows trade sides within a section and across sections and tables, by as much.
In tables of alignment and imputation, scores that a sentence compares change places, and methods with the same scores do, from the best to
the worst; runs and scores of single stays move with them. All tables are still those that their predictions and scores give, one of them
up to rounding (see `EXCHANGED`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cm2.book.cache import Execution
from cm2.tables.kinds.imputation import GAINS
from cm2.tables.predictions import known_runs, read_predictions, write_predictions
from cm2.tables.scores import name_of, read_scores, write_scores
from cm2.uncertainty import INFLUENCE

COPIED = ("pyproject.toml", "_toc.yml", "_config.yml")
LINKED = ("README.md", "cm2", "data_prep", "figures", "plans", "tests")
ENDS = (("low", "high"), ("stays_low", "stays_high"), ("seeds_low", "seeds_high"))
FIRST = """import sys as _sys

_sys.path.insert(0, {repository!r})
from tests.book.reversed_results import mirror_metrics as _mirror_metrics

_mirror_metrics()
"""
"""What mirrors the metrics. A kernel does not find the tests by itself: they are not installed."""
EXCHANGED = {"missing-at-test": ("conditional draws", "zero")}
"""Two rows, by table, that exchange their predictions before all is mirrored: their calibration, told by a chapter, has no mirror."""
SAME = 1e-3
"""Relative difference of log-odds in float16 that is rounding: stays that lack nothing are predicted alike by both rows."""
RIVALS = {"alignment": {"dependence": "cosine"}, "imputation": {"conditional": "marginal", "conditional mean": "mean"}}
"""Scores that are compared with each other, by kind of table."""
ORDERED = {"alignment": "recall_10", "imputation": "error"}
"""The metric by which methods change places."""
Tree = dict[str, Any]
Records = Mapping[tuple[str, str], Any]
"""What chapters leave for others, by chapter and name."""
Influence = Callable[[NDArray, NDArray], tuple[float, NDArray]]


def checkout(repository: Path, folder: Path) -> Path:
    """A checkout with the chapters of this one, and with results reversed."""
    folder.mkdir()
    for name in COPIED:
        shutil.copy(repository / name, folder / name)
    for name in LINKED:
        (folder / name).symlink_to(repository / name)
    for name in ("book", "results"):
        shutil.copytree(repository / name, folder / name)
    for path in folder.glob("results/*/*.json"):
        tree = json.loads(path.read_text())
        if isinstance(tree, dict) and "cells" in tree:
            path.write_text(json.dumps(reverse(tree, path.parent)))
    for path in folder.glob("book/*.ipynb"):
        _begin_mirrored(path, repository)
    return folder


def mirror_metrics() -> None:
    """From now on every metric of binary predictions is one minus what it was."""
    INFLUENCE.update({name: mirrored(influence) for name, influence in INFLUENCE.items()})


def mirrored(influence: Influence) -> Influence:
    """The value and derivatives of one minus a metric."""

    def of(y: NDArray, p: NDArray) -> tuple[float, NDArray]:
        value, derivatives = influence(y, p)
        return 1 - value, -derivatives

    return of


def _begin_mirrored(notebook: Path, repository: Path) -> None:
    """A notebook whose first cell of code after the parameters mirrors the metrics, before anything is computed."""
    tree = json.loads(notebook.read_text())
    cell = next(c for c in tree["cells"] if c["cell_type"] == "code" and "parameters" not in c["metadata"].get("tags", ()))
    cell["source"] = FIRST.format(repository=str(repository)) + "".join(cell["source"])
    notebook.write_text(json.dumps(tree))


def reverse(tree: Tree, folder: Path) -> Tree:
    """A table whose rows lie on the other side of each other; the scores beside it are rewritten to match.

    Args:
        tree: what its JSON file holds.
        folder: where its scores are.
    """
    cells = tree["cells"]
    if tree["name"] in EXCHANGED:
        cells = _exchanged(tree, folder)
    if tree["kind"] in ORDERED:
        places, rivals = _places(tree), _rivals(tree)
        cells = [_moved(cell, places, rivals) for cell in cells]
        path = folder / tree["provenance"]["scores"]
        scores = read_scores(path)
        write_scores(path, {name: scores[_source(name, rivals)] for name in scores})
    return tree | {"cells": _in_order([_mirrored(cell) for cell in cells], tree["cells"])}


def _exchanged(tree: Tree, folder: Path) -> list[Tree]:
    """The cells of a table in which two rows have exchanged their predictions, and so their numbers; the runs stay with the rows."""
    one, other = EXCHANGED[tree["name"]]
    runs = {(cell["section"], cell["task"], cell["row"]): cell["runs"] for cell in tree["cells"]}
    partners = {place: (*place[:2], {one: other, other: one}[place[2]]) for place in runs if place[2] in (one, other)}
    pairs = [pair for place, rival in partners.items() for pair in zip(runs[place], runs[rival], strict=True)]
    _exchange(folder / tree["provenance"]["predictions"], pairs)
    moved = {place: {"row": rival[2], "runs": runs[rival]} for place, rival in partners.items()}
    return [cell | moved.get((cell["section"], cell["task"], cell["row"]), {}) for cell in tree["cells"]]


def _exchange(path: Path, pairs: list[tuple[str, str]]) -> None:
    """Writes the predictions of the second run of each pair for those of the first, but for the stays that both predict alike."""
    found = read_predictions(path, {run for pair in pairs for run in pair})
    new = {}
    for one, other in pairs:
        own, rival = (found[run].compact for run in (one, other))
        alike = np.isclose(own.astype(float), rival.astype(float), rtol=SAME, atol=0)
        new[one] = replace(found[one], compact=np.where(alike, own, rival))
    write_predictions(path, new, known_runs(path))


def _in_order(cells: list[Tree], before: list[Tree]) -> list[Tree]:
    """Cells with sections and rows in the order that they had before."""
    order = {place: number for number, place in enumerate(dict.fromkeys((c["section"], c["row"], c["task"], c["metric"]) for c in before))}
    return sorted(cells, key=lambda c: order[c["section"], c["row"], c["task"], c["metric"]])


def _mirrored(cell: Tree) -> Tree:
    """A cell with one minus its metric, if that is one of predictions, and with differences of the opposite sign."""
    if cell.get("value") is None or cell["metric"] not in INFLUENCE:
        return cell
    low, high = cell.get("low"), cell.get("high")
    out = cell | {"value": 1 - cell["value"], "seeds": [1 - seed for seed in cell.get("seeds", ())]}
    out |= {} if low is None or high is None else {"low": 1 - high, "high": 1 - low}
    out |= {"stays": [[1 - above, 1 - below] for below, above in cell["stays"]]} if "stays" in cell else {}
    return out | ({"difference": _negated(cell["difference"])} if cell.get("difference") else {})


def _negated(difference: Mapping[str, float]) -> dict[str, float]:
    out = {**difference, "estimate": -difference["estimate"]}
    return out | {a: -difference[b] for low, high in ENDS if low in difference for a, b in ((low, high), (high, low))}


def _method(cell: Tree) -> str:
    score = cell.get("score", "")
    return cell["row"].removesuffix(f", {score}") if score else cell["row"]


def _places(tree: Tree) -> dict[str, str]:
    """The method whose place each takes in a table of embeddings, so that the score which takes the place of the first orders them anew.

    Of methods with the same scores, the one that was first by the first score gets what is last by its rival, and so on.
    """
    values: dict[str, dict[str, list[float]]] = {}
    for cell in tree["cells"]:
        if cell.get("runs") and cell["metric"] == ORDERED[tree["kind"]]:
            values.setdefault(_method(cell), {}).setdefault(cell.get("score", ""), []).append(cell["value"])
    alike: dict[tuple[str, ...], list[str]] = {}
    for method, of in values.items():
        alike.setdefault(tuple(sorted(of)), []).append(method)
    out = {}
    for scores, methods in alike.items():
        first, rival = next((pair for pair in RIVALS[tree["kind"]].items() if {*pair} <= {*scores}), (scores[0], scores[0]))
        by = [sorted(methods, key=lambda method, s=score: float(np.mean(values[method][s]))) for score in (rival, first)]
        out |= dict(zip(by[0], reversed(by[1]), strict=True))
    return out


def _rivals(tree: Tree) -> dict[str, dict[str, str]]:
    """The score that takes the place of each, by run, where a method has both."""
    both = {one: other for pair in RIVALS[tree["kind"]].items() for one, other in (pair, pair[::-1])}
    held: dict[str, set[str]] = {}
    for cell in tree["cells"]:
        for run in cell.get("runs", ()):
            held.setdefault(run, set()).add(cell.get("score", ""))
    return {run: {one: other for one, other in both.items() if {one, other} <= scores} for run, scores in held.items()}


def _moved(cell: Tree, places: Mapping[str, str], rivals: Mapping[str, Mapping[str, str]]) -> Tree:
    """A cell of a table of embeddings in the place of another; what only one score has stays with it, a gain becomes a loss.

    The metric of predictions among them stays: it is mirrored.
    """
    if not cell.get("runs") or cell["metric"] in INFLUENCE:
        return cell
    score, sole = cell.get("score", ""), cell.get("low") is None or cell["metric"] in (*GAINS, "unit")
    score = score if sole else rivals[cell["runs"][0]].get(score, score)
    out = cell | {"row": f"{places[_method(cell)]}, {score}", "score": score}
    if cell["metric"] in GAINS:
        out |= {"value": -cell["value"], "low": -cell["high"], "high": -cell["low"], "seeds": [-seed for seed in cell["seeds"]]}
        out |= {"stays": [[-above, -below] for below, above in cell["stays"]]}
    return out


def _source(name: str, rivals: Mapping[str, Mapping[str, str]]) -> str:
    """The scores of single stays that take the place of others."""
    run, section, score, part = name.split(" | ")
    others = rivals.get(run, {})
    if (of := part.removeprefix("marginal ")) != part:  # the marginal forecast's, with which the conditional one is compared
        return name_of(run, section, "conditional", of)
    return name if part in ("label", "logit", "unit") or score not in others else name_of(run, section, others[score], part)


def text_of(path: Path) -> str:
    """What is written on a page."""
    if path.suffix == ".md":
        return path.read_text()
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "markdown")


def glued(notebook: Path) -> dict[str, str]:
    """Numbers and words that an executed chapter hands to its text."""
    found = {}
    for cell in json.loads(notebook.read_text())["cells"]:
        for output in cell.get("outputs", ()):
            if name := output.get("metadata", {}).get("scrapbook", {}).get("name"):
                found[name] = "".join(output["data"]["application/papermill.record/text/plain"])
    return found


def recorded(executions: Mapping[str, Execution]) -> Records:
    """What executed chapters leave for others, by chapter and name."""
    paths = [path for execution in executions.values() for path in execution.results.glob("*.json")]
    return {(path.stem, name): entry["value"] for path in paths for name, entry in json.loads(path.read_text()).items()}
