"""A table with its numbers: cells, provenance, and the files they are stored in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from cm2.cohorts.format import fabricated
from cm2.config.files import read_json
from cm2.config.schema import check, plain_name
from cm2.durable import write_text
from cm2.errors import InputError, spelled
from cm2.escape import csv
from cm2.tables.older import upgraded
from cm2.tasks import Task, task_of
from cm2.uncertainty import Measured, over_seeds

FORMAT, SUMMED = 2, 1
"""Format that is written, and the older one that can be read; see `cm2.tables.older`."""
ENDINGS = ("csv", "json", "md")


class Place(NamedTuple):
    """Where a number of a table is."""

    section: str
    row: str
    task: str
    metric: str


RowPlace = tuple[str, str, str]
"""Section, row and task."""


def _label(text: Any) -> None:
    """A name that is shown, or none."""
    if text != "":
        plain_name(text)


_NUMBER, _PAIRS = (float, None), [[float]]
SCHEMA = {
    "name": plain_name,
    "title": _label,
    "kind": str,
    "reference": _label,
    "key?": str,
    "provenance?": {
        "cohort?": plain_name,
        "cohort_checksum?": str,
        "credentialed?": bool,
        "fabricated?": bool,
        "seeds?": int,
        "profile?": str,
        "date?": str,
        "masked?": [str],
        "margins?": {"*": float},
        "tasks?": {"*": {"name": plain_name, "type": str, "description": str}},
        **dict.fromkeys(("predictions?", "scores?", "split?"), str),
        **{name: {"*": str} for name in ("earlier?", "configurations?", "versions?", "cannot?")},
        "far_laws?": {"*": float},
        "unmeasured_laws?": [str],
        "margin?": _NUMBER,
    },
    "cells": [
        {
            **dict.fromkeys(("section", "row", "task"), _label),
            "metric": plain_name,
            **dict.fromkeys(("value?", "low?", "high?", "se_stays?"), _NUMBER),
            **dict.fromkeys(("n?", "positives?", "smallest?"), (int, None)),
            "seeds?": [float],
            **dict.fromkeys(("stays?", "bootstrap?"), _PAIRS),
            "deterministic?": bool,
            "difference?": ({"estimate": float, "low": float, "high": float, "p": float, "*": float}, None),
            "printed?": ({"cohort": str}, None),
            "runs?": [str],
            "score?": _label,
        }
    ],
}
"""What a table's JSON file holds; see `cm2.config.schema`."""
_SCORES = ("density", "dependence", "cosine", "conditional", "marginal", "mean", "zero")
"""How labels of rows of alignment and imputation end in results stored before a score had a field of its own."""


@dataclass(frozen=True)
class Cell:
    """One number of a table with its details; fields that do not apply are None or empty."""

    section: str
    row: str
    """Label of the row; in a table with several scores for one method it ends with the score."""
    task: str
    """Heading of the task; empty where counts are not by task."""
    metric: str
    """Name of the metric or count, for example ``auroc`` or ``total``."""
    value: float | None = None
    """Mean over the seeds, or the count; None where there are too few stays, or a count is too small to be shown."""
    low: float | None = None
    """95 % interval, from both the stays and the seeds; of one seed from the stays alone. See `cm2.uncertainty`."""
    high: float | None = None
    seeds: tuple[float, ...] = ()
    """The value of each seed; a single one where no seed changes anything."""
    stays: tuple[tuple[float, float], ...] = ()
    """95 % interval of each seed over the stays."""
    se_stays: float | None = None
    """The part of the stays in the standard error; that of the seeds follows from their values."""
    deterministic: bool = False
    """Whether all of several seeds gave the same predictions."""
    n: int | None = None
    """Test stays, or validation stays in a table computed from these."""
    positives: int | None = None
    """Positives among these stays."""
    smallest: int | None = None
    """Size of the smallest group of these stays on which the value depends, such as those of a class; None of a binary outcome."""
    difference: Mapping[str, float] | None = None
    """Difference to the reference row, as `cm2.tables.comparison.described` has it; ``p_holm`` and ``p_equivalent_holm`` are corrected
    for the table, ``p_replicates`` is that of the paper's test."""
    printed: Mapping[str, Any] | None = None
    """The paper's number: ``cohort``, ``value``, ``low``, ``high``."""
    runs: tuple[str, ...] = ()
    """Keys of the runs in the store, one for each seed."""
    score: str = ""
    """Score, or way to impute, of the row; empty where a method has one row."""

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Self:
        """A cell from its fields, as JSON holds them."""
        return cls(**{key: _tuples(value) for key, value in tree.items()})

    @property
    def sd(self) -> float | None:
        """Standard deviation over the seeds, 0 where no seed changes anything; None for a single seed."""
        if len(self.seeds) < 2:
            return 0.0 if self.deterministic else None
        return float(np.std(self.seeds, ddof=1))

    @property
    def place(self) -> Place:
        """Where it is in its table."""
        return Place(self.section, self.row, self.task, self.metric)

    @property
    def method(self) -> str:
        """Label of the row without its score."""
        return self.row.removesuffix(f", {self.score}") if self.score else self.row

    def with_seeds(self, measured: Sequence[Measured], deterministic: bool, share: bool) -> Self:
        """The cell with its mean over the seeds, the interval of that, and the parts of both.

        Args:
            measured: one of each seed.
            deterministic: whether all seeds predict the same, so that one stands for all.
            share: whether the metric is a share, see `cm2.uncertainty.Uncertain.interval`.
        """
        over, own = over_seeds(measured), measured[:1] if deterministic else measured
        low, high = over.interval(share=share)
        return replace(
            self,
            value=over.estimate,
            low=low,
            high=high,
            seeds=tuple(one.value for one in own),
            se_stays=over.se_stays,
            stays=tuple(over_seeds([one]).interval(share=share) for one in own),
            deterministic=deterministic,
        )


@dataclass(frozen=True)
class TableResult:
    """A finished table."""

    name: str
    title: str
    kind: str
    reference: str
    """Label of the row the others are compared with."""
    cells: tuple[Cell, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Cohort and its checksum, versions of package and methods, commit, device, date, profile, seeds, hash of every configuration."""
    key: str = ""
    """Hash of everything the numbers depend on; a table with the same key is not recomputed."""

    @property
    def rounding(self) -> float:
        """How far what is computed from its numbers may be from what was computed exactly: a credentialed cohort's have few digits."""
        return 1e-2 if self.provenance.get("credentialed") is True else 1e-9

    @property
    def tasks(self) -> dict[str, Task]:
        """Its tasks that are not binary, by heading.

        Raises:
            ValueError: a type that is not known, of an extension that is not installed.
        """
        return {heading: task_of(entry["name"], entry, f"table {self.name}") for heading, entry in self.provenance.get("tasks", {}).items()}

    @property
    def first_metric(self) -> str:
        """The first metric in which rows are compared, or of all if none are."""
        compared = [cell.metric for cell in self.cells if cell.difference]
        return next(iter(compared or [cell.metric for cell in self.cells]), "any metric")

    def frame(self) -> pd.DataFrame:
        """The cells, one row each; differences, printed numbers, and a row's method and score if it has one, are separate columns."""
        rows = []
        scored = any(cell.score for cell in self.cells)
        left_out = ["difference", "printed", "runs", "score", *(["smallest"] if all(c.smallest is None for c in self.cells) else [])]
        for cell in self.cells:
            row = {name: value for name, value in asdict(cell).items() if name not in left_out}
            row |= {"method": cell.method, "score": cell.score} if scored else {}
            row["seeds"], row["stays"] = (json.dumps(row[name]) for name in ("seeds", "stays"))
            row["sd"] = cell.sd
            row |= {f"difference_{name}": value for name, value in (cell.difference or {}).items()}
            row |= {f"printed_{name}": value for name, value in (cell.printed or {}).items()}
            row |= {"fabricated": True} if fabricated(self.provenance) else {}
            rows.append(row | {"runs": " ".join(cell.runs)})
        return pd.DataFrame(rows)

    def cell(self, row: str, metric: str, task: str | None = None, section: str | None = None) -> Cell:
        """The only cell that matches.

        Raises:
            ValueError: none or several match.
        """
        found = [c for c in self.cells if (c.row, c.metric) == (row, metric) and task in (None, c.task) and section in (None, c.section)]
        if len(found) != 1:
            wanted = ", ".join(
                f"{name} {value}" for name, value in {"row": row, "metric": metric, "task": task, "section": section}.items()
            )
            raise InputError(f"table {self.name} has {len(found)} cells with {wanted}; see its frame()")
        return found[0]


def read(path: Path | str) -> TableResult:
    """A table from its JSON file.

    Raises:
        ValueError: no such file, not a table, or one of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}; write it with `cm2 table`")
    tree = read_json(path, remedy=_elsewhere())
    if (given := tree.pop("format", None)) not in (FORMAT, SUMMED):
        raise InputError(f"{path}: format {given!r}, this version of cm2 reads and writes {FORMAT}; {_elsewhere()}")
    try:
        check(tree, SCHEMA, str(path))
        return _result(upgraded(tree) if given == SUMMED else tree)
    except ValueError as error:
        where = "" if str(error).startswith(str(path)) else f"{path}: "
        raise InputError(f"{where}{error}; {_elsewhere()}") from None
    except (TypeError, LookupError, StopIteration) as error:
        raise InputError(f"{path} is not a table of results ({error!r:.80}); {_elsewhere()}") from None


def _result(tree: dict[str, Any]) -> TableResult:
    cells = tuple(Cell.from_dict(cell) for cell in tree.pop("cells"))
    if tree["kind"] in ("alignment", "imputation"):
        cells = tuple(_scored(cell) for cell in cells)
    if tree["kind"] in ("results", "tests"):
        half = next((c for c in cells if c.value is not None and (c.low is None or c.high is None or not c.seeds)), None)
        if half is not None:
            raise InputError(f"{half.metric} of {half.row}, {half.section}, {half.task} has no interval or no value of a seed")
    return TableResult(cells=cells, **tree)


def is_table(path: Path) -> bool:
    """Whether a JSON file is one of a table: other results lie beside tables."""
    try:
        tree = read_json(path)
    except InputError:
        return False
    return isinstance(tree, dict) and {"cells", "kind", "key"} <= tree.keys()


def write(result: TableResult, markdown: str, folder: Path, stem: str) -> list[Path]:
    """Writes ``stem`` as CSV, JSON and Markdown into a folder; each file is replaced atomically."""
    tree = {"format": FORMAT, **{name: value for name, value in vars(result).items() if name != "cells"}}
    texts = {
        "csv": csv(result.frame()).to_csv(index=False, float_format="%.6g"),
        "json": _one_line_a_cell(tree, result.cells),
        "md": markdown,
    }
    return [write_text(folder / f"{stem}.{ending}", texts[ending]) for ending in ENDINGS]


def _one_line_a_cell(tree: Mapping[str, Any], cells: tuple[Cell, ...]) -> str:
    lines = ",\n".join("  " + json.dumps(_known(cell), ensure_ascii=False) for cell in cells)
    return json.dumps(tree, indent=1, ensure_ascii=False).removesuffix("\n}") + f',\n "cells": [\n{lines}\n ]\n}}\n'


def _known(cell: Cell) -> dict[str, Any]:
    known = {name: value for name, value in asdict(cell).items() if value not in (None, (), []) and value is not False}
    return known if cell.score else {name: value for name, value in known.items() if name != "score"}


def _scored(cell: Cell) -> Cell:
    """The cell with the score in its label, of results stored before there was a field for it."""
    end = cell.row.rpartition(", ")[2]
    return replace(cell, score=end) if not cell.score and end in _SCORES else cell


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _elsewhere() -> str:
    return f"remove it, or write elsewhere with {spelled('out=', '--out')}"
