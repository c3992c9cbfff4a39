"""Hyper-parameter search on the validation stays: Optuna over a grid, resumable, with parallel runs.

References:
    Akiba, Sano, Yanase, Ohta, Koyama (2019), Optuna: a next-generation hyperparameter optimization framework, KDD
    Bergstra, Bardenet, Bengio, Kégl (2011), Algorithms for hyper-parameter optimization, NeurIPS (the tree-structured Parzen estimator)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from filelock import Timeout

from cm2.cohorts import SPLITS, Cohort
from cm2.cohorts.disclosure import SMALLEST
from cm2.config import Config
from cm2.config.checks import positive
from cm2.config.files import read_toml
from cm2.config.schema import plain_name
from cm2.durable import Lock, write_json, write_text
from cm2.environment.extras import require
from cm2.errors import InputError, spelled
from cm2.escape import csv
from cm2.methods import build_method, tokenised
from cm2.progress import Progress
from cm2.results import home
from cm2.runs.provenance import provenance
from cm2.runs.start import check_outcomes
from cm2.runs.store import RunStore, fit_all
from cm2.tasks import Task

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial

GRID = Path(__file__).with_suffix(".toml")
SCHEMA = {"parameter?": [{"name": plain_name, "fields": [str], "values": [(float, str, bool)], "methods?": [str]}]}
"""What a grid's TOML file holds; see `cm2.config.schema`."""


@dataclass(frozen=True)
class Parameter:
    """One axis of the grid."""

    name: str
    """Name in reports."""
    fields: tuple[str, ...]
    """Fields of the configuration that take its value, by dotted name."""
    values: tuple[float, ...]
    """Values on the grid."""
    methods: tuple[str, ...] = ()
    """Methods that have this parameter; empty: all."""


@dataclass(frozen=True)
class Found:
    """Result of a search."""

    trials: pd.DataFrame
    """One row per cell tried, best first: its parameters, ``valid_auroc`` or the task's criterion (mean over the seeds), ``runs``."""
    settings: dict[str, Any]
    """The best cell as overrides of the profile, by dotted name."""
    cells: int
    """Number of cells of the grid."""
    provenance: dict[str, Any]
    """Cohort, profile, method, task, versions, device, date."""


def read_grid(path: Path = GRID, method: str = "cm2") -> list[Parameter]:
    """Reads the axes of a grid that apply to a method.

    Raises:
        ValueError: a file that is missing or has no parameter, or a parameter without fields or values.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there; a grid is a TOML file with [[parameter]] entries, as {GRID.name} of the package")
    entries = read_toml(path, SCHEMA).get("parameter", [])
    for entry in entries:
        if not set(entry) <= {"name", "fields", "values", "methods"} or not entry["fields"] or not entry["values"]:
            raise InputError(f"{path.name}: a parameter has a name, fields and values, and may have methods; got {entry!r:.80}")
    axes = [Parameter(e["name"], tuple(e["fields"]), tuple(e["values"]), tuple(e.get("methods", ()))) for e in entries]
    chosen = [axis for axis in axes if not axis.methods or method in axis.methods]
    if not chosen:
        raise InputError(f"{path.name}: no parameter is one of the method {method}")
    return chosen


def search(
    cohort: Cohort,
    method: str = "cm2",
    task: str = "in_hospital_mortality",
    profile: str = "quick",
    trials: int = 50,
    jobs: int = 1,
    settings: Mapping[str, Any] | None = None,
    seeds: int = 1,
    grid: Path = GRID,
    store: RunStore | None = None,
    folder: Path | None = None,
    progress: bool = True,
) -> Found:
    """Tries cells of a grid and returns the one with the best validation AUROC, or the task's own criterion. No test prediction is read.

    A second call with more trials continues the search, also after a killed one, whose runs resume at their last epoch. Runs are saved
    in the run store, where a table finds those of the best cell.

    Args:
        cohort: a prepared cohort.
        method: name of the method.
        task: label to predict.
        profile: profile for all fields that the grid does not change; see ``Config.from_profile``.
        trials: total number of distinct cells to try, earlier calls included.
        jobs: number of parallel runs.
        settings: fields to override in every run, by dotted name.
        seeds: number of runs per cell, over which the validation metric is averaged.
        grid: see ``read_grid``.
        store: default ``RunStore()``.
        folder: folder of the searches' state; default ``home() / "searches"``.
        progress: show the progress; see ``cm2.progress``.

    Raises:
        MissingExtraError: Optuna is not installed.
        ValueError: another process runs the same search, an unknown method, task, field or value, or no cell or seed to try.
    """
    require("optuna")
    positive(trials=trials, seeds=seeds)
    axes = read_grid(grid, method)
    base = dict(settings or {}) | {"method": method, "task": task}
    cells = math.prod(len(axis.values) for axis in axes)
    config, some = Config.from_profile(profile, base), {axis.name: axis.values[0] for axis in axes}
    # a wrong method, task, field or value fails here, before any run starts
    build_method(config, tokenised(cohort, config))
    predicts = cohort.task(task)
    _check_shown(cohort, config)
    for name, value in ((axis.name, value) for axis in axes for value in axis.values):
        Config.from_profile(profile, base | _overrides(axes, some | {name: value}))
    store, target = store or RunStore(), min(trials, cells)
    key = _key(cohort, config, axes, seeds)
    shown = Progress("search", target, "cell", show=progress)
    with _study(folder or home() / "searches", key, config.seed, predicts) as study, shown:
        done = _recover(study, axes)
        shown.skip(min(len(done), target))
        while len(done) < target:
            batch = _ask(study, axes, done, min(jobs, target - len(done)))
            configs = [config for trial in batch for config in _configs(profile, base, axes, trial.params, seeds)]
            shown.step = len(batch)
            runs = fit_all(configs, cohort, store, jobs, True)
            for place, trial in enumerate(batch):
                of_trial = runs[place * seeds : (place + 1) * seeds]
                trial.set_user_attr("runs", [run.path.name for run in of_trial])
                value = float(np.mean([run.metrics["valid"][predicts.criterion] for run in of_trial]))
                study.tell(trial, value)
                done[_cell(axes, trial.params)] = value
                shown.advance()
        frame = _frame(study, axes, predicts)
    best = {axis.name: frame.iloc[0][axis.name] for axis in axes}
    source = provenance(cohort) | {"profile": profile, "method": method, "task": task, "seeds": seeds, "settings": dict(settings or {})}
    return Found(frame, _overrides(axes, best), cells, source)


def _check_shown(cohort: Cohort, config: Config) -> None:
    """Raises ValueError where nothing can be learnt, or where the validation metric that compares cells may not be shown."""
    found = {split: cohort.split(split, config.task, matched=config.matched) for split in SPLITS}
    check_outcomes(config, cohort, found)
    stays = found["valid"]
    if cohort.credentialed and stays.task.smallest(stays.label.numpy()) < SMALLEST:
        sides = "a positive, or a negative," if stays.task.type == "binary" else "some class, label or event of"
        raise InputError(
            f"{cohort.name}: fewer than {SMALLEST} of the validation stays have {sides} {config.task}: a search would choose by chance;"
            " prepare the cohort with more stays"
        )


def write(found: Found, out: Path) -> list[Path]:
    """Writes ``search-METHOD-TASK`` as CSV (every cell tried) and JSON (the best one and its provenance)."""
    stem = f"search-{found.provenance['method']}-{found.provenance['task']}"
    objective = next(str(name) for name in found.trials if str(name).startswith("valid_"))
    best = {objective: float(found.trials.iloc[0][objective]), "tried": len(found.trials), "cells": found.cells}
    content = {"settings": found.settings, **best, "provenance": found.provenance}
    return [
        write_text(out / f"{stem}.csv", csv(found.trials).to_csv(index=False, float_format="%.6g")),
        write_json(out / f"{stem}.json", content, ensure_ascii=False),
    ]


def _configs(profile: str, base: Mapping[str, Any], axes: Sequence[Parameter], cell: Mapping[str, float], seeds: int) -> list[Config]:
    config = Config.from_profile(profile, {**base, **_overrides(axes, cell)})
    return [replace(config, seed=config.seed + offset) for offset in range(seeds)]


def _overrides(axes: Sequence[Parameter], cell: Mapping[str, float]) -> dict[str, Any]:
    return {name: _plain(cell[axis.name]) for axis in axes for name in axis.fields}


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _cell(axes: Sequence[Parameter], params: Mapping[str, float]) -> tuple[float, ...]:
    return tuple(params[axis.name] for axis in axes)


def _key(cohort: Cohort, config: Config, axes: Sequence[Parameter], seeds: int) -> str:
    """Key of the search: a call with the same cohort, configuration, grid and seeds continues it."""
    text = json.dumps([cohort.checksum, config.digest(), [[a.name, a.fields, a.values] for a in axes], seeds])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def _study(folder: Path, key: str, seed: int, task: Task) -> Iterator[Study]:
    """The state of a search, locked to one process at a time."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.study import StudyDirection

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with Lock(folder / f".{key}.lock", timeout=0):
            storage = JournalStorage(JournalFileBackend(str(folder / f"{key}.log")))
            direction = StudyDirection.MAXIMIZE if task.chooses.higher else StudyDirection.MINIMIZE
            study = optuna.create_study(storage=storage, study_name=key, direction=direction, load_if_exists=True)
            # a resumed search must not draw the same cells again
            study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), constant_liar=True)
            yield study
    except Timeout:
        raise InputError(
            f"another process continues this search ({folder / key}.log); wait for it, or raise its {spelled('jobs=', '--jobs')}"
        ) from None


def _recover(study: Study, axes: Sequence[Parameter]) -> dict[tuple[float, ...], float]:
    """Values of the cells tried before; cells left unfinished by a killed call are enqueued first."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    return {_cell(axes, trial.params): trial.value for trial in complete if trial.value is not None}


def _ask(study: Study, axes: Sequence[Parameter], done: Mapping[tuple[float, ...], float], size: int) -> list[Trial]:
    """Trials in new cells; for a cell already tried the sampler gets the known value, and a random new cell is enqueued."""
    from optuna.distributions import BaseDistribution, CategoricalDistribution
    from optuna.trial import TrialState

    space: dict[str, BaseDistribution] = {axis.name: CategoricalDistribution(axis.values) for axis in axes}
    batch: dict[tuple[float, ...], Trial] = {}
    while len(batch) < size:
        trial = study.ask(space)
        cell = _cell(axes, trial.params)
        if cell not in done and cell not in batch:
            batch[cell] = trial
            continue
        if cell in done:
            study.tell(trial, done[cell])
        else:
            study.tell(trial, state=TrialState.FAIL)
        study.enqueue_trial(_untried(axes, {*done, *batch}, trial.number))
    return list(batch.values())


def _untried(axes: Sequence[Parameter], known: set[tuple[float, ...]], seed: int) -> dict[str, float]:
    """A random cell that has not been tried."""
    shape = [len(axis.values) for axis in axes]
    for flat in np.random.default_rng(seed).permutation(math.prod(shape)):
        values = tuple(axis.values[i] for axis, i in zip(axes, np.unravel_index(flat, shape), strict=True))
        if values not in known:
            return dict(zip((axis.name for axis in axes), values, strict=True))
    raise InputError("every cell of the grid was tried")


def _frame(study: Study, axes: Sequence[Parameter], task: Task) -> pd.DataFrame:
    from optuna.trial import TrialState

    objective = f"valid_{task.criterion}"
    rows = [
        {axis.name: trial.params[axis.name] for axis in axes} | {objective: trial.value, "runs": " ".join(trial.user_attrs["runs"])}
        for trial in study.get_trials(states=(TrialState.COMPLETE,))
        if "runs" in trial.user_attrs
    ]
    return pd.DataFrame(rows).sort_values(objective, ascending=not task.chooses.higher, kind="stable", ignore_index=True)
