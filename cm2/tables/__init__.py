"""Tables of results: data that say which runs a table needs, and what makes numbers of them.

``table(2, cohort)`` gives the paper's Table 2 on a cohort. A table is a TOML file beside this one; ``plan`` turns it into runs, which
all tables share through the run store, its kind (``kinds``) makes the numbers and ``text`` prints them beside the paper's.
"""

from cm2.tables import kinds  # their classes enter themselves into TABLE_KINDS
from cm2.tables.contract import TABLE_KINDS, TableKind
from cm2.tables.loading import load_table, table_names
from cm2.tables.planning import TablePlan, plan
from cm2.tables.result import Cell, TableResult, read
from cm2.tables.run import fit_entries, kept_table, table
from cm2.tables.spec import Row, Section, TableSpec
from cm2.tables.text import as_printed, differences, markdown, notes, values
from cm2.tables.verdicts import tally, verdict_grid, verdicts

__all__ = [
    "TABLE_KINDS",
    "Cell",
    "Row",
    "Section",
    "TableKind",
    "TablePlan",
    "TableResult",
    "TableSpec",
    "as_printed",
    "differences",
    "fit_entries",
    "kept_table",
    "kinds",
    "load_table",
    "markdown",
    "notes",
    "plan",
    "read",
    "table",
    "table_names",
    "tally",
    "values",
    "verdict_grid",
    "verdicts",
]
