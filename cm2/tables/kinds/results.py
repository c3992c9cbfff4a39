"""Tables of results and of tests: AUROC and AUPR of the runs, and their differences to the reference row."""

from __future__ import annotations

from typing import ClassVar

from cm2.tables.contract import TableKind
from cm2.tables.planning import TablePlan
from cm2.tables.result import Cell, TableResult
from cm2.tables.statistics import result_cells
from cm2.tables.text import NAMES, estimate, intervals


class Results(TableKind):
    """Values with intervals; the differences to the reference are shown below."""

    name = "results"
    headings = NAMES
    remark: ClassVar[str] = ""
    """Text appended to the notes."""

    def cells(self, plan: TablePlan, jobs: int = 1) -> list[Cell]:
        """Means over the seeds with intervals, and paired differences with corrected p-values."""
        return result_cells(plan, jobs, tests=self.differences_only)

    def show(self, cell: Cell) -> str:
        """The value with its interval."""
        return estimate(cell)

    def notes(self, result: TableResult) -> str:
        """Definition of the intervals and tests."""
        tested = sum(cell.difference is not None for cell in result.cells)
        text = f"Ours: {intervals(result)}. Paper: one seed with a 95 % bootstrap interval over the test stays."
        if tested:
            text += (
                f" Differences: row minus {result.reference}, averaged over the seeds, with the 95 % interval and p-value of the paired "
                f"bootstrap on the same resamples of the test stays; Holm's correction over the {tested} tests of the table."
            )
        return f"{text}{self.remark}\n"


class Tests(Results):
    """Differences alone, as in the paper's Table 11, whose test is recomputed beside ours."""

    name = "tests"
    differences_only = True
    remark = (
        " As printed: a two-sample t-test between 1,000 bootstrap replicates of either AUROC or AUPR, which is what the paper's"
        " p-values look like. Its sample size is the number of replicates, which is ours to choose, not the number of stays."
    )
