"""Tables that evaluate embeddings beyond prediction: the common part of alignment (retrieval) and imputation.

Both use the test stays as the cohort has them and ignore a run's ``absent_test``: a modality can be retrieved, or compared with its
imputation, only where it was observed. The kinds mask modalities themselves.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
from joblib import delayed
from numpy.typing import NDArray

from cm2.cohorts import Cohort
from cm2.copulas.inference.selection import selectable
from cm2.errors import InputError
from cm2.evaluation.embeddings import Embedded, cannot_embed, embed_stays
from cm2.joint.diagnostics import describe
from cm2.methods import Method, build_method, tokenised
from cm2.progress import Progress, quiet_libraries
from cm2.runs.run import Run
from cm2.tables.contract import TableKind
from cm2.tables.evaluated import AUROC, Evaluated, Finding, of_predictions, same
from cm2.tables.law_warnings import warnings_of
from cm2.tables.places import section_name, section_of, wanted_places
from cm2.tables.planning import TablePlan
from cm2.tables.result import Cell, Place, RowPlace, TableResult
from cm2.tables.scores import name_of, rounded
from cm2.tables.spec import TableSpec
from cm2.tables.text import TOO_FEW, intervals, spread
from cm2.uncertainty import FEWEST, Measured

RATES = (0.0, 0.25, 0.5, 0.75)
"""Fractions of a stay's other modalities that are masked completely at random; at least one of them stays observed."""
MOST = 500
"""Largest number of stays evaluated; of more, a random sample is taken."""
CHANCE = "chance"
"""Label of the row of a score that knows nothing."""
DIAGNOSTICS = {
    "law_nats": "law, nats",
    "gaussian_nats": "full Gaussian, nats",
    "effective_rank": "effective rank",
    "law_distance": "distance of the law",
}
"""Whether a run's law describes its embeddings (`cm2.joint.diagnostics.describe`), on test stays, and their headings."""
FAMILIES = {f"family_{name}": f"{name}, directions" for name in selectable()}
"""Of a law whose families its fit chose, the number of directions of each family, and their headings."""


class EmbeddingKind(TableKind):
    """An evaluation of every run's embeddings; a subclass sets ``name`` and ``asked`` and defines `findings`."""

    asked: ClassVar[str]
    """The question and the definition of the numbers, printed below the table."""
    of_law: ClassVar[str]
    """The score that reads the law alone, in whose rows the law's diagnostics stand."""

    shares: ClassVar[Collection[str]] = ()
    """Metrics that are shares of stays, whose intervals stay within 0 and 1."""
    predicts: ClassVar[bool] = False
    """Whether the AUROC of the run's predictions stands beside, in one row of each method."""

    @abstractmethod
    def measured(self, section: str, metric: str, parts: Mapping[str, NDArray]) -> Measured:
        """A number with its dependence on the stays, from their scores.

        Args:
            section: of the table.
            metric: name of the number.
            parts: scores of the stays by name, each ``(n,)``, as a `Finding` has them.
        """

    @abstractmethod
    def findings(self, embedded: Embedded, method: Method, label: str) -> Iterator[Finding]:
        """Every number of one run.

        Args:
            embedded: the run's test stays.
            method: the trained method.
            label: label of its row.
        """

    def sections(self, modalities: Sequence[str], cells: Sequence[Cell]) -> Iterable[str]:
        """Names of the sections on a cohort with these modalities; none where a subclass does not tell, and any that are there will do.

        Args:
            modalities: of the cohort.
            cells: those that are there, which tell how many stays there are.
        """
        return ()

    def wanted(self, spec: TableSpec, result: TableResult, able: Collection[RowPlace], modalities: Sequence[str]) -> set[Place]:
        """As `places.wanted_places`; what only a law has, only rows with a law are asked for."""
        of_all = [metric for metric in self.headings if metric not in DIAGNOSTICS and metric not in FAMILIES]
        not_binary = result.provenance.get("tasks", {})

        def required(task: str) -> list[str]:
            return [metric for metric in of_all if metric != AUROC or task not in not_binary]

        return wanted_places(spec, result.cells, able, modalities, required, self.sections)

    def section_of(self, spec: TableSpec, name: str) -> str:
        """The one whose name it begins with; the only one, which is not named."""
        return section_of(spec, name)

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
                raise InputError(f"row {entry.row.label}: {error}") from None
            if reason := self.cannot(method):
                cannot[entry.row.label] = reason
        left = tuple(entry for entry in plan.entries if entry.row.label not in cannot)
        if not left:
            reasons = "; ".join(f"{label} {reason}" for label, reason in cannot.items())
            raise InputError(f"table {plan.spec.name}: no row can be evaluated: {reasons}; choose other rows")
        return replace(plan, entries=left, cannot=cannot, version=5)

    def computed(self, plan: TablePlan, jobs: int = 1) -> tuple[list[Cell], dict[str, NDArray]]:
        """Every number over the seeds, sections in the order in which the runs produce them; and the scores they follow from."""
        of = {config.digest(): entry.row.label for entry in plan.entries for config in entry.configs}
        work = [delayed(_evaluate)(self, plan.runs[digest], plan.cohort, label) for digest, label in of.items()]
        with Progress("looking at embeddings", len(work), "run") as progress:
            found = dict(zip(of, progress.parallel(work, jobs), strict=True))
        cells: dict[Place, Cell] = {}
        scores: dict[str, NDArray] = {}
        for entry in plan.entries:
            prefix = section_name(plan.spec, entry.section.label, "")
            names = tuple(plan.runs[config.digest()].path.name for config in entry.configs)
            evaluated = [found[config.digest()] for config in entry.configs]
            constant = len(evaluated) > 1 and all(same(a.findings, b.findings) for a, b in pairwise(evaluated))
            for run, each in zip(names, evaluated, strict=True):
                scores |= {
                    name_of(run, prefix + one.section, one.score, part): values
                    for one in each.findings
                    for part, values in (one.parts or {}).items()
                }
            new = [
                self._cell(prefix + seeds[0].section, entry.task, seeds, names, constant)
                for seeds in zip(*(each.findings for each in evaluated), strict=True)
            ]
            sections = dict.fromkeys(cell.section for cell in new if cell.score == self.of_law)
            new += [
                Cell(
                    section,
                    _row(entry.row.label, self.of_law),
                    entry.task,
                    metric,
                    float(np.mean(values)),
                    seeds=values[:1] if constant else values,
                    deterministic=constant,
                    runs=names,
                    score=self.of_law,
                )
                for metric, values in _over([each.diagnostics for each in evaluated]).items()
                for section in sections
            ]
            for cell in new:
                cells.setdefault(cell.place, cell)
        order = {section: position for position, section in enumerate(dict.fromkeys(cell.section for cell in cells.values()))}
        return sorted(cells.values(), key=lambda cell: order[cell.section]), scores

    def cells(self, plan: TablePlan, jobs: int = 1) -> list[Cell]:
        """The numbers alone."""
        return self.computed(plan, jobs)[0]

    def recomputed(self, result: TableResult, scores: Mapping[str, NDArray]) -> list[Cell]:
        """The cells of a stored table, computed again; those without an interval, of which no scores are stored, as they are.

        Raises:
            ValueError: scores that a cell needs are missing.
        """
        parts: dict[tuple[str, str, str], dict[str, NDArray]] = {}
        for name, values in scores.items():
            *place, part = name.split(" | ")
            run, section, score = place
            parts.setdefault((run, section, score), {})[part] = values
        return [self._again(cell, parts) if cell.low is not None else cell for cell in result.cells]

    def _again(self, cell: Cell, parts: Mapping[tuple[str, str, str], Mapping[str, NDArray]]) -> Cell:
        found = [parts.get((run, cell.section, cell.score)) for run in cell.runs]
        if None in found:
            raise InputError(f"the scores of {cell.row}, {cell.section}, are missing; compute the table again with `cm2 table`")
        measured = [self.measured(cell.section, cell.metric, part) for part in found if part is not None]
        bare = Cell(*cell.place, n=cell.n, runs=cell.runs, score=cell.score)
        return bare.with_seeds(measured, cell.deterministic, share=cell.metric in self.shares)

    def _cell(self, section: str, task: str, seeds: Sequence[Finding], runs: tuple[str, ...], constant: bool) -> Cell:
        """One number over the seeds; the chance level has no interval and belongs to no run."""
        first = seeds[0]
        cell = Cell(section, _row(first.method, first.score), task, first.metric, n=first.n, score=first.score)
        if first.method == CHANCE:
            return replace(cell, value=first.value)
        measured = [self.measured(one.section, one.metric, one.parts) for one in seeds if one.parts is not None]
        if not measured:
            return cell
        return replace(cell, runs=runs).with_seeds(measured, constant, share=first.metric in self.shares)

    def show(self, cell: Cell) -> str:
        """Three digits with the interval and the standard deviation over the seeds; or that there were too few stays."""
        if cell.value is None:
            return TOO_FEW
        if cell.low is None or cell.low == cell.high:
            return f"{cell.value:.3g}{spread(cell, '.2g')}"
        return f"{cell.value:.3g} [{cell.low:.3g}, {cell.high:.3g}]{spread(cell, '.2g')}"

    def notes(self, result: TableResult) -> str:
        """The question, the definition of the intervals, warnings, and the rows left out."""
        cannot = result.provenance.get("cannot", {})
        parts = [f"{self.asked} {intervals(result).capitalize()}."]
        if any(cell.value is None for cell in result.cells):
            parts.append(f"{TOO_FEW.capitalize()}: fewer than {FEWEST} test stays.")
        if any(cell.metric in DIAGNOSTICS for cell in result.cells):
            parts.append(
                "Of the law, in the mean over the pairs of modalities: nats per test stay of dependence that it sees, and that a full"
                " Gaussian copula sees at margins that fit, estimated on other test stays; the least effective rank of a"
                " modality's embeddings; the largest distance of a margin's mean from that of the embeddings, in standard deviations."
            )
        if any(cell.metric in FAMILIES for cell in result.cells):
            parts.append("Where the fit chooses the copulas' families: the number of directions with each of them.")
        parts += [f"**Warning.** {warning}" for warning in warnings_of(result.cells)]
        if cannot:
            parts.append(f"Not in the table: {'; '.join(f'{label} ({reason})' for label, reason in cannot.items())}.")
        return "\n\n".join(parts) + "\n"


def _row(method: str, score: str) -> str:
    return f"{method}, {score}" if score else method


def _over(diagnostics: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, ...]]:
    """Values of the `DIAGNOSTICS` and `FAMILIES` that all runs have."""
    values = {name: tuple(each.get(name, math.nan) for each in diagnostics) for name in (*DIAGNOSTICS, *FAMILIES)}
    return {name: of for name, of in values.items() if all(map(math.isfinite, of))}


def _evaluate(kind: EmbeddingKind, run: Run, cohort: Cohort, label: str) -> Evaluated:
    with warnings.catch_warnings():
        quiet_libraries()
        cohort = tokenised(cohort, run.config)
        method = run.load_method(cohort)
        stays = cohort.split("test", run.config.task, seed=run.config.seed, matched=run.config.matched)
        embedded = embed_stays(method, run.config, stays)
        joint = method.embedding_law()
        diagnostics = {} if joint is None else describe(joint.cpu(), embedded.z, embedded.present)
        findings = list(kind.findings(embedded, method, label))
        findings += of_predictions(run, findings, label, kind.of_law) if kind.predicts else ()
        return Evaluated([one._replace(parts=one.parts and {k: rounded(v) for k, v in one.parts.items()}) for one in findings], diagnostics)
