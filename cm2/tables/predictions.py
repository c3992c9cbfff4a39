"""Predictions of the runs of kept tables, from which every interval and p-value can be computed again.

A folder of tables has one Parquet file for each version of a cohort, ``predictions-CHECKSUM.parquet``: a row for each stay, its
labels, and a column for each run of any table in the folder. Runs with the same predictions share a column. Labels are in the columns of
the cohort's ``stays.parquet``, each after the word ``label``, null where unknown; the metadata describe every task that is not binary.

A column holds the logit as float16, in 2 bytes. Of other types of task it holds what `cm2.tasks.Task.compact` makes of a prediction, such
as the logarithm of each class's probability: a float16, or a list of them in the order of `cm2.tasks.Task.predicted`.

Tables are computed from the rounded predictions, so the same digits come out again.
Over 80 simulated runs on 4,000 stays rounding moved an AUROC by 0.00001 and an average precision by 0.0003 at most. Rounding the
probability itself to float16 moved them by up to 0.001 and 0.01, because numbers near 1 are 0.0005 apart, which ties confident predictions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from cm2.config.schema import check
from cm2.durable import Lock, replaced, set_aside
from cm2.errors import InputError
from cm2.escape import one_line
from cm2.runs.run import Run
from cm2.runs.saving import stored_description
from cm2.tasks import Binary, Task, known_stays, task_of
from cm2.uncertainty import Measured

FORMAT = 1
SCHEMA = {
    "format": int,
    "tasks": {"*": str},
    "types?": {"*": {"type": str, "description": str}},
    "same": {"*": str},
    "law_distance?": {"*": float},
    "no_law?": [str],
}
"""What its metadata hold; see `cm2.config.schema`."""
AGAIN = "compute its tables again with `cm2 table`"
STAY = "stay_id"
LABEL = "label "
"""What a column of labels is called before the name that the column has in the cohort."""
_BINARY = Binary()


@dataclass(frozen=True)
class Predicted:
    """Predictions of one run for its test stays, or its validation stays."""

    task: str
    """What was predicted."""
    stay_id: NDArray
    """``(n,)`` int64, ascending."""
    label: NDArray
    """``(n, *label_shape)``, NaN where one of several is unknown; of a binary task ``(n,)``, 0 or 1."""
    compact: NDArray
    """``(n,)`` or ``(n, P)`` float16, as `cm2.tasks.Task.compact` has them; of a binary task the log-odds of the predicted probability."""
    law_distance: float | None = None
    """Distance of the law from the embeddings in the epoch that was kept; NaN where there is no law, None where nobody measured it."""
    of: Task = _BINARY
    """The task itself, under whatever name if it is binary."""

    @property
    def prediction(self) -> NDArray:
        """``(n,)`` or ``(n, P)`` float64; of a binary task the probability."""
        return self.of.expanded(self.compact)

    def measured(self, metric: str) -> Measured:
        """A metric of these predictions, by the name that the task has for it, with its dependence on the stays."""
        return self.of.metrics[metric].measure(self.label, self.prediction)

    def same(self, other: Predicted) -> bool:
        """Whether another run predicted the same for the same stays."""
        return self.task == other.task and np.array_equal(self.stay_id, other.stay_id) and np.array_equal(self.compact, other.compact)


def column_of(run: Run, split: str) -> str:
    """Name of the column with the predictions of a run for a split."""
    return run.path.name if split == "test" else f"{run.path.name} {split}"


def predicted(run: Run, split: str = "test") -> Predicted:
    """Predictions of a run of the store for a split, rounded."""
    frame = run.predictions
    frame, task = frame[frame["split"] == split].sort_values(STAY), run.task
    label, prediction = task.of_frame(frame)
    stay_id = frame[STAY].to_numpy(dtype=np.int64)
    return Predicted(run.config.task, stay_id, label, task.compact(prediction), _law_distance(run), task)


def _law_distance(run: Run) -> float | None:
    kept = run.kept_epochs
    if "law_distance" in kept and math.isfinite(distance := float(kept["law_distance"].max())):
        return distance
    return math.nan if (stored_description(run.path) or {}).get("law", {}).get("none") else None


def file_name(checksum: str) -> str:
    """Name of the file of predictions for a version of a cohort."""
    return f"predictions-{checksum[:8]}.parquet"


def read_predictions(path: Path, runs: Iterable[str]) -> dict[str, Predicted]:
    """Predictions of some runs.

    Args:
        path: of the file.
        runs: their keys.

    Raises:
        ValueError: no such file, one of another format, or one that lacks a run.
    """
    table, about = _read(path)
    if missing := [key for key in runs if key not in about["tasks"]]:
        raise InputError(f"{path} lacks the predictions of {len(missing)} runs, such as {missing[0]}; compute the table again")
    try:
        laws = about.get("law_distance", {}) | dict.fromkeys(about.get("no_law", ()), math.nan)
        tasks = {name: task_of(name, about.get("types", {}).get(name, {"description": ""})) for name in about["tasks"].values()}
        at = {key: (about["same"].get(key, key), tasks[about["tasks"][key]]) for key in runs}
        return {key: replace(_column(table, *place), law_distance=laws.get(key)) for key, place in at.items()}
    except (pa.ArrowException, KeyError, TypeError) as error:
        raise InputError(f"{path} does not hold what it lists ({one_line(error):.100}); {AGAIN}") from None


def known_runs(path: Path) -> set[str]:
    """Keys of the runs whose predictions a file holds. Errors are those of `read_predictions`."""
    return set(_read(path)[1]["tasks"])


def known_tasks(path: Path) -> dict[str, Task]:
    """The tasks that are not binary whose predictions a file holds, by name. Errors are those of `read_predictions`."""
    return {name: task_of(name, entry, str(path)) for name, entry in _read(path)[1].get("types", {}).items()}


def write_predictions(path: Path, found: Mapping[str, Predicted], keep: Collection[str] = ()) -> None:
    """Adds the predictions of runs to a file, which is replaced atomically.

    Args:
        path: of the file.
        found: by key of the run.
        keep: keys of runs in the file that are still needed; the others are removed from it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with Lock(path.with_name(f".{path.name}.lock")), replaced(path) as part:
        kept = _kept(path, set(keep)) if path.is_file() else {}
        # the bits of a logit split into streams of bytes, of which the upper one compresses well
        parquet.write_table(_table({**kept, **found}), part, compression="zstd", use_dictionary=False, use_byte_stream_split=True)


def _read(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """The table, and what its metadata say of it."""
    if not path.is_file():
        raise InputError(f"there is no file {path} with the predictions of this table; compute the table again with `cm2 table`")
    try:
        table = parquet.read_table(path)
        about = json.loads((table.schema.metadata or {})[b"cm2"])
        check(about, SCHEMA, "its metadata")
    except (pa.ArrowException, OSError, KeyError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a file of predictions ({one_line(error):.100}); {AGAIN}") from None
    if about["format"] != FORMAT:
        raise InputError(f"{path}: format {about['format']!r}, this version of cm2 reads and writes {FORMAT}; compute its tables again")
    return table, about


def _kept(path: Path, keep: set[str]) -> dict[str, Predicted]:
    try:
        metadata = parquet.read_schema(path).metadata or {}
        return read_predictions(path, set(json.loads(metadata.get(b"cm2", b"{}")).get("tasks", {})) & keep)
    except (pa.ArrowException, OSError, ValueError, AttributeError) as error:
        set_aside(path, str(error).partition(";")[0])
        return {}


def _table(found: Mapping[str, Predicted]) -> pa.Table:
    runs = dict(sorted(found.items()))
    stays = np.unique(np.concatenate([one.stay_id for one in runs.values()]))
    labels: dict[tuple[str, str], NDArray] = {}
    columns: dict[str, pa.Array] = {}
    same: dict[str, str] = {}
    for key, one in runs.items():
        at = np.searchsorted(stays, one.stay_id)
        for column, values in zip(_columns(one.task, one.of), one.label.reshape(len(at), -1).T, strict=True):
            labels.setdefault((one.task, column), np.full(len(stays), np.nan))[at] = values
        if (other := next((name for name in columns if one.same(runs[name])), None)) is not None:
            same[key] = other
            continue
        columns[key] = _spread(one.compact, at, len(stays))
    laws = {key: one.law_distance for key, one in runs.items() if one.law_distance is not None}
    tasks = {one.task: one.of for one in runs.values()}
    types = {name: task.described() for name, task in tasks.items() if task.identity}
    about = {
        "format": FORMAT,
        "tasks": {key: one.task for key, one in runs.items()},
        **({"types": types} if types else {}),
        "same": same,
        "law_distance": {key: distance for key, distance in laws.items() if not math.isnan(distance)},
        "no_law": [key for key, distance in laws.items() if math.isnan(distance)],
    }
    known = {
        f"{LABEL}{column}": pa.array(np.nan_to_num(values).astype(tasks[task].stored), mask=np.isnan(values))
        for (task, column), values in sorted(labels.items(), key=lambda item: item[0][0])
    }
    table = pa.table({STAY: pa.array(stays), **known, **columns})
    return table.replace_schema_metadata({b"cm2": json.dumps(about).encode()})


def _columns(name: str, task: Task) -> list[str]:
    """Columns of labels in the cohort; a binary task has one, whatever it is called."""
    return [f"{name}{column.removeprefix(task.name)}" for column in task.columns]


def _spread(compact: NDArray, at: NDArray, n: int) -> pa.Array:
    """Numbers, or lists of them, in the rows ``at`` of n; null in the others."""
    absent = np.ones(n, dtype=bool)
    absent[at] = False
    if compact.ndim == 1:
        values = np.zeros(n, dtype=np.float16)
        values[at] = compact
        return pa.array(values, mask=absent)
    ends = np.concatenate([[0], np.cumsum(~absent)]) * compact.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends, type=pa.int32()), pa.array(compact.ravel()), mask=pa.array(absent))


def _column(table: pa.Table, column: str, task: Task) -> Predicted:
    found = table[column].combine_chunks()
    here = found.is_valid().to_numpy(zero_copy_only=False)
    several = pa.types.is_list(found.type)
    values = (found.flatten() if several else found.drop_null()).to_numpy(zero_copy_only=False).astype(np.float16)
    chosen = [table[f"{LABEL}{name}"].combine_chunks().filter(pa.array(here)) for name in task.columns]
    label = np.stack([one.cast(pa.float64()).to_numpy(zero_copy_only=False) for one in chosen], axis=1)
    if lacking := int((~known_stays(label)).sum()):
        raise InputError(f"predictions of {column}: {lacking} of its stays have no label; compute the table again")
    shape = (len(label), -1) if several else (len(label),)
    return Predicted(task.name, table[STAY].to_numpy()[here], label.reshape(-1, *task.label_shape), values.reshape(shape), of=task)
