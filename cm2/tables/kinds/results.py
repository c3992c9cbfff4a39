"""Tables of results and of tests: AUROC and AUPR of the runs, and their differences to the reference row."""

from __future__ import annotations

from typing import ClassVar

from cm2.tables.contract import TableKind
from cm2.tables.planning import TablePlan
from cm2.tables.result import Cell, TableResult
from cm2.tables.statistics import result_cells
from cm2.tables.text import NAMES, TOO_FEW, estimate, intervals, stays_of
from cm2.uncertainty import FEWEST


class Results(TableKind):
    """Values with intervals; the differences to the reference are shown below."""

    name = "results"
    predicted = True
    headings = NAMES
    remark: ClassVar[str] = ""
    """Text appended to the notes."""

    def cells(self, plan: TablePlan, jobs: int = 1) -> list[Cell]:
        """Means over the seeds with intervals, and paired differences with corrected p-values."""
        return result_cells(plan, tests=self.differences_only)

    def show(self, cell: Cell) -> str:
        """The value with its interval."""
        return estimate(cell)

    def notes(self, result: TableResult) -> str:
        """Definition of the intervals and tests."""
        compared = [cell.difference for cell in result.cells if cell.difference]
        parts = [f"Ours: {intervals(result)}."]
        if any(cell.printed for cell in result.cells):
            parts.append("Paper: one seed with a 95 % bootstrap interval over the test stays.")
        if compared:
            counted = sum("se_seeds" in d for d in compared)
            chance = "both stays and seeds" if counted == len(compared) else "the stays alone, as one seed cannot say what another would"
            parts.append(
                f"Differences: row minus {result.reference}, with the 95 % interval and p-value from {chance}; Holm's correction over the"
                f" {len(compared)} tests of the table."
            )
        if any("p_equivalent" in d for d in compared):
            margin = result.provenance["margin"]
            parts.append(
                f"Equivalent: Holm-corrected p-value of two one-sided tests for a difference of less than {margin:g} in either direction."
            )
        if any(cell.value is None for cell in result.cells):
            parts.append(f"{TOO_FEW.capitalize()}: fewer than {FEWEST} positives or negatives among the {stays_of(result)}.")
        return f"{' '.join(parts)}{self.remark}\n"


class Tests(Results):
    """Differences alone, as in the paper's Table 11, whose test is recomputed beside ours."""

    name = "tests"
    differences_only = True
    remark = (
        " As printed: a two-sample t-test between 1,000 bootstrap replicates of either AUROC or AUPR, which is what the paper's"
        " p-values look like. Its sample size is the number of replicates, which is ours to choose, not the number of stays."
    )
