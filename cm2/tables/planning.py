"""From a table and a cohort to the runs it needs; errors are raised before anything is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from cm2.cohorts import SPLITS, Cohort
from cm2.config import Config
from cm2.config.names import choose
from cm2.errors import InputError
from cm2.methods import METHODS, build_method, tokenised
from cm2.runs.run import Run
from cm2.runs.start import check_outcomes
from cm2.runs.store import RunStore
from cm2.tables.entries import Entry, entries_of, masks_nothing
from cm2.tables.predictions import Predicted, column_of, predicted
from cm2.tables.result import FORMAT
from cm2.tables.spec import Role, Row, TableSpec, choose_modalities, needs, role_of, roles
from cm2.tasks import Task


@dataclass(frozen=True)
class TablePlan:
    """Everything a table is computed from, resolved once, before any training."""

    spec: TableSpec
    cohort: Cohort
    store: RunStore
    """Where its runs are found and stored."""
    role: Role
    """How tables use the cohort."""
    modalities: tuple[str, ...]
    """The cohort's modalities that the table uses."""
    profile: str = ""
    """Profile of its runs; empty where no runs are needed."""
    seeds: int = 0
    """Number of seeds: 0 to seeds - 1."""
    entries: tuple[Entry, ...] = ()
    """Every row of every section, for each task."""
    cannot: Mapping[str, str] = field(default_factory=dict)
    """Reasons for the rows left out, by label."""
    version: int = 1
    """Of the way in which the table's kind computes numbers."""
    earlier: Mapping[str, Predicted] = field(default_factory=dict)
    """Predictions kept in the folder that receives the table, by column of their file: these runs are not trained again."""

    @cached_property
    def runs(self) -> dict[str, Run]:
        """Every run's folder in the store, by the digest of its configuration, trained or not."""
        return places(configurations(self.entries), self.cohort, self.store)

    @cached_property
    def predictions(self) -> dict[str, Predicted]:
        """Predictions of every run for the table's split, by column of the file that keeps them."""
        split, runs = self.spec.split, self.runs.values()
        return {column: self.earlier.get(column) or predicted(run, split) for run in runs for column in [column_of(run, split)]}

    @cached_property
    def untrained(self) -> dict[str, Config]:
        """Configurations whose predictions are not kept, by digest."""
        split = self.spec.split
        return {d: c for d, c in configurations(self.entries).items() if column_of(self.runs[d], split) not in self.earlier}

    @cached_property
    def key(self) -> str:
        """Hash of the runs, the table and the way its numbers are computed; empty where no runs are needed."""
        if not self.profile:
            return ""
        spec = self.spec
        parts = [[e.section.label, e.row.label, e.task, [self.runs[c.digest()].path.name for c in e.configs]] for e in self.entries]
        way = [] if self.version == 1 else [self.version]
        more = [getattr(spec, name) for name in ("split", "metrics") if getattr(spec, name) != getattr(TableSpec, name)]
        more += [dict(spec.margins)] if spec.margins else []
        text = json.dumps([FORMAT, spec.title, spec.kind, spec.reference, spec.margin, parts, *way, *more])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """What is predicted, by heading."""
        return {entry.task: self.cohort.task(entry.configs[0].task) for entry in self.entries}

    def metrics(self, heading: str) -> tuple[str, ...]:
        """Names of the metrics that a table of results shows of a task; see `cm2.tables.spec.TableSpec.metrics`."""
        return metrics_of(self.spec, self.tasks[heading])

    @property
    def masked(self) -> tuple[str, ...]:
        """Labels of sections in which a seed also decides what is masked, or which outcomes are known, for every row alike.

        What a seed shares between rows cancels in their difference, so it is taken seed by seed.
        """
        shared = (e.section.label for e in self.entries for c in e.configs if c.absent or c.absent_test or c.labels < 1)
        return tuple(dict.fromkeys(shared))

    @property
    def source(self) -> dict[str, Any]:
        """Provenance of the numbers, in addition to cohort and machine; empty where no runs are needed."""
        if not self.profile:
            return {}
        others = {heading: {"name": task.name, **task.described()} for heading, task in self.tasks.items() if task.identity}
        return {
            "profile": self.profile,
            "seeds": self.seeds,
            **({"cannot": dict(self.cannot)} if self.cannot else {}),
            "modalities": list(self.modalities),
            "masked": list(self.masked),
            "margin": self.spec.margin,
            **({"margins": dict(self.spec.margins)} if self.spec.margins else {}),
            "split": self.spec.split,
            **({"tasks": others} if others else {}),
            "versions": {config.method: METHODS[config.method].version for entry in self.entries for config in entry.configs},
            "configurations": {run.path.name: digest for digest, run in self.runs.items()},
        }


def plan(
    spec: TableSpec,
    cohort: Cohort,
    profile: str = "quick",
    seeds: int = 2,
    settings: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    tasks: Sequence[str] = (),
) -> list[Entry]:
    """The configurations of a table.

    In order of increasing precedence: the profile, the section's setting on this cohort, ``settings``, the section, the row.

    Args:
        spec: see ``load_table``.
        cohort: a prepared cohort.
        profile: see ``Config.from_profile``.
        seeds: number of seeds: 0 to seeds - 1.
        settings: fields to override in every run, by dotted name.
        only: labels of the rows wanted; empty: all. The reference row is always included.
        tasks: the tasks wanted, by heading or label; empty: all of the cohort's.

    Raises:
        ValueError: a cohort without the table's modalities, an unknown row, task, method or option, no seed, or a split without both
            classes.
    """
    return list(resolve(spec, cohort, RunStore(), profile, seeds, settings, only, tasks).entries)


def resolve(
    spec: TableSpec,
    cohort: Cohort,
    store: RunStore,
    profile: str = "quick",
    seeds: int = 2,
    settings: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    tasks: Sequence[str] = (),
) -> TablePlan:
    """The plan of a table computed from runs. Arguments and errors are those of ``plan``; ``store`` holds the runs."""
    if seeds < 1:
        raise InputError(f"seeds: expected 1 or more, got {seeds}")
    role, modalities = require(spec, cohort)
    if partial := next((s for s in spec.section if masks_nothing(s, role, modalities, cohort, settings or {})), None):
        raise InputError(
            f"no stay of the cohort {cohort.name} lacks one of {', '.join(modalities)}: {partial.label} would be the same as matched; "
            f"choose what to mask, for example --set absent.{modalities[-1]}=0.75 --set absent_test.{modalities[-1]}=0.75"
        )
    entries = entries_of(spec, role, modalities, profile, seeds, _rows(spec, only), _tasks(role, cohort, tasks), settings or {})
    _check_splits(entries, cohort)
    _check_labels(entries, cohort)
    _check_metrics(spec, {cohort.task(entry.configs[0].task) for entry in entries})
    return TablePlan(spec, cohort, store, role, modalities, profile, seeds, tuple(entries))


def metrics_of(spec: TableSpec, task: Task) -> tuple[str, ...]:
    """The metrics asked for that a task has; where it has none, those that it shows by itself."""
    known = task.metrics
    return tuple(name for name in spec.metrics if name in known) or task.shown


def configurations(entries: Iterable[Entry]) -> dict[str, Config]:
    """Every configuration once, by its digest; the first seed of all of them comes before the second of any."""
    return {c.digest(): c for c in sorted((c for entry in entries for c in entry.configs), key=lambda c: c.seed)}


def places(configs: Mapping[str, Config], cohort: Cohort, store: RunStore) -> dict[str, Run]:
    """Folders of the runs of these configurations in the store, trained or not."""
    return {digest: Run(store.root / store.key(config, cohort)) for digest, config in configs.items()}


def require(spec: TableSpec, cohort: Cohort) -> tuple[Role, tuple[str, ...]]:
    """The cohort's role and the modalities the table uses.

    Raises:
        ValueError: the cohort lacks them; the message names the cohorts that have them.
    """
    role = role_of(cohort)
    modalities = choose_modalities(spec, role)
    if modalities is None:
        can = ", ".join(name for name, other in roles().items() if choose_modalities(spec, other))
        has = ", ".join(f"{name} ({kind})" for name, kind in zip(role.modalities, role.kinds, strict=True))
        raise InputError(f"table {spec.name} needs {needs(spec)}, the cohort {cohort.name} has {has}; cohorts with what it needs: {can}")
    return role, modalities


def check_methods(entries: Sequence[Entry], cohort: Cohort, store: RunStore, earlier: Collection[str] = ()) -> None:
    """Builds every method with a run to train once: one that does not fit the cohort fails here, before the first run is trained.

    Args:
        entries: rows of a plan.
        cohort: a prepared cohort.
        store: where runs are found.
        earlier: digests of configurations whose runs are not needed.
    """
    seen: set[str] = set()
    for entry in entries:
        # of binary tasks a method is built the same
        anything = f"{replace(entry.configs[0], task='')}{cohort.task(entry.configs[0].task).identity}"
        if anything in seen or all(config.digest() in earlier or store.find(config, cohort) for config in entry.configs):
            continue
        seen.add(anything)
        try:
            build_method(entry.configs[0], tokenised(cohort, entry.configs[0]))
        except ValueError as error:
            of = f", task {entry.task}" if cohort.task(entry.configs[0].task).identity else ""
            raise InputError(f"row {entry.row.label}{of}: {error}") from None


def _rows(spec: TableSpec, only: Sequence[str]) -> list[Row]:
    labels = [row.label for row in spec.row]
    for label in only:
        if label not in labels:
            raise InputError(f"table {spec.name} has no row {label!r}; {choose(label, labels)}")
    return [row for row in spec.row if not only or row.label in (*only, spec.reference)]


def _tasks(role: Role, cohort: Cohort, tasks: Sequence[str]) -> dict[str, str]:
    # a role has the paper's tasks; others are computed where they are asked for
    every = {**role.tasks, **{name: name for name in cohort.tasks if name not in role.tasks.values()}}
    known = [*every, *role.tasks.values()]
    for task in tasks:
        if task not in known:
            raise InputError(f"the cohort {cohort.name} has no task {task!r}; {choose(task, known)}")
    return {heading: task for heading, task in every.items() if {heading, task} & set(tasks)} if tasks else dict(role.tasks)


def _check_labels(entries: Sequence[Entry], cohort: Cohort) -> None:
    """Checks that enough outcomes are left where a share of them is known."""
    for config in {c.digest(): c for entry in entries for c in entry.configs if c.labels < 1}.values():
        split = partial(cohort.with_modalities(config.modalities).split, task=config.task, matched=config.matched)
        check_outcomes(config, cohort, {name: split(name).with_labels(config.labels, config.seed) for name in ("train", "valid")})


def _check_metrics(spec: TableSpec, tasks: Collection[Task]) -> None:
    """Checks that one of the metrics that a table asks for is that of a task."""
    known = list(dict.fromkeys(name for task in tasks for name in task.metrics))
    if spec.metrics != TableSpec.metrics and not set(spec.metrics) & set(known):
        raise InputError(f"table {spec.name}: no task has the metric {spec.metrics[0]!r}; {choose(spec.metrics[0], known)}")


def _check_splits(entries: Sequence[Entry], cohort: Cohort) -> None:
    """Checks that every split has both outcomes, or what else the task needs, once for each setting."""
    settings = {(c.task, c.modalities, c.matched): replace(c, labels=1.0) for entry in entries for c in entry.configs[:1]}
    for config in settings.values():
        split = partial(cohort.with_modalities(config.modalities).split, task=config.task, matched=config.matched)
        check_outcomes(config, cohort, {name: split(name) for name in SPLITS})
