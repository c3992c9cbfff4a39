"""Statements written down before the stays are seen on which they are tested, and the rule that decides each.

A plan is a TOML file with a block for each statement, committed before it is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from cm2.config.files import read_toml
from cm2.config.reading import build
from cm2.config.schema import plain_name
from cm2.errors import InputError
from cm2.tables.contract import kind_of
from cm2.tables.loading import load_table
from cm2.tables.spec import check_known
from cm2.tasks import TASKS

DIRECTIONS = {
    "above": "every difference is above 0, with a corrected p-value below the level",
    "not_below": "no difference is below 0 with a corrected p-value below the level, which wide intervals make easy",
    "equivalent": "every difference is within the margin, by two one-sided tests with corrected p-values below the level",
    "at_least": "the mean over the seeds is at least the value, and their standard deviation at most the one given",
}
"""What confirms a statement."""


@dataclass(frozen=True)
class Statement:
    """What is claimed, and which numbers decide."""

    says: str
    """In words."""
    table: str
    """Name of the table whose rows are compared."""
    section: str
    """Label of its section."""
    row: str
    """Label of the row that the statement is about."""
    task: str = "in_hospital_mortality"
    metric: str = "auroc"
    direction: str = "above"
    """One of `DIRECTIONS`."""
    against: tuple[str, ...] = ()
    """Labels of the rows it is compared with; empty: every other row of the section."""
    margin: float | None = None
    """Largest difference that does not matter, for ``equivalent``."""
    value: float | None = None
    """For ``at_least``."""
    sd: float | None = None
    """Largest standard deviation over the seeds, for ``at_least``; None: any."""


@dataclass(frozen=True)
class ConfirmatoryPlan:
    """Statements with all that their numbers depend on but the stays."""

    title: str
    profile: str
    """Profile of every run."""
    seeds: int
    """Number of seeds, counting up from 0."""
    statement: tuple[Statement, ...] = ()


SCHEMA = {"title": plain_name, "statement?": [{"*": (str, float, [str])}]}
"""What a plan's TOML file holds, beside the types of the fields; see `cm2.config.schema`."""
Block = TypeVar("Block", Statement, ConfirmatoryPlan)


def read_plan(path: Path) -> ConfirmatoryPlan:
    """A plan from its TOML file.

    Raises:
        ValueError: no such file, not TOML, or an unknown key, table, section, row, metric or direction, or a number that is missing.
    """
    if not path.is_file():
        raise InputError(f"there is no plan {path}; give a TOML file with a title, a profile, a number of seeds and statements")
    tree = read_toml(path, SCHEMA)
    blocks = tree.pop("statement", [])
    plan = _block(ConfirmatoryPlan, tree, path.name)
    if plan.seeds < 2:
        raise InputError(f"{path.name}: seeds = {plan.seeds}; a plan needs two or more, as one says nothing about another")
    if not blocks:
        raise InputError(f"{path.name}: no statement; add a block [[statement]]")
    statements = []
    for n, block in enumerate(blocks, start=1):
        statements.append(_block(Statement, block, where := f"{path.name}, statement {n}"))
        _check(statements[-1], where)
    return replace(plan, statement=tuple(statements))


def _block(cls: type[Block], tree: Mapping[str, Any], where: str) -> Block:
    if lacking := [f.name for f in fields(cls) if f.default is MISSING and f.name not in tree]:
        raise InputError(f"{where}: {lacking[0]} is missing")
    try:
        return build(cls, tree)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def _check(one: Statement, where: str) -> None:
    check_known(one.direction, DIRECTIONS, f"{where}: direction")
    # "above" and "at least" are better of these alone
    better = [known.name for task in TASKS.values() for known in task.offers if known.higher]
    check_known(one.metric, dict.fromkeys(better), f"{where}: metric")
    try:
        spec = load_table(one.table)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    check_known(one.section, [section.label for section in spec.section], f"{where}: section")
    if not kind_of(spec.kind).predicted or spec.split != "test":
        raise InputError(f"{where}: table {one.table} is not computed from test predictions; choose a table of results on test stays")
    rows = [row.label for row in spec.row if not row.sections or one.section in row.sections]
    for label in (one.row, *one.against):
        check_known(label, rows, f"{where}: row")
    needed = {"equivalent": "margin", "at_least": "value"}.get(one.direction)
    if needed and getattr(one, needed) is None:
        raise InputError(f"{where}: direction {one.direction} needs a {needed}")
