"""The phases that write, small enough to be interrupted often: preparation, training, table, book."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks._kills import Phase
from cm2 import Config, RunStore, load_cohort, tables
from cm2.book.cache import Cache
from cm2.book.chapters import Chapter
from cm2.cohorts import Cohort
from cm2.results import record

TINY = {"train.epochs": 2, "train.patience": 2, "model.embedding_dim": 4, "encoder.series.hidden": 4}


def preparation(prepare: Callable[[Path], object]) -> Phase:
    """A cohort, prepared into the folder that is given: every file of it."""
    return Phase("preparation", lambda folder: prepare(folder / "c"), _cohort)


def training(cohort: Cohort, task: str, settings: Mapping[str, Any]) -> Phase:
    """A run of two epochs: predictions, history and metrics to 1e-5."""
    config = Config.from_profile("smoke", TINY | {"task": task} | dict(settings))
    return Phase("training", lambda folder: RunStore(folder / "runs").fit(config, cohort, progress=False), _runs)


def table(cohort: Cohort, before: Path, task: str, settings: Mapping[str, Any]) -> Phase:
    """Two rows of a table whose runs are in the store: its files."""

    def call(folder: Path) -> object:
        store, out = RunStore(folder / "runs"), folder / "out"
        return tables.table(6, cohort, "smoke", 2, 1, TINY | dict(settings), ("Frank",), (task,), store, out, progress=False)

    if not before.exists():
        before.mkdir(parents=True)
        call(before)
        shutil.rmtree(before / "out")
    return Phase("table", call, lambda folder: _files(folder / "out"), before)


def book() -> Phase:
    """A chapter's entry in the cache, over a damaged one, and a recorded number."""
    chapter = Chapter("one", Path("one.ipynb"), "book/one")

    def call(folder: Path) -> object:
        cache = Cache(folder / "cache")
        cache.lock_path(chapter, "k" * 64)
        record("one", "number", 1.5, ".1f", {"machine": "m"}, folder / "results")
        if cache.get(chapter, "k" * 64) is not None:
            return None
        work = cache.new_work_folder(chapter, "k" * 64)
        (work / "results").mkdir()
        for name in ("notebook.ipynb", "results/one.json"):
            (work / name).write_text(json.dumps({"cells": ["x" * 5000]}), encoding="utf-8")
        return cache.store(chapter, "k" * 64, work, {"seconds": 1})

    return Phase("book", call, lambda folder: (_files(folder), Cache(folder / "cache").get(chapter, "k" * 64) is not None))


def _files(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _cohort(folder: Path) -> Any:
    return load_cohort(folder / "c").checksum, _files(folder)


def _runs(folder: Path) -> Any:
    (run,) = RunStore(folder / "runs").runs()
    assert not run.damage()
    return run.path.name, run.predictions, run.history, pd.DataFrame(run.metrics)


def equal(first: Any, second: Any) -> bool:
    """Whether two contents agree, numbers of a training to 1e-5."""
    if isinstance(first, tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    if isinstance(first, pd.DataFrame):
        try:
            pd.testing.assert_frame_equal(first, second, check_exact=False, rtol=1e-5, atol=1e-5)
        except AssertionError:
            return False
        return True
    return bool(first == second)
