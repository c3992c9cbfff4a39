"""The truth of a fabricated folder: computed from the very rows written, then written beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cm2.progress import Progress
from data_prep.fabricate.facts import VARIANTS
from data_prep.fabricate.truth.cohort import STEPS, Tables, first_steps, mortality, readmission, splits
from data_prep.fabricate.truth.series import cleaned, in_window, kept_events, matrices, statistics

# columns of further modalities for the stays of a variant: surviving stays and events before cleaning -> values by stay
Further = Callable[[str, pd.DataFrame, pd.DataFrame], dict[str, dict[int, Any]]]


def write_truth(folder: Path, tables: Tables, events: pd.DataFrame, further: Further) -> dict[str, Any]:
    """Writes ``stays.parquet``, ``series_{v}.npy`` and ``statistics_{v}.json`` for both variants.

    Args:
        folder: the existing folder ``truth/``.
        tables: the small tables.
        events: events of the three event tables, see ``kept_events``.
        further: returns the columns of other modalities.

    Returns:
        Content of ``truth.json``: ``flow`` and ``dropped_events`` by variant, ``splits`` and ``subjects_in_no_list``.
    """
    left = first_steps(tables)
    adults = left[4]
    kept, drops = kept_events(events, adults)
    everyone = tables.icustays.set_index("stay_id").sort_index()
    truth = everyone[["subject_id", "hadm_id"]].join(splits(everyone["subject_id"], tables))
    report: dict[str, Any] = {"flow": {}, "dropped_events": {}}
    with Progress("", len(VARIANTS), "variant") as progress:
        for variant in progress.each(VARIANTS):
            values, null = cleaned(kept, tables.edition, variant)
            window = in_window(values, left[6], variant)
            steps = [*left, left[6][left[6]["stay_id"].isin(window["stay_id"])]]
            survivors = steps[7].sort_values("stay_id")
            report["flow"][variant] = [{"step": step, "stays": len(stays)} for step, stays in zip(STEPS, steps, strict=True)]
            report["dropped_events"][variant] = drops | {"null_after_cleaning": null, "values": len(values)}
            truth["last_step"] = sum(truth.index.isin(stays["stay_id"]).astype(int) for stays in steps)
            truth[f"{variant}_survives"] = truth.index.isin(survivors["stay_id"])
            labels = {"in_hospital_mortality": mortality(adults, variant), "readmission": readmission(adults, tables.admissions, variant)}
            for task, label in labels.items():
                by_stay = label.astype(int).set_axis(adults["stay_id"])
                truth[f"{variant}_{task}"] = by_stay.reindex(truth.index).where(truth[f"{variant}_survives"], -1).fillna(-1).astype("int8")
            for column, by_id in further(variant, survivors, kept).items():
                truth[column] = pd.Series([by_id.get(stay) for stay in truth.index.tolist()], index=truth.index, dtype=object)
            series = matrices(window, survivors["stay_id"].to_numpy())
            np.save(folder / f"series_{variant}.npy", series)
            _write_statistics(folder, variant, series, truth.loc[survivors["stay_id"]])
    truth.reset_index().to_parquet(folder / "stays.parquet", index=False)
    listed = set(tables.test["subject_id"]) | set(tables.valid["subject_id"])
    report["subjects_in_no_list"] = int((~everyone["subject_id"].drop_duplicates().isin(listed)).sum())
    report["splits"] = {column: truth[column][truth["last_step"] == 8].value_counts().to_dict() for column in ("split", "split_lists")}
    return report


def _write_statistics(folder: Path, variant: str, series: np.ndarray, truth: pd.DataFrame) -> None:
    fits = ("train", "valid") if variant == "released" else ("train",)
    columns = {"hash": "split", "lists": "split_lists"}
    found = {name: statistics(series, truth[column].isin(fits).to_numpy(), variant) for name, column in columns.items()}
    (folder / f"statistics_{variant}.json").write_text(json.dumps(found, indent=1) + "\n")


def write_summary(folder: Path, truth: dict[str, Any], dirt: dict[str, int], files: list[str]) -> None:
    """Writes ``truth.json``: the counts, the number of injected errors by kind, and the raw files."""
    text = json.dumps(truth | {"dirt": dict(sorted(dirt.items())), "files": sorted(files)}, indent=1)
    (folder / "truth.json").write_text(text + "\n")
