"""Cohorts from events in the layout of the Medical Event Data Standard (MEDS, https://medical-event-data-standard.github.io).

Events are rows ``subject_id, time, code`` and, where a data set has them, ``numeric_value`` and ``text_value``; static ones have no time.
Labels are rows ``subject_id, prediction_time`` and one of ``boolean_value, integer_value, float_value, categorical_value``. What is known
at ``prediction_time`` makes up to four modalities of a stay:

* ``measurements``, a series: codes with a number, in steps of ``every`` hours over the last ``hours`` hours;
* ``events``, a table: how often each code without a number occurs in these hours;
* ``static``, a table: age in years, from the time of ``MEDS_BIRTH``, and codes without a time;
* ``notes``, texts: the last ``documents`` values of ``text_value`` in these hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import dataset, parquet

from cm2.cohorts.cohort import Cohort
from cm2.cohorts.disclosure import SMALLEST
from cm2.cohorts.files import read_frame
from cm2.cohorts.own.build import from_frames
from cm2.cohorts.own.columns import hours_of
from cm2.cohorts.own.declared import Declared, Table, Texts, TimeSeries
from cm2.cohorts.own.ids import Roster
from cm2.cohorts.own.splits import FRACTIONS, drawn_splits
from cm2.errors import InputError, of_the_system
from cm2.escape import one_line

VALUES: Mapping[str, str] = {
    "boolean_value": "binary",
    "integer_value": "",
    "float_value": "regression",
    "categorical_value": "multiclass",
}
"""Columns of labels and the type of task that each is; of whole numbers their values tell it."""
BIRTH = "MEDS_BIRTH"
YEAR = 24 * 365.25
"""Hours."""
SPLIT_FILE = Path("metadata/subject_splits.parquet")


def from_meds(
    data: Path | str | pd.DataFrame,
    labels: Path | str | pd.DataFrame,
    *,
    out: Path | str,
    task: str = "label",
    hours: float = 48.0,
    every: float = 2.0,
    codes: int = 64,
    documents: int = 5,
    credentialed: bool = True,
    seed: int = 0,
    **options: Any,
) -> Cohort:
    """Writes a cohort of events and labels in the layout of MEDS and opens it.

    Codes are chosen and values standardised with the training stays alone. A code is used if ten training stays have it, in open data one.

    Args:
        data: folder of a MEDS data set (with ``data/`` and ``metadata/``), of its files, one file, or a frame.
        labels: file or folder of labels, or a frame.
        out: folder of the cohort.
        task: name of the outcome.
        hours: before ``prediction_time`` that are read; an event at that time is known.
        every: width of a step in hours.
        codes: most codes of each modality: those that most training stays have.
        documents: most texts of a stay.
        credentialed: whether the data are protected; see `cm2.cohorts.from_frames`.
        seed: of the splits by subject, where ``metadata/subject_splits.parquet`` does not say them.
        options: further arguments of `from_frames`.

    Raises:
        InputError: a file or column that is missing, times that are no times, labels without a value or with several, a subject without a
            split, or what `from_frames` refuses.
    """
    table, kind = _labels(labels, task)
    events = _events(data, table["subject_id"])
    split = _splits(data, table, task, seed)
    keys = [f"{subject}@{time.isoformat()}" for subject, time in zip(table["subject_id"], table["prediction_time"], strict=True)]
    joined = events.merge(
        table.assign(id=keys, training=split == "train")[["subject_id", "prediction_time", "id", "training"]], on="subject_id"
    )
    least = SMALLEST if credentialed else 1
    modalities, unused = _modalities(joined, hours, every, codes, documents, least)
    outcome = pd.DataFrame({task: table[task].to_numpy(), "id": keys})
    given: dict[str, Any] = {
        "unmatched": "drop",
        "source": "events and labels in the layout of MEDS",
        "counts": {"events of codes not used": unused},
    }
    return from_frames(
        modalities, outcome, out=out, id="id", split=split, groups=table["subject_id"].to_numpy(), tasks={task: kind or None},
        credentialed=credentialed, seed=seed, **given | options,
    )  # fmt: skip


def _labels(labels: Path | str | pd.DataFrame, task: str) -> tuple[pd.DataFrame, str]:
    frame = _read(labels, "labels", ("subject_id", "prediction_time"), tuple(VALUES))
    full = [name for name in VALUES if name in frame and frame[name].notna().any()]
    if len(full) != 1:
        raise InputError(f"labels: expected values in one of {', '.join(VALUES)}, got {', '.join(full) or 'none'}; keep one of them")
    frame["prediction_time"] = _when(frame["prediction_time"], "labels: prediction_time")
    for name in ("subject_id", "prediction_time"):
        if (missing := frame[name].isna()).any():
            raise InputError(f"labels, row {int(np.flatnonzero(missing)[0]) + 1}, column {name}: it is missing; give one, or drop the row")
    value = frame[full[0]]
    return frame.assign(**{task: value.astype("boolean") if full[0] == "boolean_value" else value}), VALUES[full[0]]


def _events(data: Path | str | pd.DataFrame, subjects: pd.Series) -> pd.DataFrame:
    """Events of these subjects."""
    where = data if isinstance(data, pd.DataFrame) else _inside(Path(data))
    events = _read(where, "events", ("subject_id", "time", "code"), ("numeric_value", "text_value"), subjects)
    events = events[events["subject_id"].isin(subjects)]
    if events.empty:
        raise InputError("events: no subject of the labels has any; check that both are of the same data set")
    if (missing := events["code"].isna()).any():
        raise InputError(f"events, row {int(np.flatnonzero(missing)[0]) + 1}, column code: it is missing; give one, or drop the row")
    numbers = events["numeric_value"] if "numeric_value" in events else pd.Series(np.nan, index=events.index)
    return events.assign(time=_when(events["time"], "events: time"), code=events["code"].astype(str), numeric_value=numbers)


def _inside(path: Path) -> Path:
    return path / "data" if (path / "data").is_dir() else path


def _read(
    source: Path | str | pd.DataFrame, what: str, needed: tuple[str, ...], also: tuple[str, ...], subjects: pd.Series | None = None
) -> pd.DataFrame:
    """Columns of a frame, a Parquet file, or all Parquet files below a folder."""
    if isinstance(source, pd.DataFrame):
        names, frame = list(source.columns), source.reset_index(drop=True)
    else:
        names, frame = _read_parquet(Path(source), what, (*needed, *also), subjects)
    if lacking := [name for name in needed if name not in names]:
        raise InputError(f"{what}: the column {lacking[0]} is missing; MEDS has {', '.join(needed)}")
    return frame[[*needed, *(name for name in also if name in names)]].copy()


def _read_parquet(path: Path, what: str, wanted: tuple[str, ...], subjects: pd.Series | None) -> tuple[list[str], pd.DataFrame]:
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise InputError(f"{what}: {path} holds no Parquet file; give the folder or file of the data set")
    try:
        # a file may lack a column that others have
        schema = pa.unify_schemas([parquet.read_schema(file) for file in files], promote_options="permissive")
        content = dataset.dataset(files, schema=schema, format="parquet")
        chosen = [name for name in wanted if name in content.schema.names]
        few = None if subjects is None or "subject_id" not in chosen else dataset.field("subject_id").isin(subjects.unique().tolist())
        return content.schema.names, content.to_table(columns=chosen, filter=few).to_pandas()
    except OSError as error:
        raise InputError(of_the_system(error) or f"{what}: {path}: {one_line(error):.100}; write it again") from None
    except pa.ArrowException as error:
        raise InputError(f"{what}: {path}: not whole Parquet files of one schema ({one_line(error):.100}); write them again") from None


def _when(times: pd.Series, what: str) -> pd.Series:
    try:
        return pd.Series(pd.to_datetime(times)).dt.tz_localize(None)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{what}: not times ({one_line(error):.100}); MEDS has timestamps") from None


def _splits(data: Path | str | pd.DataFrame, table: pd.DataFrame, task: str, seed: int) -> np.ndarray:
    """The split of each label: of the data set, or drawn by subject."""
    file = None if isinstance(data, pd.DataFrame) else Path(data) / SPLIT_FILE
    if file is not None and file.is_file():
        told = read_frame(file, ("subject_id", "split")).drop_duplicates("subject_id").set_index("subject_id")["split"]
        split = table["subject_id"].map(told)
        if split.isna().any():
            row = int(np.flatnonzero(split.isna())[0])
            raise InputError(f"labels, row {row + 1}: the subject has no split in {SPLIT_FILE}; add it, or drop the label")
        return split.replace({"tuning": "valid", "held_out": "test"}).to_numpy()
    roster = Roster([str(row) for row in range(len(table))], False, True)
    strata = pd.Series(pd.factorize(table[task])[0], dtype=float)
    few = np.where(strata < 0, np.nan, strata) if strata.nunique() <= 20 else np.zeros(len(strata))
    return drawn_splits(roster, [str(subject) for subject in table["subject_id"]], few, FRACTIONS, seed)


def _modalities(
    joined: pd.DataFrame, hours: float, every: float, codes: int, documents: int, least: int
) -> tuple[dict[str, Declared], int]:
    """The modalities that training stays have, and the number of events in the window whose codes are not used."""
    ago = pd.Series(hours_of(joined["prediction_time"] - joined["time"]), index=joined.index)
    window, numeric = (ago >= 0) & (ago < hours), joined["numeric_value"].notna()
    found: dict[str, Declared] = {}
    measured = joined[window & numeric & np.isfinite(joined["numeric_value"].to_numpy(dtype=np.float64))]
    chosen = _commonest(measured, codes, least)
    used = measured[measured["code"].isin(chosen)]
    if chosen:
        wide = used.assign(time=hours - ago[used.index]).sort_values("time", kind="stable")
        wide = wide.pivot_table(index=["id", "time"], columns="code", values="numeric_value", aggfunc="last").reset_index()
        # an event at prediction_time itself belongs to the last step
        wide["time"] = wide["time"].clip(upper=np.nextafter(hours, 0))
        found["measurements"] = TimeSeries(wide, every=every, steps=int(np.ceil(hours / every)))
    counted = joined[window & ~numeric]
    chosen = _commonest(counted, codes, least)
    kept = counted[counted["code"].isin(chosen)]
    if chosen:
        table = kept.groupby(["id", "code"]).size().unstack(fill_value=0).reindex(joined["id"].unique(), fill_value=0)
        found["events"] = Table(table.rename_axis("id").reset_index())
    static = _static(joined, codes, least)
    if static is not None:
        found["static"] = static
    if "text_value" in joined and joined.loc[window & joined["training"], "text_value"].notna().any():
        texts = joined.loc[window & joined["text_value"].notna(), ["id", "time", "text_value"]]
        found["notes"] = Texts(texts, column="text_value", time="time", documents=documents)
    if not found:
        raise InputError(f"events: no code is known of {least} training stays within {hours:g} hours; give more hours or labels")
    return found, int((window.sum()) - len(used) - len(kept))


def _commonest(events: pd.DataFrame, codes: int, least: int) -> list[str]:
    """Codes that most training stays have, at least some of them."""
    stays = events[events["training"]].groupby("code")["id"].nunique()
    order = stays[stays >= least].reset_index().sort_values(["id", "code"], ascending=[False, True])
    return sorted(order["code"].iloc[:codes])


def _static(joined: pd.DataFrame, codes: int, least: int) -> Table | None:
    """Age and codes without a time."""
    index = pd.Index(joined["id"].unique(), name="id")
    columns: dict[str, pd.Series] = {}
    births = joined[(joined["code"] == BIRTH) & joined["time"].notna()].drop_duplicates("id").set_index("id")
    if births["training"].sum() >= least:
        columns["age"] = pd.Series(hours_of(births["prediction_time"] - births["time"]) / YEAR, index=births.index)
    timeless = joined[joined["time"].isna()]
    for code in _commonest(timeless, codes, least):
        own = timeless[timeless["code"] == code].drop_duplicates("id", keep="last").set_index("id")
        number = own["numeric_value"].notna().any()
        columns[code] = own["numeric_value"].astype(float) if number else pd.Series(1.0, index=own.index).reindex(index, fill_value=0.0)
    if not columns:
        return None
    return Table(
        pd.DataFrame({name: column.reindex(index) for name, column in columns.items()}).reset_index(),
        units={"age": "a"} if "age" in columns else {},
    )
