"""Numbers of a table of results, from the test predictions of its runs: means over seeds, intervals, differences, corrected p-values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_ind_from_stats

from cm2.metrics import bootstrap, holm
from cm2.paper import printed
from cm2.tables.comparison import described
from cm2.tables.entries import Entry
from cm2.tables.planning import TablePlan
from cm2.tables.predictions import Predicted, column_of
from cm2.tables.result import Cell, TableResult
from cm2.tasks import Task
from cm2.uncertainty import Measured, difference


@dataclass(frozen=True)
class _Row:
    """A row of a section for one task."""

    runs: Sequence[Predicted]
    """One for each seed."""
    measured: Mapping[str, Sequence[Measured]]
    """By metric, one for each seed; deviations of the block's stays. Empty where there are too few stays."""

    @property
    def task(self) -> Task:
        """What is predicted."""
        return self.runs[0].of

    @property
    def deterministic(self) -> bool:
        """Whether no seed changes a prediction."""
        return len(self.runs) > 1 and all(a.same(b) for a, b in pairwise(self.runs))


def result_cells(plan: TablePlan, tests: bool = False) -> list[Cell]:
    """Every number of a table of results or tests, exact: `cm2.tables.release` decides what of them may be shown.

    Args:
        plan: a plan whose runs are finished.
        tests: whether it is a table of tests: the paper's p-values are shown beside ours, and its test is recomputed on our runs.
    """
    cells, split = [], plan.spec.split
    for entry in plan.entries:
        runs = tuple(column_of(plan.runs[config.digest()], split) for config in entry.configs)
        for metric in plan.metrics(entry.task):
            cell = Cell(entry.section.label, entry.row.label, entry.task, metric, runs=runs)
            cells.append(_beside_printed(cell, f"{metric}_p" if tests else metric, plan, entry))
    return computed(cells, plan.predictions, plan.spec.reference, plan.masked, plan.spec.margin, tests, plan.spec.margins)


def recomputed(result: TableResult, predictions: Mapping[str, Predicted]) -> list[Cell]:
    """Every number of a stored table of results or tests, computed again.

    Args:
        result: the table.
        predictions: by key, of all its runs.
    """
    places = [Cell(*c.place, runs=c.runs, printed=c.printed) for c in result.cells]
    source = result.provenance
    tests, margins = result.kind == "tests", source.get("margins", {})
    return computed(places, predictions, result.reference, source["masked"], source["margin"], tests, margins)


def computed(
    places: Sequence[Cell],
    predictions: Mapping[str, Predicted],
    reference: str,
    masked: Sequence[str],
    margin: float | None,
    tests: bool,
    margins: Mapping[str, float] | None = None,
) -> list[Cell]:
    """The cells with all their numbers.

    Args:
        places: cells with a section, row, task, metric and runs.
        predictions: by key of the run.
        reference: label of the row the others are compared with.
        masked: labels of sections in which a seed masks the same modalities, or leaves the same outcomes known, for every row, so that
            seeds are compared in pairs.
        margin: of tests of equivalence of metrics that are shares, such as AUROC; None: there are none.
        tests: whether the paper's test is recomputed, of binary outcomes.
        margins: of other metrics, by name; they take precedence.
    """
    labelled: dict[tuple[str, str], dict[str, list[Predicted]]] = {}
    for cell in places:
        labelled.setdefault((cell.section, cell.task), {}).setdefault(cell.row, [predictions[key] for key in cell.runs])
    metrics: dict[tuple[str, str], dict[str, None]] = {}
    for cell in places:
        metrics.setdefault((cell.section, cell.task), {})[cell.metric] = None
    blocks = {place: _measured(rows, tuple(metrics[place])) for place, rows in labelled.items()}
    cells = []
    for cell in places:
        block = blocks[cell.section, cell.task]
        row, base = block[cell.row], block.get(reference)
        filled = _filled(cell, row)
        if base is not None and row is not base and row.measured and base.measured and _same_stays(row, base):
            own = row.task.metrics[cell.metric]
            within = (margins or {}).get(cell.metric, margin if own.share else None)
            compared = _compared(row, base, cell.metric, cell.section in masked, within)
            if tests and not row.task.identity:
                first, other = row.runs[0], base.runs[0]
                compared["p_replicates"] = replicate_test(first.label, first.prediction, other.prediction, cell.metric)
            filled = replace(filled, difference=compared)
        cells.append(filled)
    return corrected(cells)


def corrected(cells: Sequence[Cell]) -> list[Cell]:
    """The cells with Holm's correction over all differences of the table, and over all tests of equivalence."""
    for name in ("p", "p_equivalent"):
        found = [cell.difference for cell in cells if cell.difference and name in cell.difference]
        adjusted = iter(holm([d[name] for d in found]))
        cells = [
            replace(c, difference={**c.difference, f"{name}_holm": next(adjusted)}) if c.difference and name in c.difference else c
            for c in cells
        ]
    return list(cells)


def _measured(rows: Mapping[str, Sequence[Predicted]], metrics: Sequence[str]) -> dict[str, _Row]:
    """The rows of a section for one task, measured on the union of their stays; without measures where there are too few."""
    stays = np.unique(np.concatenate([one.stay_id for runs in rows.values() for one in runs]))
    out = {}
    for label, runs in rows.items():
        enough = all(one.of.enough(one.label) for one in runs)
        out[label] = _Row(runs, {metric: [_on(stays, one, metric) for one in runs] for metric in metrics} if enough else {})
    return out


def _on(stays: NDArray, one: Predicted, metric: str) -> Measured:
    """A metric of a run with its deviations on all ``stays``: 0 for those it was not tested on."""
    measured = one.measured(metric)
    deviations = np.zeros(len(stays))
    deviations[np.searchsorted(stays, one.stay_id)] = measured.deviations
    return replace(measured, deviations=deviations)


def _filled(cell: Cell, row: _Row) -> Cell:
    """The cell with its own numbers; without a value where there are too few of what its metric tells apart, such as positives."""
    label, task = row.runs[0].label, row.task
    positives = task.positives(label)
    cell = replace(cell, n=len(label), positives=positives, smallest=task.smallest(label) if positives is None else None)
    if not row.measured:
        return cell
    return cell.with_seeds(row.measured[cell.metric], row.deterministic, share=task.metrics[cell.metric].share)


def _compared(row: _Row, base: _Row, metric: str, masked: bool, margin: float | None) -> dict[str, float]:
    of_row, of_base = row.measured[metric], base.measured[metric]
    paired = masked and len(of_row) == len(of_base)
    both = difference(of_row, of_base, paired)
    values = [[one.value for one in of] for of in (of_row, of_base)]
    seeds = [[a - b for a, b in zip(*values, strict=True)]] if paired else values
    return described(both, min(one.df for one in (*of_row, *of_base)), seeds, margin)


def _same_stays(row: _Row, base: _Row) -> bool:
    """Whether all seeds of both were tested on the same stays."""
    return all(np.array_equal(one.stay_id, base.runs[0].stay_id) for one in (*row.runs, *base.runs))


def replicate_test(label: NDArray, a: NDArray, b: NDArray, metric: str, replicates: int = 1000) -> float:
    """The test that the paper's Table 11 seems to report: a two-sample t-test between two sets of bootstrap replicates.

    Its sample size is the number of replicates: with more of them its p-value goes to 0, whatever the number of stays. Use
    ``cm2.uncertainty.difference`` instead.

    Args:
        label: 0 or 1 ``(n,)``.
        a: one prediction ``(n,)``.
        b: another prediction for the same stays ``(n,)``.
        metric: ``auroc`` or ``aupr``.
        replicates: number of replicates of each bootstrap.
    """
    z = 3.919927969  # width of a 95 % normal interval in standard deviations
    means, spreads = [], []
    for seed, probability in enumerate((a, b)):
        interval = bootstrap(label, probability, metric, replicates, seed)
        means.append(interval.estimate)
        spreads.append((interval.high - interval.low) / z)
    return float(ttest_ind_from_stats(means[0], spreads[0], replicates, means[1], spreads[1], replicates).pvalue)


def _beside_printed(cell: Cell, column: str, plan: TablePlan, entry: Entry) -> Cell:
    """The cell with the paper's number for it in this column, if the paper prints one."""
    number, role = plan.spec.number, plan.role
    label = entry.row.label if entry.row.printed is None else entry.row.printed
    if number is None or not label or not role.printed:
        return cell
    where = {"cohort": role.printed, "setting": entry.section.setting, **entry.section.printed}
    rows = printed(number, row=label, task=entry.task, column=column, **where)
    if rows.empty:
        return cell
    first = rows.iloc[0]
    numbers = {name: float(first[name]) for name in ("value", "low", "high") if np.isfinite(first[name])}
    return replace(cell, printed={"cohort": where["cohort"], **numbers})
