"""Tables of what embeddings are good for beside the prediction: alignment (retrieval) and imputation.

Both look at the test stays as the cohort has them: what a run's ``absent_test`` takes away for the prediction is there, since a modality
can only be searched for, or compared with what fills it in, where it is known. The jobs hide modalities themselves.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from joblib import delayed
from torch import nn

from cm2.cohorts import Cohort
from cm2.evaluation.embeddings import Embedded, cannot_embed, cannot_score, embed_stays, law_of
from cm2.evaluation.imputation import impute_scores, spread, summarise
from cm2.evaluation.retrieval import cosine_standings, standings
from cm2.methods import build_method, tokenised
from cm2.metrics import Interval, mean_over_seeds
from cm2.progress import Progress, quiet_libraries
from cm2.runs.store import Run
from cm2.tables.planning import Entry
from cm2.tables.result import Cell
from cm2.tables.spec import TableSpec

RATES = (0.0, 0.25, 0.5, 0.75)
"""Of the other modalities of a stay, hidden completely at random; one of them is kept."""
POOL = 100
"""Candidates of a random set, the true one included."""
MOST = 1000
"""Stays that a job looks at; of more, a random sample."""


class Finding(NamedTuple):
    """One number of one run."""

    section: str
    row: str
    metric: str
    interval: Interval | None
    """None where there are too few stays."""
    n: int


def able(spec: TableSpec, entries: Sequence[Entry], cohort: Cohort) -> tuple[list[Entry], dict[str, str]]:
    """The entries whose method can do the table's job, and why the other rows cannot; nothing is trained.

    Raises:
        ValueError: none can, or one does not fit the cohort.
    """
    cannot: dict[str, str] = {}
    for entry in {entry.row.label: entry for entry in entries}.values():
        try:
            method = build_method(entry.configs[0], tokenised(cohort, entry.configs[0]))
        except ValueError as error:
            raise ValueError(f"row {entry.row.label}: {error}") from None
        if reason := CANNOT[spec.kind](method):
            cannot[entry.row.label] = reason
    left = [entry for entry in entries if entry.row.label not in cannot]
    if not left:
        reasons = "; ".join(f"{label} {reason}" for label, reason in cannot.items())
        raise ValueError(f"table {spec.name}: none of these rows can do it: {reasons}")
    return left, cannot


def embedding_cells(spec: TableSpec, entries: Sequence[Entry], runs: Mapping[str, Run], cohort: Cohort, jobs: int = 1) -> list[Cell]:
    """Every number of a table of alignment or imputation.

    Args:
        spec: the table.
        entries: those of ``able``.
        runs: by the digest of their configuration.
        cohort: that they were trained on.
        jobs: processes.
    """
    of = {config.digest(): entry.row.label for entry in entries for config in entry.configs}
    work = [delayed(_findings)(spec.kind, runs[digest], cohort, label) for digest, label in of.items()]
    with Progress("looking at embeddings", len(work), "run") as progress:
        found = dict(zip(of, progress.parallel(work, jobs), strict=True))
    several = len(spec.section) > 1
    cells: dict[tuple[str, str, str, str], Cell] = {}
    for entry in entries:
        prefix = f"{entry.section.label}: " if several else ""
        names = tuple(runs[config.digest()].path.name for config in entry.configs)
        for seeds in zip(*(found[config.digest()] for config in entry.configs), strict=True):
            cell = _cell(prefix + seeds[0].section, entry.task, seeds, names)
            cells.setdefault((cell.section, cell.row, cell.task, cell.metric), cell)
    order = {section: position for position, section in enumerate(dict.fromkeys(cell.section for cell in cells.values()))}
    return sorted(cells.values(), key=lambda cell: order[cell.section])


def _cell(section: str, task: str, seeds: Sequence[Finding], runs: tuple[str, ...]) -> Cell:
    """One number over the seeds; chance, which has no interval, belongs to no run."""
    first = seeds[0]
    if first.interval is None:
        return Cell(section, first.row, task, first.metric, None, n=first.n)
    if first.row == "chance":
        return Cell(section, first.row, task, first.metric, first.interval.estimate, n=first.n)
    values = tuple(finding.interval.estimate for finding in seeds)
    over = mean_over_seeds(values) if len(values) > 1 else first.interval
    bootstrap = tuple((finding.interval.low, finding.interval.high) for finding in seeds)
    estimate = {"value": over.estimate, "low": over.low, "high": over.high, "seeds": values, "bootstrap": bootstrap}
    return Cell(section, first.row, task, first.metric, n=first.n, runs=runs, **estimate)


def _findings(kind: str, run: Run, cohort: Cohort, label: str) -> list[Finding]:
    with warnings.catch_warnings():
        quiet_libraries()
        cohort = tokenised(cohort, run.config)
        method = run.load_method(cohort)
        stays = cohort.split("test", run.config.task, seed=run.config.seed, matched=run.config.matched)
        return list(JOB[kind](embed_stays(method, run.config, stays), method, label))


def _alignment(embedded: Embedded, method: nn.Module, label: str) -> Iterator[Finding]:
    """Every pair in both directions, in random sets and in the whole split; then each modality from all the others, thinned out."""
    names, present = embedded.names, embedded.present
    modalities = range(len(names))
    for source in modalities:
        for target in modalities:
            if source != target:
                given = present & (torch.arange(len(names)) == source)
                yield from _retrieved(embedded, method, label, f"{names[source]} to {names[target]}", given, target, whole=True)
    for target in modalities if len(names) > 2 else ():
        for rate in RATES:
            section = f"{names[target]} from the others, {rate:.0%} of them hidden"
            yield from _retrieved(embedded, method, label, section, embedded.hide(target, rate), target, whole=False)


def _retrieved(
    embedded: Embedded, method: nn.Module, label: str, section: str, given: torch.Tensor, target: int, whole: bool
) -> Iterator[Finding]:
    rows = embedded.stays(embedded.present[:, target] & given.any(dim=1), MOST)
    if len(rows) < 2:
        yield Finding(f"{section}, of all", label, "recall_1", None, len(rows))
        return
    z = embedded.z[rows]
    query = (z, given[rows], z[:, target], target)
    found = {} if cannot_score(method) else standings(law_of(method), *query)
    found["cosine"] = cosine_standings(*query)
    pools = {f"of {POOL}": POOL} if len(rows) > POOL else {}
    pools |= {"of all": None} if whole or not pools else {}
    for pool, among in pools.items():
        for metric, value in found["cosine"].chance(among).items():
            yield Finding(f"{section}, {pool}", "chance", metric, Interval(value, value, value), len(rows))
        for score, standing in found.items():
            for metric, interval in standing.summary(among).items():
                yield Finding(f"{section}, {pool}", f"{label}, {score}", metric, interval, len(rows))


def _imputation(embedded: Embedded, method: nn.Module, label: str) -> Iterator[Finding]:
    """Each modality filled in from the others, thinned out; where there is only one other, it is always kept."""
    law = law_of(method)
    for target, name in enumerate(embedded.names):
        for rate in RATES if len(embedded.names) > 2 else RATES[:1]:
            given = embedded.hide(target, rate)
            section = f"{name}, {rate:.0%} of the others hidden"
            rows = embedded.stays(embedded.present[:, target] & given.any(dim=1), MOST)
            if len(rows) < 2:
                yield Finding(section, label, "energy", None, len(rows))
                continue
            unit = float(spread(embedded.z[rows, target]))
            for how, scores in impute_scores(law, embedded.z[rows], given[rows], target).items():
                for metric, interval in (summarise(scores) | {"unit": Interval(unit, unit, unit)}).items():
                    yield Finding(section, f"{label}, {how}", metric, interval, len(rows))


def _cannot_impute(method: nn.Module) -> str:
    return cannot_embed(method) or cannot_score(method)


CANNOT: dict[str, Callable[[nn.Module], str]] = {"alignment": cannot_embed, "imputation": _cannot_impute}
JOB: dict[str, Callable[[Embedded, nn.Module, str], Iterator[Finding]]] = {"alignment": _alignment, "imputation": _imputation}
