"""A table as Markdown: our numbers, the paper's below, differences to the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from cm2.cohorts.disclosure import DIGITS, FABRICATED, SMALLEST
from cm2.cohorts.format import fabricated
from cm2.config.names import did_you_mean
from cm2.errors import InputError
from cm2.escape import markdown as escape
from cm2.paper import COHORTS, printed
from cm2.runs.provenance import called
from cm2.tables.contract import kind_of
from cm2.tables.for_pages import REMARK
from cm2.tables.outdated import outdated
from cm2.tables.result import Cell, TableResult
from cm2.tasks import metric_named

TOO_FEW = "too few"
SMALLEST_P, ROUNDING = 1e-300, 1e-12
Show = Callable[[Cell], str]
Heading = Callable[[str, str], str]
"""Of the column of a task, by its heading, and a metric."""


def markdown(result: TableResult) -> str:
    """The whole table as Markdown, with notes on its intervals and a line of provenance."""
    parts = [f"# {_heading(result)}\n", *_mark(result)]
    if not kind_of(result.kind).differences_only:
        parts.append(values(result))
    if any(cell.difference for cell in result.cells):
        parts += [f"## Differences to {escape(result.reference)}\n", differences(result)]
    return "\n".join([*parts, _told(result)])


def values(result: TableResult, task: str = "", paper: bool = True) -> str:
    """The measured values with the paper's row below ours, as a Markdown table without heading.

    Args:
        result: any table.
        task: heading of the only task shown; empty: all.
        paper: whether the paper's rows are shown.
    """
    kind = kind_of(result.kind)
    return _grid(_of_task(result, task), kind.show, _named(result), paper, kind.score)


def as_printed(table: int) -> str:
    """AUROC and AUPR of one of the paper's tables with their printed intervals, as Markdown: its cohorts one below the other.

    Raises:
        ValueError: a table that prints neither.
    """
    rows = printed(table)
    rows = rows[rows["column"].isin(("auroc", "aupr"))]
    if rows.empty:
        raise InputError(f"the paper's Table {table} prints no AUROC; choose one that does, for example 2")
    cells = [
        Cell(COHORTS[row["cohort"]], row["row"], row["task"], row["column"], value=row["value"], low=row["low"], high=row["high"])
        for row in rows.to_dict("records")
    ]
    show: Show = lambda cell: f"{cell.value:.3f}" if cell.low is None or math.isnan(cell.low) else estimate(cell)
    return _grid(cells, show, lambda task, metric: f"{escape(task)} {metric_name(metric)}", paper=False)


def differences(result: TableResult, task: str = "") -> str:
    """Differences to the reference row with intervals and p-values, as a Markdown table without heading.

    Args:
        result: a table of results or tests.
        task: heading of the only task shown; empty: all.

    Raises:
        ValueError: nothing was compared.
    """
    compared = [cell for cell in _of_task(result, task) if cell.difference]
    if not compared:
        raise InputError(f"table {result.name} compares nothing{f' for {task}' if task else ''}")
    kind = kind_of(result.kind)
    return _grid(compared, difference, _named(result), paper=kind.differences_only)


def notes(result: TableResult) -> str:
    """Definition of the numbers and intervals, a line of provenance, and what has changed since the table was computed."""

    try:
        changed = outdated(result)
    except ValueError:  # a table or a cohort of the user's own
        changed = []
    since = f"\n*Computed by an earlier version: {'; '.join(changed)}.*\n" if changed else ""
    told = [f"**On this page.** {escape(result.provenance[REMARK])}\n"] if REMARK in result.provenance else []
    return "\n".join([*_mark(result), *told, _told(result)]) + since


def side_by_side(results: Sequence[TableResult]) -> str:
    """A table on several cohorts as Markdown: for each metric its rows, with a column for each task of each cohort.

    Sections and rows keep the order of the first cohort that has them. The paper's rows are not shown.

    Args:
        results: the same table, one for each cohort.

    Raises:
        ValueError: no table, or different ones.
    """
    if len({result.name for result in results}) != 1:
        raise InputError(f"side by side: expected one table on several cohorts, got {', '.join(r.name for r in results) or 'none'}")
    kind, first = kind_of(results[0].kind), results[0]
    parts = [f"# {_heading(first)}\n"]
    parts += [f"**{called(r.provenance)}: {FABRICATED}**\n" for r in results if fabricated(r.provenance)]
    metrics = dict.fromkeys(cell.metric for result in results for cell in result.cells)
    sides = [(called(result.provenance), result) for result in results]
    for metric in metrics:
        cells = [
            replace(c, task=f"{name}: {c.task}".removesuffix(": ")) for name, result in sides for c in result.cells if c.metric == metric
        ]
        order = {section: place for place, section in enumerate(dict.fromkeys(cell.section for cell in cells))}
        cells.sort(key=lambda cell: order[cell.section])
        of_task: Heading = lambda task, _: escape(task)
        parts += [f"## {metric_heading(first, metric)}\n", _grid(cells, kind.show, of_task, paper=False, score=kind.score)]
    parts += [f"**{name}.** {_told(result)}" for name, result in sides]
    return "\n".join(parts)


def _mark(result: TableResult) -> list[str]:
    """The sentence above the numbers of a fabricated cohort."""
    return [f"**{FABRICATED}**\n"] if fabricated(result.provenance) else []


def on_papers_cohort(result: TableResult) -> bool:
    """Whether a table is about one of the paper's cohorts, prepared by its user; a fabricated copy is not."""
    return result.provenance["cohort"] in filter(None, COHORTS) and not fabricated(result.provenance)


def counted(cell: Cell) -> str:
    """``3,922 test stays, 558 positive``, without what may not be shown."""
    n = "test stays" if cell.n is None else f"{cell.n:,} test stays"
    return n if cell.positives is None else f"{n}, {cell.positives:,} positive"


def _told(result: TableResult) -> str:
    return "\n".join([*filter(None, [kind_of(result.kind).notes(result)]), *_hidden(result), _source(result)])


def _hidden(result: TableResult) -> list[str]:
    """What the reader of a credentialed cohort's numbers has to know."""
    if result.provenance.get("credentialed") is not True:  # not stated: an open cohort's table from before it was
        return []
    return [f"Of these stays no count below {SMALLEST} is shown, nor one from which it follows; other numbers have {DIGITS} digits.\n"]


def _of_task(result: TableResult, task: str) -> list[Cell]:
    tasks = list(dict.fromkeys(cell.task for cell in result.cells))
    if task and task not in tasks:
        raise InputError(f"table {result.name} has no task {task!r}; it has {', '.join(tasks)}{did_you_mean(task, tasks)}")
    return [cell for cell in result.cells if task in ("", cell.task)]


def estimate(cell: Cell) -> str:
    """``0.812 [0.790, 0.834], sd 0.004``, the last over the seeds, or ``deterministic``; ``too few`` without a value."""
    if cell.value is None:
        return TOO_FEW
    form, of_seeds = (".3f", ".4f") if is_share(cell.metric) else (".4g", ".2g")
    return f"{cell.value:{form}} [{cell.low:{form}}, {cell.high:{form}}]{spread(cell, of_seeds)}"


def spread(cell: Cell, digits: str) -> str:
    """``, sd 0.0041`` over the seeds or ``, deterministic``, to follow a value; empty for one seed."""
    if cell.deterministic or cell.sd is None:
        return ", deterministic" if cell.deterministic else ""
    # the same number from sums in another order
    sd = 0.0 if cell.sd < ROUNDING * abs(cell.value or 0) else cell.sd
    return f", sd {sd:{digits}}"


def difference(cell: Cell) -> str:
    """``-0.012 [-0.030, 0.006], p 0.2, Holm 0.8``, and the paper's test where it was recomputed; empty where nothing was compared."""
    if (d := cell.difference) is None:
        return ""
    form = "+.3f" if is_share(cell.metric) else "+.3g"
    text = f"{d['estimate']:{form}} [{d['low']:{form}}, {d['high']:{form}}], p {p_text(d['p'])}, Holm {p_text(d['p_holm'])}"
    if "p_equivalent_holm" in d:
        text += f", equivalent {p_text(d['p_equivalent_holm'])}"
    return f"{text}; as printed {p_text(d['p_replicates'])}" if "p_replicates" in d else text


def p_text(p: float) -> str:
    """``0.034``, and ``< 1e-300`` for one too small to be represented."""
    return f"{p:.2g}" if p >= SMALLEST_P else f"< {SMALLEST_P:g}"


def _printed(cell: Cell) -> str:
    p = cell.printed
    if p is None:
        return ""
    count, measured = p["value"] >= 2, p["value"] >= 1e-3  # counts, metrics and p-values are told apart by their size
    value = f"{p['value']:,.0f}" if count else f"{p['value']:.3f}" if measured else f"{p['value']:.3g}"
    return f"{value} [{p['low']:.3f}, {p['high']:.3f}]" if "low" in p else value


def metric_name(metric: str) -> str:
    """Heading of a metric of results, without a unit; the name itself of one that no type of task has."""
    known = metric_named(metric)
    return known.heading if known is not None else escape(metric)


def is_share(metric: str) -> bool:
    """Whether a metric lies between 0 and 1, so that it is shown with three decimals; others have four digits."""
    known = metric_named(metric)
    return known is not None and known.share


def metric_heading(result: TableResult, metric: str, task: str = "") -> str:
    """Heading of a metric in a table, of a task with its unit."""
    try:
        own = result.tasks[task].metrics if task in result.tasks else {}
    except ValueError:  # a type of an extension that is not installed
        own = {}
    if metric in own:
        return own[metric].heading
    return kind_of(result.kind).headings.get(metric, metric_name(metric))


def _named(result: TableResult) -> Heading:
    return lambda task, metric: f"{escape(task)} {metric_heading(result, metric, task)}".strip()


def _grid(cells: Sequence[Cell], show: Show, heading: Heading, paper: bool, score: str = "") -> str:
    """Rows by section and label, columns by task and metric; the paper's row, if there is one, follows ours.

    Where a method has several scores, they have a column headed ``score``.
    """
    columns = list(dict.fromkeys((cell.task, cell.metric) for cell in cells))
    rows: dict[tuple[str, str], dict[tuple[str, str], Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.section, cell.row), {})[cell.task, cell.metric] = cell
    scored = any(cell.score for cell in cells)
    labels = [score] if scored else []
    lines = [["", *labels, *(heading(*column) for column in columns)]]
    blank = [""] * len(labels)
    lines.append(["---"] * len(lines[0]))
    section = None
    for (block, label), found in rows.items():
        if block != section:
            section = block
            sizes = _sizes([cell for cell in cells if cell.section == block])
            lines.append([f"**{escape(block)}**", *blank, *(sizes.pop(task, "") for task, _ in columns)])
        first = next(iter(found.values()))
        labels = [*map(escape, (first.method, first.score) if scored else (label,))]
        lines.append([*labels, *(show(found[c]) if c in found else "" for c in columns)])
        if paper and (cohort := next((c.printed["cohort"] for c in found.values() if c.printed), None)) is not None:
            words = (_printed(found[c]) if c in found else "" for c in columns)
            lines.append([f"*paper, {COHORTS.get(cohort) or escape(cohort)}*", *blank, *words])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _sizes(cells: Sequence[Cell]) -> dict[str, str]:
    """``3,922 stays, 558 positive`` by task, of a section's stays; a range where its rows differ."""
    words = {}
    for task in dict.fromkeys(cell.task for cell in cells):
        counted = [cell for cell in cells if cell.task == task and cell.n is not None]
        if counted:
            positives = [cell.positives for cell in counted if cell.positives is not None]
            words[task] = f"{_range([cell.n or 0 for cell in counted])} stays" + (f", {_range(positives)} positive" if positives else "")
    return words


def _range(counts: Sequence[int]) -> str:
    return f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"


def _heading(result: TableResult) -> str:
    return f"Table {result.name}. {escape(result.title)}" if result.name.isdigit() else escape(result.title)


def intervals(result: TableResult) -> str:
    """Definition of the intervals of a table of runs, which depends on the number of seeds."""
    trained = {cell.row: len(cell.runs) for cell in result.cells if cell.value is not None}
    seeds = max(len(cell.seeds) for cell in result.cells)
    if seeds < 2:
        return f"one seed with its 95 % interval over the {stays_of(result)}"
    fewer = ", ".join(f"{row} {count}" for row, count in trained.items() if 0 < count < seeds)
    few = f" ({fewer})" if fewer else ""
    return f"mean of {seeds} seeds{few} with the 95 % interval from both stays and seeds, and the standard deviation (sd) over the seeds"


def stays_of(result: TableResult) -> str:
    """``test stays``, or ``validation stays`` for a table computed from these."""
    return "validation stays" if result.provenance.get("split") == "valid" else "test stays"


def _source(result: TableResult) -> str:
    p = result.provenance
    words = [f"cohort {called(p)} ({p['cohort_checksum'][:12]})", f"cm2 {p['cm2']}", p["date"], p["device"]]
    words += [p["machine"]] if "machine" in p else []
    words[1:1] = [f"profile {p['profile']}", f"seeds 0 to {p['seeds'] - 1}" if p["seeds"] > 1 else "seed 0"] if "profile" in p else []
    return f"Source: {', '.join(map(escape, words))}.\n"
