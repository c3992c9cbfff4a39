"""Tables that evaluate embeddings beyond prediction: the common part of alignment (retrieval) and imputation.

Both use the test stays as the cohort has them and ignore a run's ``absent_test``: a modality can be retrieved, or compared with its
imputation, only where it was observed. The kinds mask modalities themselves.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

from joblib import delayed

from cm2.cohorts import Cohort
from cm2.evaluation.embeddings import Embedded, cannot_embed, embed_stays
from cm2.methods import Method, build_method, tokenised
from cm2.metrics import Interval, mean_over_seeds
from cm2.progress import Progress, quiet_libraries
from cm2.runs.store import Run
from cm2.tables.contract import TableKind
from cm2.tables.planning import TablePlan
from cm2.tables.result import Cell, TableResult
from cm2.tables.text import intervals

RATES = (0.0, 0.25, 0.5, 0.75)
"""Fractions of a stay's other modalities that are masked completely at random; at least one of them stays observed."""
MOST = 1000
"""Largest number of stays evaluated; of more, a random sample is taken."""


class Finding(NamedTuple):
    """One number of one run."""

    section: str
    row: str
    metric: str
    interval: Interval | None
    """None where there are too few stays."""
    n: int


class EmbeddingKind(TableKind):
    """An evaluation of every run's embeddings; a subclass sets ``name`` and ``asked`` and defines `findings`."""

    asked: ClassVar[str]
    """The question and the definition of the numbers, printed below the table."""

    @abstractmethod
    def findings(self, embedded: Embedded, method: Method, label: str) -> Iterator[Finding]:
        """Every number of one run.

        Args:
            embedded: the run's test stays.
            method: the trained method.
            label: label of its row.
        """

    def cannot(self, method: Method) -> str:
        """Why a method cannot be evaluated, as the end of a sentence; empty if it can."""
        return cannot_embed(method)

    def able(self, plan: TablePlan) -> TablePlan:
        """The plan without the rows whose method cannot be evaluated.

        Raises:
            ValueError: none can, or one does not fit the cohort.
        """
        cannot: dict[str, str] = {}
        for entry in {entry.row.label: entry for entry in plan.entries}.values():
            try:
                method = build_method(entry.configs[0], tokenised(plan.cohort, entry.configs[0]))
            except ValueError as error:
                raise ValueError(f"row {entry.row.label}: {error}") from None
            if reason := self.cannot(method):
                cannot[entry.row.label] = reason
        left = tuple(entry for entry in plan.entries if entry.row.label not in cannot)
        if not left:
            reasons = "; ".join(f"{label} {reason}" for label, reason in cannot.items())
            raise ValueError(f"table {plan.spec.name}: no row can be evaluated: {reasons}; choose other rows")
        return replace(plan, entries=left, cannot=cannot)

    def cells(self, plan: TablePlan, jobs: int = 1) -> list[Cell]:
        """Every number over the seeds, sections in the order in which the runs produce them."""
        of = {config.digest(): entry.row.label for entry in plan.entries for config in entry.configs}
        work = [delayed(_findings)(self, plan.runs[digest], plan.cohort, label) for digest, label in of.items()]
        with Progress("looking at embeddings", len(work), "run") as progress:
            found = dict(zip(of, progress.parallel(work, jobs), strict=True))
        several = len(plan.spec.section) > 1
        cells: dict[tuple[str, str, str, str], Cell] = {}
        for entry in plan.entries:
            prefix = f"{entry.section.label}: " if several else ""
            names = tuple(plan.runs[config.digest()].path.name for config in entry.configs)
            for seeds in zip(*(found[config.digest()] for config in entry.configs), strict=True):
                cell = _cell(prefix + seeds[0].section, entry.task, seeds, names)
                cells.setdefault((cell.section, cell.row, cell.task, cell.metric), cell)
        order = {section: position for position, section in enumerate(dict.fromkeys(cell.section for cell in cells.values()))}
        return sorted(cells.values(), key=lambda cell: order[cell.section])

    def show(self, cell: Cell) -> str:
        """Three digits, with an interval or the values of two seeds; or that there were too few stays."""
        if cell.value is None:
            return f"too few stays: {cell.n}"
        if cell.low is None or cell.low == cell.high:
            return f"{cell.value:.3g}"
        if len(cell.seeds) == 2:
            return f"{cell.value:.3g} ({', '.join(f'{value:.3g}' for value in cell.seeds)})"
        return f"{cell.value:.3g} [{cell.low:.3g}, {cell.high:.3g}]"

    def notes(self, result: TableResult) -> str:
        """The question, the definition of the intervals, and the rows left out."""
        cannot = result.provenance.get("cannot", {})
        listed = f"\n\nNot in the table: {'; '.join(f'{label} ({reason})' for label, reason in cannot.items())}." if cannot else ""
        return f"{self.asked} {intervals(result).capitalize()}, over the test stays.{listed}\n"


def _cell(section: str, task: str, seeds: Sequence[Finding], runs: tuple[str, ...]) -> Cell:
    """One number over the seeds; the chance level has no interval and belongs to no run."""
    first = seeds[0]
    if first.interval is None:
        return Cell(section, first.row, task, first.metric, None, n=first.n)
    if first.row == "chance":
        return Cell(section, first.row, task, first.metric, first.interval.estimate, n=first.n)
    of_seeds = [finding.interval for finding in seeds if finding.interval is not None]
    values = tuple(interval.estimate for interval in of_seeds)
    over = mean_over_seeds(values) if len(values) > 1 else first.interval
    return Cell(
        section,
        first.row,
        task,
        first.metric,
        value=over.estimate,
        low=over.low,
        high=over.high,
        seeds=values,
        bootstrap=tuple((interval.low, interval.high) for interval in of_seeds),
        n=first.n,
        runs=runs,
    )


def _findings(kind: EmbeddingKind, run: Run, cohort: Cohort, label: str) -> list[Finding]:
    with warnings.catch_warnings():
        quiet_libraries()
        cohort = tokenised(cohort, run.config)
        method = run.load_method(cohort)
        stays = cohort.split("test", run.config.task, seed=run.config.seed, matched=run.config.matched)
        return list(kind.findings(embed_stays(method, run.config, stays), method, label))
