"""Tables of results: which runs a table needs, declared in TOML, and how its numbers are computed and printed.

``table(2, cohort)`` computes the paper's Table 2 on a cohort. A table is a TOML file in this folder: ``plan`` expands it into runs, which
all tables share through the run store, its kind (``kinds``) computes the numbers, and ``text`` prints them beside the paper's.
"""

from cm2.tables import kinds  # importing them registers their classes in TABLE_KINDS
from cm2.tables.changes import changes
from cm2.tables.committed import kept_predictions, kept_scores, kept_table
from cm2.tables.contract import TABLE_KINDS, TableKind
from cm2.tables.embedding_tests import against, score_difference, sides
from cm2.tables.loading import load_table, table_names
from cm2.tables.planning import TablePlan, plan
from cm2.tables.publishing import other_cohorts, publish
from cm2.tables.recomputation import compared_with, recompute, verify_tables
from cm2.tables.result import Cell, TableResult, read
from cm2.tables.run import fit_entries, table
from cm2.tables.spec import Row, Section, TableSpec
from cm2.tables.text import as_printed, counted, differences, markdown, notes, on_papers_cohort, side_by_side, values
from cm2.tables.verdicts import equivalence_tally, equivalences, tally, verdict_grid, verdicts

__all__ = [
    "TABLE_KINDS",
    "Cell",
    "Row",
    "Section",
    "TableKind",
    "TablePlan",
    "TableResult",
    "TableSpec",
    "against",
    "as_printed",
    "changes",
    "compared_with",
    "counted",
    "differences",
    "equivalence_tally",
    "equivalences",
    "fit_entries",
    "kept_predictions",
    "kept_scores",
    "kept_table",
    "kinds",
    "load_table",
    "markdown",
    "notes",
    "on_papers_cohort",
    "other_cohorts",
    "plan",
    "publish",
    "read",
    "recompute",
    "score_difference",
    "side_by_side",
    "sides",
    "table",
    "table_names",
    "tally",
    "values",
    "verdict_grid",
    "verdicts",
    "verify_tables",
]
