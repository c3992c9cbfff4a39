"""Results in which every difference has the opposite sign, in a checkout whose other files are those of this one."""

import json
import re
import shutil
from pathlib import Path

import numpy as np

COPIED = ("pyproject.toml", "_toc.yml", "_config.yml")
LINKED = ("README.md", "cm2", "data_prep", "figures", "plans", "tests")
ENDS = (("low", "high"), ("stays_low", "stays_high"), ("seeds_low", "seeds_high"))
SIDED = re.compile(r"above in (\d+) of \d+ comparisons, below in (\d+)")


def checkout(repository: Path, folder: Path) -> Path:
    """A checkout with the chapters of this one, and with results reversed."""
    folder.mkdir()
    for name in COPIED:
        shutil.copy(repository / name, folder / name)
    for name in LINKED:
        (folder / name).symlink_to(repository / name)
    shutil.copytree(repository / "book", folder / "book")
    shutil.copytree(repository / "results", folder / "results")
    for path in folder.glob("results/*/*.json"):
        tree = json.loads(path.read_text())
        if isinstance(tree, dict) and tree.get("kind") in ("results", "tests"):
            path.write_text(json.dumps(reverse(tree)))
    return folder


def reverse(tree: dict) -> dict:
    """A table of results whose rows lie on the other side of their reference, by as much."""
    place = ("section", "task", "metric")
    references = {tuple(cell[name] for name in place): cell for cell in tree["cells"] if cell["row"] == tree["reference"]}
    masked = tree["provenance"].get("masked", ())
    return tree | {"cells": [_reversed(c, references.get(tuple(c[name] for name in place)), c["section"] in masked) for c in tree["cells"]]}


def _reversed(cell: dict, base: dict | None, masked: bool) -> dict:
    if base is None or cell is base or cell.get("value") is None or base.get("value") is None:
        return cell
    about = base["value"]
    seeds = cell.get("seeds", [])
    # where a seed masks alike for all rows, seeds are compared in pairs
    about_each = base["seeds"] if masked and len(base.get("seeds", [])) == len(seeds) else [about] * len(seeds)
    out = cell | {
        "value": _mirrored(cell["value"], about),
        "low": _mirrored(cell["high"], about) if cell.get("high") is not None else None,
        "high": _mirrored(cell["low"], about) if cell.get("low") is not None else None,
        "seeds": [_mirrored(seed, other) for seed, other in zip(seeds, about_each, strict=True)],
        "stays": [[_mirrored(high, about), _mirrored(low, about)] for low, high in cell.get("stays", [])],
    }
    return out | ({"difference": _negated(cell["difference"])} if cell.get("difference") else {})


def _mirrored(value: float, about: float) -> float:
    return float(np.clip(2 * about - value, 0, 1))


def _negated(difference: dict[str, float]) -> dict[str, float]:
    out = difference | {"estimate": -difference["estimate"]}
    return out | {a: -difference[b] for low, high in ENDS if low in difference for a, b in ((low, high), (high, low))}


def one_sided(notebook: Path) -> set[str]:
    """What an executed chapter says of sides: sentences that count more on one, and rows of a table that stand on one."""
    found = set()
    for cell in json.loads(notebook.read_text())["cells"]:
        for output in cell.get("outputs", []):
            text = "\n".join("".join(value) for kind, value in output.get("data", {}).items() if kind.endswith(("plain", "markdown")))
            for sentence in re.split(r"(?<=[.;:])\s+|\n", text):
                counts = SIDED.search(sentence)
                cells = [part.strip() for part in sentence.split("|")]
                if (counts and counts[1] != counts[2]) or len({"above", "below"} & set(cells)) == 1:
                    found.add(sentence.strip())
    return found
