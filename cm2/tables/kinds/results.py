"""Tables of results and of tests: metrics of the runs, such as AUROC and AUPR, and their differences to the reference row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from cm2.escape import markdown as escape
from cm2.methods import METHODS, Method
from cm2.tables.contract import TableKind
from cm2.tables.law_warnings import FAR
from cm2.tables.planning import TablePlan
from cm2.tables.predictions import column_of
from cm2.tables.result import Cell, TableResult
from cm2.tables.statistics import result_cells
from cm2.tables.text import TOO_FEW, estimate, intervals, metric_name, stays_of
from cm2.uncertainty import FEWEST


class Results(TableKind):
    """Values with intervals; the differences to the reference are shown below."""

    name = "results"
    predicted = True
    remark: ClassVar[str] = ""
    """Text appended to the notes."""

    def cells(self, plan: TablePlan, jobs: int = 1) -> list[Cell]:
        """Means over the seeds with intervals, and paired differences with corrected p-values."""
        return result_cells(plan, tests=self.differences_only)

    def source(self, plan: TablePlan) -> dict[str, Any]:
        """Rows whose law lies beside its embeddings, with the largest distance, ``far_laws``, and those where it was not measured for
        every run, ``unmeasured_laws``, as in runs of earlier versions; only where there are any.
        """
        found: dict[str, list[float | None]] = {}
        for entry in plan.entries:
            if METHODS[entry.configs[0].method].describe_law is not Method.describe_law:
                runs = (column_of(plan.runs[config.digest()], plan.spec.split) for config in entry.configs)
                found.setdefault(entry.row.label, []).extend(plan.predictions[run].law_distance for run in runs)
        beyond = {label: [each for each in distances if each is not None and each > FAR] for label, distances in found.items()}
        far = {label: plan.cohort.disclosure.number(max(distances)) for label, distances in beyond.items() if distances}
        unmeasured = [label for label, distances in found.items() if None in distances]
        return ({"far_laws": far} if far else {}) | ({"unmeasured_laws": unmeasured} if unmeasured else {})

    def show(self, cell: Cell) -> str:
        """The value with its interval."""
        return estimate(cell)

    def notes(self, result: TableResult) -> str:
        """Definition of the intervals and tests."""
        compared = [cell.difference for cell in result.cells if cell.difference]
        parts = [f"Ours: {intervals(result)}."]
        if any("low" in cell.printed for cell in result.cells if cell.printed):
            parts.append("Paper: one seed with a 95 % bootstrap interval over the test stays.")
        if compared:
            counted = sum("se_seeds" in d for d in compared)
            chance = "both stays and seeds" if counted == len(compared) else "the stays alone, as one seed cannot say what another would"
            parts.append(
                f"Differences: row minus {escape(result.reference)}, with the 95 % interval and p-value from {chance};"
                f" Holm's correction over the {len(compared)} tests of the table."
            )
        if any("p_equivalent" in d for d in compared):
            parts.append(f"Equivalent: Holm-corrected p-value of two one-sided tests for a difference of less than {_margins(result)}.")
        if earlier := result.provenance.get("earlier"):
            of = len({run for cell in result.cells for run in cell.runs})
            dates = sorted({each.partition(",")[0] for each in earlier.values()})
            listed = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
            parts.append(f"Trained for an earlier table of this folder ({listed}), and taken from there: {len(earlier)} of {of} runs.")
        if any(cell.value is None for cell in result.cells):
            groups = "stays with or without what is predicted" if result.provenance.get("tasks") else "positives or negatives"
            parts.append(f"{TOO_FEW.capitalize()}: fewer than {FEWEST} {groups} among the {stays_of(result)}.")
        if self.remark and result.provenance.get("tasks"):
            parts.append("The test that the paper prints is recomputed for binary outcomes alone.")
        return f"{' '.join(parts)}{self.remark}{_warning(result.provenance)}\n"


def _margins(result: TableResult) -> str:
    """``0.01 in either direction``, with the margins of single metrics."""
    margin, margins = result.provenance["margin"], result.provenance.get("margins", {})
    tested = dict.fromkeys(cell.metric for cell in result.cells if "p_equivalent" in (cell.difference or {}))
    parts = [f"{margins[metric]:g} ({metric_name(metric)})" for metric in tested if metric in margins]
    left = [metric for metric in tested if metric not in margins]
    return ", ".join([*([f"{margin:g}"] if left else []), *parts]) + " in either direction"


def _warning(source: Mapping[str, Any]) -> str:
    text = ""
    if far := source.get("far_laws"):
        listed = "; ".join(f"{escape(label)} ({distance:.2g})" for label, distance in far.items())
        text += (
            f"\n\n**Warning.** The mean of the fitted law lies more than {FAR:g} standard deviations from that of the embeddings of the"
            f" network that was kept: {listed}. What such a law imputes and aligns says nothing about laws that fit."
        )
    if unmeasured := source.get("unmeasured_laws"):
        listed = "; ".join(escape(label) for label in unmeasured)
        text += f"\n\nNot measured for all runs: how far the law lies from the embeddings in {listed}."
    return text


class Tests(Results):
    """Differences alone, as in the paper's Table 11, whose test is recomputed beside ours."""

    name = "tests"
    differences_only = True
    remark = (
        " As printed: a two-sample t-test between 1,000 bootstrap replicates of either AUROC or AUPR, which is what the paper's"
        " p-values look like. Its sample size is the number of replicates, which is ours to choose, not the number of stays."
    )
