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
from typing import ClassVar, NamedTuple

import numpy as np
from joblib import delayed

from cm2.cohorts import Cohort
from cm2.copulas.inference.selection import selectable
from cm2.evaluation.embeddings import Embedded, cannot_embed, embed_stays
from cm2.joint.diagnostics import describe
from cm2.methods import Method, build_method, tokenised
from cm2.progress import Progress, quiet_libraries
from cm2.runs.run import Run
from cm2.tables.contract import TableKind
from cm2.tables.planning import TablePlan
from cm2.tables.result import Cell, TableResult
from cm2.tables.text import TOO_FEW, intervals, spread
from cm2.uncertainty import FEWEST, Measured, measure

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
FAR, POOR = 0.2, 1.05
"""Distance of the law and error of a mean above which a table warns."""


class Finding(NamedTuple):
    """One number of one run."""

    section: str
    method: str
    """Label of the method's row."""
    score: str
    """Empty where there is one row for the method."""
    metric: str
    measured: Measured | None
    """None where there are too few stays."""
    n: int


class Evaluated(NamedTuple):
    """What one run was found to do."""

    findings: list[Finding]
    diagnostics: Mapping[str, float]
    """Of its law; empty where there is none."""


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
        return replace(plan, entries=left, cannot=cannot, version=4)

    def cells(self, plan: TablePlan, jobs: int = 1) -> list[Cell]:
        """Every number over the seeds, sections in the order in which the runs produce them."""
        of = {config.digest(): entry.row.label for entry in plan.entries for config in entry.configs}
        work = [delayed(_evaluate)(self, plan.runs[digest], plan.cohort, label) for digest, label in of.items()]
        with Progress("looking at embeddings", len(work), "run") as progress:
            found = dict(zip(of, progress.parallel(work, jobs), strict=True))
        several = len(plan.spec.section) > 1
        cells: dict[tuple[str, str, str, str], Cell] = {}
        for entry in plan.entries:
            prefix = f"{entry.section.label}: " if several else ""
            names = tuple(plan.runs[config.digest()].path.name for config in entry.configs)
            evaluated = [found[config.digest()] for config in entry.configs]
            constant = len(evaluated) > 1 and all(_same(a.findings, b.findings) for a, b in pairwise(evaluated))
            new = [
                self._cell(prefix + seeds[0].section, entry.task, seeds, names, constant, plan.cohort.credentialed)
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
                cells.setdefault((cell.section, cell.row, cell.task, cell.metric), cell)
        order = {section: position for position, section in enumerate(dict.fromkeys(cell.section for cell in cells.values()))}
        return sorted(cells.values(), key=lambda cell: order[cell.section])

    def _cell(self, section: str, task: str, seeds: Sequence[Finding], runs: tuple[str, ...], constant: bool, credentialed: bool) -> Cell:
        """One number over the seeds; the chance level has no interval and belongs to no run."""
        first = seeds[0]
        n = None if credentialed and first.n < FEWEST else first.n
        cell = Cell(section, _row(first.method, first.score), task, first.metric, n=n, score=first.score)
        measured = [finding.measured for finding in seeds if finding.measured is not None]
        if not measured:
            return cell
        if first.method == CHANCE:
            return replace(cell, value=measured[0].value)
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
        parts += [f"**Warning.** {warning}" for warning in _warnings(result.cells)]
        if cannot:
            parts.append(f"Not in the table: {'; '.join(f'{label} ({reason})' for label, reason in cannot.items())}.")
        return "\n\n".join(parts) + "\n"


def _warnings(cells: Sequence[Cell]) -> Iterator[str]:
    """Sentences about laws that do not describe the embeddings, with the rows concerned."""
    far = _by_method(cell for cell in cells if cell.metric == "law_distance" and (cell.value or 0) > FAR)
    if far:
        listed = "; ".join(f"{method} ({_largest(own)})" for method, own in far.items())
        yield (
            f"The law is fitted beside the embeddings, and its nats are no measure of what it sees, where the distance is more than {FAR:g}"
            f" standard deviations: {listed}."
        )
    # zero is no forecast of the law
    poor = _by_method(cell for cell in cells if cell.metric == "error" and cell.score != "zero" and (cell.value or 0) > POOR)
    if poor:
        ways = {method: ", ".join(dict.fromkeys(cell.score for cell in own)) for method, own in poor.items()}
        listed = "; ".join(f"{method} ({ways[method]}: up to {_largest(own)})" for method, own in poor.items())
        yield f"Errors of the mean above {POOR:g} are those of a law that does not describe the embeddings: {listed}."


def _by_method(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.method, []).append(cell)
    return found


def _largest(cells: Iterable[Cell]) -> str:
    return f"{max(cell.value or 0 for cell in cells):.3g}"


def _row(method: str, score: str) -> str:
    return f"{method}, {score}" if score else method


def exactly(value: float) -> Measured:
    """A number that does not depend on which stays there are."""
    return Measured(value, np.zeros(1), math.inf)


def _same(a: Sequence[Finding], b: Sequence[Finding]) -> bool:
    """Whether two seeds found the same, stay by stay."""
    pairs = [(one.measured, other.measured) for one, other in zip(a, b, strict=True)]
    return all(
        x is y or (x is not None and y is not None and x.value == y.value and np.array_equal(x.deviations, y.deviations)) for x, y in pairs
    )


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
        return Evaluated([*findings, *(_predicted(run, findings, label, kind.of_law) if kind.predicts else ())], diagnostics)


def _predicted(run: Run, findings: Sequence[Finding], label: str, of_law: str) -> Iterator[Finding]:
    """The AUROC of the run's test predictions, in every section in the row of the law's own score, or of the first where there is none."""
    test = run.predictions[run.predictions["split"] == "test"]
    positives = int(test["label"].sum())
    enough = min(positives, len(test) - positives) >= FEWEST
    auroc = measure(test["label"], test["probability"]) if enough else None
    rows: dict[str, list[str]] = {}
    for finding in findings:
        if finding.method == label and finding.score:
            rows.setdefault(finding.section, []).append(finding.score)
    for section, scores in rows.items():
        yield Finding(section, label, of_law if of_law in scores else scores[0], "auroc", auroc, len(test))
