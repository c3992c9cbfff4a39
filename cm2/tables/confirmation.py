"""A confirmatory plan that is run: every statement decided once, with p-values corrected over the whole plan."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cm2.cohorts import Cohort
from cm2.cohorts.disclosure import FABRICATED
from cm2.cohorts.format import fabricated
from cm2.config.files import read_json
from cm2.config.reading import build
from cm2.durable import write_json, write_text
from cm2.errors import InputError, spelled
from cm2.escape import markdown as escape
from cm2.progress import Progress
from cm2.runs.provenance import called, provenance
from cm2.runs.store import RunStore
from cm2.tables.confirmatory_plan import DIRECTIONS, ConfirmatoryPlan, Statement, read_plan
from cm2.tables.loading import load_table
from cm2.tables.planning import TablePlan, check_methods, resolve
from cm2.tables.predictions import file_name, predicted, write_predictions
from cm2.tables.release import released
from cm2.tables.result import Cell
from cm2.tables.run import fit_entries
from cm2.tables.spec import TableSpec
from cm2.tables.statistics import corrected, result_cells
from cm2.tables.text import counted, p_text
from cm2.tables.verdicts import LEVEL, repeated

STEM = "confirmation"
FORMAT = 1


@dataclass(frozen=True)
class Decided:
    """A statement with its numbers."""

    statement: Statement
    outcome: str
    """``confirmed``, ``not confirmed``, ``contradicted``, or ``cannot be decided`` with too few positives or a single seed."""
    cells: tuple[Cell, ...]
    """The row itself first, then those it is compared with; their differences are *theirs minus the row's*."""


@dataclass(frozen=True)
class Confirmation:
    """A plan that was run."""

    title: str
    plan: str
    """SHA-256 of the plan's file."""
    commit: str
    """Commit that last changed it; empty where there is no repository."""
    decided: tuple[Decided, ...]
    provenance: dict[str, Any]


def confirm(path: Path, cohort: Cohort, out: Path, jobs: int = 1, store: RunStore | None = None, progress: bool = True) -> Confirmation:
    """Trains what a plan asks for, decides every statement on the cohort's test stays, and writes ``confirmation`` to a folder.

    A plan is decided once: if the folder holds the decision of this plan on this cohort, that one is returned.

    Args:
        path: of the plan.
        cohort: a prepared cohort, whose test stays nobody has looked at.
        out: folder for ``confirmation.json``, ``confirmation.md`` and, unless the cohort is credentialed, the predictions.
        jobs: number of runs trained in parallel.
        store: default ``RunStore()``.
        progress: whether to show progress.

    Raises:
        ValueError: before any training: what `read_plan` raises, a plan changed since it was committed, a cohort without a table's
            modalities or tasks, or a folder with another decision.
    """
    plan, store = read_plan(path), store or RunStore()
    digest, commit = hashlib.sha256(path.read_bytes()).hexdigest(), _commit(path)
    if (found := _stored(out, digest, cohort)) is not None:
        return found
    with Progress(f"confirming {path.name}", show=progress):
        plans = [_planned(one, plan, cohort, store) for one in plan.statement]
        entries = [entry for each in plans for entry in each.entries]
        check_methods(entries, cohort, store)
        fit_entries(entries, cohort, store, jobs)
        cells = [_cells(one, each) for one, each in zip(plan.statement, plans, strict=True)]
    decided = _released([Decided(one, outcome(one, own), own) for one, own in zip(plan.statement, _together(cells), strict=True)], cohort)
    source = provenance(cohort) | {"profile": plan.profile, "seeds": plan.seeds}
    result = Confirmation(plan.title, digest, commit, decided, source)
    out.mkdir(parents=True, exist_ok=True)
    if not cohort.credentialed:
        write_predictions(out / file_name(cohort.checksum), {r.path.name: predicted(r) for each in plans for r in each.runs.values()})
    write_text(out / f"{STEM}.md", text(result))
    write_json(out / f"{STEM}.json", {"format": FORMAT, **asdict(result)}, ensure_ascii=False)
    return result


def outcome(statement: Statement, cells: Sequence[Cell], level: float = LEVEL) -> str:
    """What the numbers say of a statement; see `Decided`.

    Args:
        statement: a statement.
        cells: the row's own first, then those it is compared with.
        level: of the tests.
    """
    own, *others = cells
    if own.value is None or any(cell.difference is None or not repeated(cell.difference) for cell in others):
        return "cannot be decided"
    if statement.direction == "at_least":
        kept = own.value >= (statement.value or 0) and (statement.sd is None or (own.sd or 0) <= statement.sd)
        return "confirmed" if kept else "not confirmed"
    found = [cell.difference for cell in others if cell.difference is not None]
    if statement.direction == "equivalent":
        return "confirmed" if all(d["p_equivalent_holm"] < level for d in found) else "not confirmed"
    if any(d["p_holm"] < level and d["estimate"] > 0 for d in found):  # another row's minus this one's
        return "contradicted"
    if statement.direction == "not_below":
        return "confirmed"
    return "confirmed" if all(d["p_holm"] < level for d in found) else "not confirmed"


def text(result: Confirmation) -> str:
    """The decisions as Markdown."""
    parts = [f"# {escape(result.title)}\n", *([f"**{FABRICATED}**\n"] if fabricated(result.provenance) else [])]
    for n, one in enumerate(result.decided, start=1):
        s, own = one.statement, one.cells[0]
        value = "too few stays" if own.value is None else f"{own.value:.4f}, sd {own.sd or 0:.4f}"
        parts.append(f"## {n}. {escape(s.says)}\n\n**{one.outcome.capitalize()}.** Confirmed if {_rule(s)}.\n")
        parts.append(f"{escape(s.row)} ({escape(s.section)}, {escape(s.task)}, {escape(s.metric)}; {counted(own)}): {value}.\n")
        lines = [
            f"| {escape(cell.row)} | {-d['estimate']:+.4f} | [{-d['high']:+.4f}, {-d['low']:+.4f}] |"
            f" {p_text(d['p'])} | {p_text(d['p_holm'])} |"
            for cell in one.cells[1:]
            if (d := cell.difference) is not None
        ]
        if lines:
            parts.append("\n".join(["| minus | difference | 95 % interval | p | Holm |", "| --- | --- | --- | --- | --- |", *lines]) + "\n")
    p = result.provenance
    committed = f"committed in {result.commit[:12]}" if result.commit else "not in a repository"
    parts.append(
        "Intervals and p-values from both stays and seeds; Holm's correction over all comparisons of the plan.\n\n"
        f"Plan {result.plan[:12]}, {committed}. Source: cohort {escape(called(p))} ({p['cohort_checksum'][:12]}), profile {p['profile']},"
        f" seeds 0 to {p['seeds'] - 1}, cm2 {p['cm2']}, {p['date']}, {p['device']}.\n"
    )
    return "\n".join(parts)


def _rule(s: Statement) -> str:
    rule = DIRECTIONS[s.direction].replace("the level", f"{LEVEL:g}")
    if s.direction == "at_least":
        return f"the mean over the seeds is at least {s.value:g}" + (
            "" if s.sd is None else f" and their standard deviation at most {s.sd:g}"
        )
    return rule.replace("the margin", f"{s.margin:g}") if s.margin is not None else rule


def _planned(one: Statement, plan: ConfirmatoryPlan, cohort: Cohort, store: RunStore) -> TablePlan:
    """The rows of a statement as a table, whose reference is the row that the statement is about."""
    spec: TableSpec = load_table(one.table)
    sections = tuple(section for section in spec.section if section.label == one.section)
    rows = tuple(replace(row, seeds=None) for row in spec.row)  # a plan has as many seeds for every row
    spec = replace(spec, row=rows, section=sections, reference=one.row, margin=one.margin, metrics=(one.metric,))
    there = [row.label for row in spec.row if not row.sections or one.section in row.sections]
    only = [one.row] if one.direction == "at_least" else [one.row, *(one.against or there)]
    return resolve(spec, cohort, store, plan.profile, plan.seeds, only=only, tasks=[one.task])


def _cells(one: Statement, plan: TablePlan) -> list[Cell]:
    return sorted(result_cells(plan), key=lambda cell: cell.row != one.row)  # a stable sort: the row itself first


def _together(cells: Sequence[Sequence[Cell]]) -> list[tuple[Cell, ...]]:
    """The cells of all statements with p-values corrected over all of them."""
    whole = iter(corrected([cell for each in cells for cell in each]))
    return [tuple(next(whole) for _ in each) for each in cells]


def _released(decided: Sequence[Decided], cohort: Cohort) -> tuple[Decided, ...]:
    """The decisions, which exact numbers made, with the numbers that may be shown."""
    shown = iter(released([cell for one in decided for cell in one.cells], cohort))
    return tuple(replace(one, cells=tuple(next(shown) for _ in one.cells)) for one in decided)


def _elsewhere() -> str:
    return f"give another folder with {spelled('out=', '--out')}"


def _stored(out: Path, digest: str, cohort: Cohort) -> Confirmation | None:
    path = out / f"{STEM}.json"
    if not path.is_file():
        return None
    try:
        return _same_decision(read_json(path, remedy=_elsewhere()), digest, cohort, path)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no decision of a plan ({error!r:.80}); {_elsewhere()}") from None


def _same_decision(tree: dict[str, Any], digest: str, cohort: Cohort, path: Path) -> Confirmation:
    if tree.pop("format", None) != FORMAT or tree["plan"] != digest or tree["provenance"]["cohort_checksum"] != cohort.checksum:
        raise InputError(f"{path} is the decision of another plan, or on another cohort; {_elsewhere()}")
    decided = tuple(
        Decided(build(Statement, one["statement"]), one["outcome"], tuple(Cell.from_dict(cell) for cell in one["cells"]))
        for one in tree.pop("decided")
    )
    return Confirmation(decided=decided, **tree)


def _commit(path: Path) -> str:
    """Commit that last changed a file; empty where there is no repository.

    Raises:
        ValueError: it was changed since, or never committed.
    """
    git = ["git", "-C", str(path.resolve().parent)]
    options: dict[str, Any] = {"capture_output": True, "text": True, "check": True}
    try:
        commit = subprocess.run([*git, "log", "-1", "--format=%H", "--", path.name], **options).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "--", path.name], **options).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    if changed:
        what = f"was changed since it was committed ({commit[:12]})" if commit else "was never committed"
        raise InputError(f"{path} {what}; a plan is frozen before it is run: commit it")
    return commit
