"""A bridge from samples of PyHealth, and from any list of dictionaries with one item for each stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cm2.cohorts.cohort import Cohort
from cm2.cohorts.own.build import from_frames
from cm2.cohorts.own.declared import Images, Table, Texts, TimeSeries
from cm2.cohorts.own.incoming import frame_of
from cm2.config.names import choose
from cm2.errors import InputError

KINDS: Mapping[str, Any] = {
    "text": Texts,
    "raw": Texts,
    "timeseries": TimeSeries,
    "image": Images,
    "tensor": Table,
    "numeric": Table,
    "sequence": None,
    "multi_hot": None,
}
"""What an input of a sample is made of by the name of its processor; None: a list of codes, which becomes a column for each."""
CODES = 4096
"""Most codes of a sequence: each is a column."""


def from_samples(
    samples: Any,
    *,
    out: Path | str,
    inputs: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
    id: str | None = None,
    subject: str = "patient_id",
    **options: Any,
) -> Cohort:
    """Writes a cohort of samples, dictionaries with an entry for each input and output, and opens it.

    A ``SampleDataset`` of PyHealth brings its schemas along. Splits are by ``patient_id`` where the samples have it.

    Args:
        samples: an iterable of dictionaries, or an object with ``samples``.
        out: folder of the cohort.
        inputs: kind of each input: ``text``, ``timeseries`` (pairs of times and values), ``image``, ``tensor`` (numbers of one length),
            ``sequence`` (codes); None: ``samples.input_schema``.
        outputs: type of each output: ``binary``, ``multiclass``, ``regression`` (a number), ``multilabel`` (a list of labels that apply);
            None: ``samples.output_schema``.
        id: entry with the ids; None: the samples have none.
        subject: entry with the subjects.
        options: further arguments of `cm2.cohorts.from_frames`.

    Raises:
        InputError: no schema, a kind that is not read, a sample without an entry, or what `from_frames` refuses.
    """
    inputs = dict(inputs if inputs is not None else _schema(samples, "input_schema"))
    outputs = dict(outputs if outputs is not None else _schema(samples, "output_schema"))
    listed = getattr(samples, "samples", samples)
    rows: list[Mapping[str, Any]] = list(listed) if isinstance(listed, Iterable) else []
    if not rows:
        raise InputError("samples: there is none; give a list of dictionaries, or a data set with samples")
    for number, row in enumerate(rows):
        if lacking := [name for name in (*inputs, *outputs) if name not in row]:
            raise InputError(f"samples, sample {number + 1}: no entry {lacking[0]!r}; give None where it is missing")
    modalities = {name: _input([row[name] for row in rows], name, str(what)) for name, what in inputs.items()}
    labels: dict[str, Any] = {}
    tasks: dict[str, Any] = {}
    for name, what in outputs.items():
        columns, tasks[name] = _output([row[name] for row in rows], name, str(what))
        labels |= columns
    if id is not None:
        labels[id] = [row.get(id) for row in rows]
        modalities = {name: _with_ids(value, pd.Index(labels[id], name=id)) for name, value in modalities.items()}
    groups = options.pop("groups", [row[subject] for row in rows] if all(subject in row for row in rows) else None)
    return from_frames(modalities, pd.DataFrame(labels), out=out, id=id, groups=groups, tasks=tasks, **options)


def _schema(samples: Any, name: str) -> Mapping[str, str]:
    found = getattr(samples, name, None)
    if not isinstance(found, Mapping):
        raise InputError(f"samples: they have no {name}; say what the entries are: inputs={{...}}, outputs={{...}}")
    return {key: value if isinstance(value, str) else type(value).__name__ for key, value in found.items()}


def _input(values: list[Any], name: str, what: str) -> Any:
    if what not in KINDS:
        raise InputError(f"samples, input {name}: unknown kind {what!r}; {choose(what, KINDS)}")
    if KINDS[what] is None:
        return _codes(values, name)
    if what in ("tensor", "numeric"):
        missing = [value is None for value in values]
        arrays = [None if gone else np.asarray(value, dtype=np.float64).reshape(-1) for gone, value in zip(missing, values, strict=True)]
        widths = {len(array) for array in arrays if array is not None}
        if len(widths) != 1:
            raise InputError(
                f"samples, input {name}: vectors of lengths {sorted(widths)}; give all the same length, or the kind timeseries"
            )
        return Table(np.stack([np.full(next(iter(widths)), np.nan) if array is None else array for array in arrays]))
    return KINDS[what](values)


def _codes(values: list[Any], name: str) -> Table:
    """How often each code occurs in a stay, a column for each; visits within a list are counted together."""
    counted = [None if value is None else Counter(map(str, _flat(value))) for value in values]
    names = sorted({code for count in counted if count is not None for code in count})
    if not 0 < len(names) <= CODES:
        raise InputError(f"samples, input {name}: {len(names):,} different codes; give from 1 to {CODES:,}, for example coarser ones")
    return Table(pd.DataFrame([[np.nan if count is None else count[code] for code in names] for count in counted], columns=names))


def _flat(value: Any) -> Iterable[Any]:
    for item in value:
        if isinstance(item, list | tuple | np.ndarray):
            yield from _flat(item)
        else:
            yield item


def _output(values: list[Any], name: str, what: str) -> tuple[dict[str, Any], Any]:
    if what != "multilabel":
        return {name: [value.item() if hasattr(value, "item") else value for value in values]}, what
    labels = sorted({str(label) for value in values if value is not None for label in value})
    columns = {f"{name}.{label}": [None if value is None else float(label in map(str, value)) for value in values] for label in labels}
    return columns, "multilabel"


def _with_ids(value: Any, ids: pd.Index) -> Any:
    """The same modality as a mapping by id, or as a frame with this index."""
    if isinstance(value, Table):
        return Table(frame_of(value.data, None, "samples").set_axis(ids))
    return type(value)(dict(zip(ids, value.data, strict=True)))
