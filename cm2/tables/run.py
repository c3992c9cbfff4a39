"""A table from beginning to end: plan, train what is missing, compute, write."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from joblib import delayed
from numpy.typing import NDArray

from cm2.cohorts import Cohort, load_cohort
from cm2.config import Config
from cm2.progress import Progress, quiet_libraries
from cm2.runs.provenance import provenance
from cm2.runs.run import Run
from cm2.runs.store import RunStore
from cm2.tables.contract import TableKind, kind_of
from cm2.tables.entries import Entry
from cm2.tables.loading import load_table
from cm2.tables.planning import TablePlan, check_methods, configurations, places, require, resolve
from cm2.tables.predictions import file_name
from cm2.tables.recomputation import check_folder, earlier_runs, keep_predictions, keeps_predictions, kept_tables, with_kept
from cm2.tables.release import released
from cm2.tables.result import ENDINGS, TableResult, read, write
from cm2.tables.scores import SCORES, write_scores
from cm2.tables.scores import file_name as scores_name
from cm2.tables.spec import TableSpec
from cm2.tables.text import markdown


def table(
    name: str | int | Path,
    cohort: Cohort | Path | str,
    profile: str = "quick",
    seeds: int = 2,
    jobs: int = 1,
    settings: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    tasks: Sequence[str] = (),
    store: RunStore | None = None,
    out: Path | str | None = None,
    progress: bool = True,
) -> TableResult:
    """A table of the paper on a cohort; runs already in the store are reused, the others are trained.

    An interrupted call resumes where it stopped, and tables share runs. A table of results also takes the predictions of runs from the
    tables in ``out`` that share them, so it can be extended by seeds, tasks and rows in several calls.

    Args:
        name: 1 to 11, the name of another table, or the path of a TOML file; see ``cm2.tables.load_table``.
        cohort: a prepared cohort or its folder.
        profile: see ``Config.from_profile``.
        seeds: number of seeds, from 0 on.
        jobs: number of runs trained in parallel.
        settings: fields to override in every run, by dotted name; the table's rows and sections take precedence.
        only: labels of the rows wanted; empty: all.
        tasks: the tasks wanted, by heading or label; empty: all of the cohort's.
        store: default ``RunStore()``.
        out: folder that receives ``table-N`` as ``.csv``, ``.json`` and ``.md``, and the test predictions of a table of results
            (``cm2.tables.predictions``) unless the cohort is credentialed; with ``only`` the files are named ``table-N-LABEL`` and
            leave those of the whole table alone. None writes nothing.
        progress: whether to show progress; see ``cm2.progress``.

    Raises:
        ValueError: before any training: an unknown table, row, task, method or option, a cohort without the table's modalities, or a
            results file of another version in ``out``.
    """
    spec, out = load_table(name), None if out is None else Path(out)
    kind = kind_of(spec.kind)
    with Progress(f"table {spec.name}", show=progress):
        cohort = cohort if isinstance(cohort, Cohort) else load_cohort(cohort)
        stem = stem_of(spec, only)
        # read before training: a file of another version is an error now, not after hours of work
        stored = read(out / f"{stem}.json") if out is not None and (out / f"{stem}.json").is_file() else None
        if out is not None and kind.predicted:
            check_folder(out, cohort.checksum)
        store = store or RunStore()
        if kind.trained:
            plan = resolve(spec, cohort, store, profile, seeds, settings, only, tasks)
            plan = with_kept(plan, out) if out is not None and kind.predicted else plan
            check_methods(plan.entries, cohort, store, plan.runs.keys() - plan.untrained.keys())
            plan = kind.able(plan)
            fit_entries(plan.entries, cohort, store, jobs, plan.untrained)
        else:
            plan = TablePlan(spec, cohort, store, *require(spec, cohort))
        beside = [] if out is None else [other for path, other in kept_tables(out) if path.stem != stem]
        current = stored is not None and kind.trained and stored.key == plan.key
        known = stored is not None and current and _scored(stored, out)
        result, scores = (stored, {}) if stored is not None and known else _computed(kind, plan, jobs, stem, beside, out)
        if out is not None and (result is not stored or not _whole(result, out, stem)):
            if keeps_predictions(result):  # before the table, which is then never without them
                keep_predictions(plan, result, out, stem)
            if SCORES in result.provenance and scores:
                write_scores(out / result.provenance[SCORES], scores)
            write(result, markdown(result), out, stem)
    return result


def stem_of(spec: TableSpec, only: Sequence[str] = ()) -> str:
    """Stem of a table's files; with the labels of the rows wanted, if not all are."""
    return "-".join([spec.file, *(re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") for label in only)])[:100]


def fit_entries(
    entries: Sequence[Entry], cohort: Cohort, store: RunStore, jobs: int = 1, wanted: Collection[str] | None = None
) -> dict[str, Run]:
    """Every run of a plan by the digest of its configuration; those missing from the store are trained.

    The first seed of all configurations comes before the second of any, which gives an early estimate of the time left.

    Args:
        entries: see ``plan``.
        cohort: a prepared cohort.
        store: where runs are found and stored.
        jobs: number of runs trained in parallel, through joblib's backend.
        wanted: digests of the configurations whose runs are needed; None: all.
    """
    configs = configurations(entries)
    needed = [config for digest, config in configs.items() if wanted is None or digest in wanted]
    missing = [config for config in needed if store.find(config, cohort) is None]
    # reversed: a run that several rows share is named after the first of them
    labels = {c.digest(): f"{entry.row.label} {entry.task}" for entry in reversed(entries) for c in entry.configs}
    with Progress("", len(missing), "run") as progress:
        progress.parallel([delayed(_fit)(store, config, cohort, labels[config.digest()]) for config in missing], jobs)
    return places(configs, cohort, store)


def _fit(store: RunStore, config: Config, cohort: Cohort, label: str) -> None:
    with warnings.catch_warnings(), Progress(label):
        quiet_libraries()
        try:
            store.fit(config, cohort)
        except Exception as error:
            error.add_note(f"while training {config.method} for {config.task}, seed {config.seed}")
            raise


def _whole(result: TableResult, out: Path, stem: str) -> bool:
    """Whether all files of a stored table are there."""
    names = [f"{stem}.{ending}" for ending in ENDINGS]
    return all((out / name).is_file() for name in [*names, *([result.provenance["predictions"]] if keeps_predictions(result) else [])])


def _scored(result: TableResult, out: Path | None) -> bool:
    """Whether the scores that a stored table names are there, which are found only by computing the table."""
    return out is None or SCORES not in result.provenance or (out / result.provenance[SCORES]).is_file()


def _computed(
    kind: TableKind, plan: TablePlan, jobs: int, stem: str, beside: Sequence[TableResult], out: Path | None
) -> tuple[TableResult, dict[str, NDArray]]:
    spec, source = plan.spec, {**provenance(plan.cohort), **plan.source, **kind.source(plan)}
    if out is not None and (earlier := earlier_runs(plan, out)):
        source["earlier"] = earlier
    found, scores = kind.computed(plan, jobs)
    if out is not None and not plan.cohort.credentialed:  # nothing about a single stay of a credentialed cohort leaves the machine
        source |= {"predictions": file_name(plan.cohort.checksum)} if kind.predicted else {}
        source |= {SCORES: scores_name(stem)} if scores else {}
    same = [other for other in beside if other.provenance.get("cohort_checksum") == plan.cohort.checksum]
    cells = tuple(released(found, plan.cohort, same))
    return TableResult(spec.name, spec.title, spec.kind, spec.reference if kind.trained else "", cells, source, plan.key), scores
