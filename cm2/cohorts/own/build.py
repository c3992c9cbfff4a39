"""A cohort from data in memory; what is read and what becomes of it is described in ``cm2.cohorts``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cm2.cohorts.cohort import Cohort
from cm2.cohorts.format import SPLITS
from cm2.cohorts.opening import load_cohort
from cm2.cohorts.own.arrays import read_arrays
from cm2.cohorts.own.declared import Arrays, Images, Table, Texts, TimeSeries, Unmatched
from cm2.cohorts.own.drafts import Draft, Reading, read_table
from cm2.cohorts.own.ids import Roster, drop_unmatched, has_ids, ids_of
from cm2.cohorts.own.images import read_images
from cm2.cohorts.own.incoming import Place, Plain, column_of, other_split, plain
from cm2.cohorts.own.kinds import declared_as
from cm2.cohorts.own.labels import Asked, read_outcomes, refuse_one_sided, stored_columns
from cm2.cohorts.own.series import read_series
from cm2.cohorts.own.splits import drawn_splits, fractions_of, groups_of, named_splits, refuse_empty, refuse_leak
from cm2.cohorts.own.texts import read_texts
from cm2.cohorts.workplace import workplace
from cm2.cohorts.writing import PreparedCohort, PreparedModality, already_prepared, write_cohort
from cm2.config.names import choose
from cm2.config.schema import plain_name
from cm2.errors import InputError, spelled
from cm2.tasks import Regression, Task

VERSION = "own 1"
SOURCE = "data of one's own"
IDS = "ids.parquet"
"""Ids and subjects as they were given, beside the numbers of the stays."""


def from_frames(
    modalities: Mapping[str, Any],
    labels: Any,
    *,
    out: Path | str,
    id: str | None = None,
    split: Any = None,
    groups: Any = None,
    tasks: Asked | None = None,
    name: str | None = None,
    source: str = SOURCE,
    credentialed: bool = True,
    unmatched: Unmatched = "error",
    seed: int = 0,
    counts: Mapping[str, int] | None = None,
) -> Cohort:
    """Writes a cohort of your own data and opens it; ``cm2.cohorts`` says what is read and what becomes of it.

    Data are protected unless you say otherwise: no count below ten, no metric of fewer than ten stays, and no id or value is shown of them.
    Leave it so for data of patients, and for any that came with an agreement. ``credentialed=False`` is for data that anybody may have: all
    counts are shown then, and an error names ids and values.

    Args:
        modalities: by name. A value that is None, NaN or absent, or a row of which everything is missing: the stay lacks the modality.
        labels: one row for each stay: a frame, a series, an array ``(n,)``, several by name, or ``(n, L)`` of labels that may all apply.
        out: folder of the cohort; written whole or not at all.
        id: name of the column with the ids, texts or whole numbers.
        split: shares of training, validation and test, ``(0.7, 0.15, 0.15)`` by default; or a column of ``labels`` or n names ``train``,
            ``valid`` and ``test``. Two shares leave no stay for the test: see `cm2.estimators`, which trains on such a cohort.
        groups: subject of each stay, a column of ``labels`` or n values: the stays of one are in one split. None: every stay its own.
        tasks: by name the type, see ``cm2.cohorts.own.labels.read_outcomes``; None: every other column of ``labels``, by its values.
        name: of the cohort; by default that of the folder.
        source: where the data come from, one sentence for the manifest.
        credentialed: whether the data are protected; see above.
        unmatched: ``error``, or ``drop`` and count rows without a label and stays without any modality.
        seed: of the splits, which depend on it and the subjects alone, stratified by the first task.
        counts: of what you have dropped yourself, by name, for the manifest.

    Returns:
        The cohort. If ``out`` holds the very same already, nothing is written.

    Raises:
        InputError: ids that are missing, repeated or unknown; a modality or column that no training stay has; a split over which a subject
            is spread, that is empty, or whose labels are all equal; a label that its task does not have; a value that cannot be read; or an
            ``out`` that holds something else. The error names row and column, and nothing is written.
    """
    if unmatched not in ("error", "drop"):
        raise InputError(f"unmatched: unknown value {unmatched!r}; {choose(str(unmatched), ('error', 'drop'))}")
    out = Path(out)
    called = plain_name(name if name is not None else out.name, "name of the cohort")
    data = _Own(modalities, labels, id, credentialed, unmatched == "drop")
    data.divide(split, groups, tasks, seed)
    cohort = data.prepared(called, source, dict(counts or {}))
    with workplace(out):  # another process may write the same
        if not already_prepared(out, called, VERSION, cohort.parameters, credentialed):
            write_cohort(out, cohort)
    return load_cohort(out, verify=False)


class _Own:
    """Data of one's own on their way to a cohort: read, divided into splits, and made ready to be written.

    Args:
        modalities: as `from_frames`.
        labels: likewise.
        id: likewise.
        protected: whether neither ids nor values may be shown.
        drop: whether what is unmatched is dropped.
    """

    def __init__(self, modalities: Mapping[str, Any], labels: Any, id: str | None, protected: bool, drop: bool) -> None:
        if not modalities:
            raise InputError(f"modalities: none is given; give one or more{spelled(' by name', ': --table, --series, --text or --images')}")
        self.id = id
        self.table, self.place, self.roster = _labels(labels, id, protected)
        self.drafts = {str(name): draft_of(str(name), value, self.roster, id, drop) for name, value in modalities.items()}
        self.rows = _kept(self.drafts, self.place, drop)
        self.parameters: dict[str, Any] = {"credentialed": protected}

    def divide(self, split: Any, groups: Any, tasks: Asked | None, seed: int) -> None:
        """Reads the outcomes and chooses the splits."""
        columns, subjects, named = _roles(self.table, self.id, split, groups, self.roster, self.place)
        self.found, self.subjects = read_outcomes(columns, tasks, self.place), subjects
        stays = pd.DataFrame({"stay_id": self.roster.stay_id} | stored_columns(self.found)).iloc[self.rows].reset_index(drop=True)
        of = [(self.roster.keys if subjects is None else subjects)[row] for row in self.rows]
        fractions = fractions_of(split)
        if named is not None and subjects is not None:
            refuse_leak(named, subjects, self.place)
        if named is not None or fractions is None:
            chosen = np.empty(0) if named is None else named[self.rows]
        else:
            task = self.found[0][0]
            chosen = drawn_splits(self.roster.only(self.rows), of, _strata(task, task.read(stays)), fractions, seed)
        needed = SPLITS[: len(fractions or SPLITS)]
        refuse_empty(chosen, needed)
        self.stays = stays.assign(split=chosen)
        refuse_one_sided(self.found, self.stays, needed)
        types = {task.name: task.type for task, _ in self.found}
        self.parameters |= {"split": None if named is not None else list(fractions or ()), "seed": seed, "tasks": types}
        self.parameters |= {"groups": subjects is not None}

    def prepared(self, name: str, source: str, counts: dict[str, int]) -> PreparedCohort:
        """What is to be written, standardised with the training stays."""
        training = np.zeros(len(self.roster), dtype=bool)
        training[self.rows[(self.stays["split"] == "train").to_numpy()]] = True
        written = {key: _prepared(draft, self.rows, training) for key, draft in self.drafts.items()}
        parameters = self.parameters | {"content": _digest(self.stays, written)}
        tasks: dict[str, str | Task] = {task.name: task for task, _ in self.found}
        told = {key: draft.counts for key, draft in self.drafts.items() if draft.counts} | counts
        flow = _flow(len(self.roster), len(self.rows))
        cohort = PreparedCohort(name, source, VERSION, parameters, self.stays, written, tasks, flow, told, self._write_ids)
        return replace(cohort, credentialed=self.roster.protected)

    def _write_ids(self, folder: Path) -> None:
        ids = pd.DataFrame({"stay_id": self.stays["stay_id"], "id": [self.roster.keys[row] for row in self.rows]})
        subjects = self.subjects
        ids = ids if subjects is None else ids.assign(subject=[subjects[row] for row in self.rows])
        ids.to_parquet(folder / IDS, index=False)


def _labels(labels: Any, id: str | None, protected: bool) -> tuple[pd.DataFrame, Place, Roster]:
    """The table of labels with rows 0 to n - 1, what an error calls them, and the stays."""
    value = plain(labels, "labels")
    frame: pd.DataFrame
    if isinstance(value, pd.DataFrame):
        frame = value
    elif isinstance(value, pd.Series):
        frame = value.to_frame(str(value.name) if value.name is not None else "label")
    elif isinstance(value, Mapping):
        frame = pd.DataFrame({str(name): _column(item, f"labels {name}") for name, item in value.items()})
    else:
        array = np.asarray(value)
        if array.ndim not in (1, 2) or not len(array):
            raise InputError(f"labels: expected shape (n,) or (n, L), got {array.shape}; give one row for each stay")
        names = ["label"] if array.ndim == 1 else [f"label.{i + 1}" for i in range(array.shape[1])]
        frame = pd.DataFrame(array.reshape(len(array), -1), columns=names)
    if not len(frame):
        raise InputError("labels: no row; give one for each stay")
    place = Place(spelled("labels", "labels", "y"), protected)
    if id is not None and not has_ids(frame, id):
        column_of(frame, id, "labels")
    given = has_ids(frame, id)
    keys = ids_of(frame, id, place) if given else [str(row) for row in range(len(frame))]
    roster = Roster(keys, given, protected, isinstance(labels, pd.DataFrame | pd.Series))
    return frame.reset_index(drop=True), Place(place.name, protected, keys if given else None), roster


def _column(item: Any, what: str) -> Any:
    value = plain(item, what)
    return value.reset_index(drop=True) if isinstance(value, pd.Series) else value


def draft_of(name: str, value: Any, roster: Roster, id: str | None, drop: bool) -> Draft:
    """A modality, read for the stays of a roster; arguments as those of `from_frames`."""
    plain_name(name, "modality")
    declared = declared_as(name, value, id)
    data = declared.data
    reading = Reading(name, roster, id, drop, isinstance(data, pd.DataFrame | pd.Series))
    if isinstance(declared, Images):
        return read_images(declared, data if isinstance(data, Path) else _path_or_plain(data, name), reading)
    content: Plain = plain(data, name)
    if isinstance(declared, Table):
        return read_table(declared, content, reading)
    if isinstance(declared, TimeSeries):
        return read_series(declared, content, reading)
    if isinstance(declared, Texts):
        return read_texts(declared, content, reading)
    assert isinstance(declared, Arrays)
    return read_arrays(declared, content, reading)


def _path_or_plain(data: Any, name: str) -> Plain | Path:
    return Path(data) if isinstance(data, str) else plain(data, name)


def _kept(drafts: Mapping[str, Draft], place: Place, drop: bool) -> np.ndarray:
    """Rows of the stays that have a modality."""
    some = np.any([draft.present for draft in drafts.values()], axis=0)
    if not some.all() and not drop:
        row = int(np.flatnonzero(~some)[0])
        also = f", or have them dropped and counted: {drop_unmatched()}"
        place = replace(place, name=spelled(place.name, place.name, "X"))
        place.fault(f"the stay has none of {', '.join(drafts)}", f"leave such rows out{spelled(also, also, '')}", row)
    if not some.any():
        raise InputError("modalities: no stay has any; check that their ids are those of the labels")
    return np.flatnonzero(some)


def _roles(
    table: pd.DataFrame, id: str | None, split: Any, groups: Any, roster: Roster, place: Place
) -> tuple[pd.DataFrame, list[str] | None, np.ndarray | None]:
    """Columns of labels; subjects of the rows, or None; names of their splits, or None where they are to be drawn."""
    apart = {id, split if isinstance(split, str) else None, groups if isinstance(groups, str) else None}
    columns = table[[column for column in table.columns if column not in apart]]
    subjects = None if groups is None else groups_of(_by_row(groups, table, roster, "groups"), place)
    if fractions_of(split) is not None:
        return columns, subjects, None
    column = split if isinstance(split, str) else None
    return columns, subjects, named_splits(list(_by_row(split, table, roster, "split")), place, column)


def _by_row(value: Any, table: pd.DataFrame, roster: Roster, what: str) -> Sequence[Any]:
    """A column of the labels by name, or values by row or id."""
    if isinstance(value, str):
        return list(column_of(table, value, f"labels ({what})"))
    given = plain(value, what)
    if isinstance(given, pd.DataFrame):
        raise InputError(f"{what}: expected one value for each row, got a frame; name a column of the labels, or give a series")
    reading = Reading(what, roster, None, False, isinstance(value, pd.Series))
    return reading.by_id(given)


def _strata(task: Task, label: np.ndarray) -> np.ndarray:
    """Groups of stays that are spread evenly over the splits: outcomes, or fifths of a quantity; NaN where unknown."""
    flat = label if label.ndim == 1 else label[:, -1] if task.type == "survival" else np.nansum(label, axis=1).clip(max=1)
    known = ~np.isnan(flat)
    if not isinstance(task, Regression):
        return np.where(known, flat, np.nan)
    edges = np.unique(np.quantile(flat[known], (0.2, 0.4, 0.6, 0.8))) if known.any() else np.zeros(0)
    return np.where(known, np.searchsorted(edges, np.nan_to_num(flat)), np.nan)


def _prepared(draft: Draft, rows: np.ndarray, training: np.ndarray) -> PreparedModality:
    if not (draft.present & training).any():
        remedy = f"leave it out, or give {other_split()} in which training stays have it"
        raise InputError(f"{draft.place.name}: no training stay has it; {remedy}")
    return draft.prepared(rows, training)


def _flow(n: int, kept: int) -> list[dict[str, Any]]:
    first = {"step": "rows of the labels", "stays": n, "dropped": 0, "note": ""}
    return [first, {"step": "stays with a modality", "stays": kept, "dropped": n - kept, "note": ""}]


def _digest(stays: pd.DataFrame, modalities: Mapping[str, PreparedModality]) -> str:
    """A hash of all that is written: two calls on the same data make the same cohort."""
    found = hashlib.sha256(pd.util.hash_pandas_object(stays, index=False).to_numpy().tobytes())
    for name, modality in modalities.items():
        found.update(f"{name} {modality.kind} {modality.features} {modality.units} {modality.normalisation}".encode())
        found.update(np.ascontiguousarray(modality.present).tobytes())
        if isinstance(modality.data, np.ndarray):
            found.update(f"{modality.data.shape}".encode() + np.ascontiguousarray(modality.data).tobytes())
        else:
            found.update("\0".join("" if text is None else text for text in modality.data).encode())
    return found.hexdigest()
