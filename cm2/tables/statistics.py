"""Numbers of a table of results, from its runs: means over seeds, intervals, paired differences, corrected p-values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from joblib import delayed
from scipy.stats import ttest_1samp, ttest_ind_from_stats

from cm2.metrics import Difference, bootstrap, holm, mean_over_seeds, paired_bootstraps
from cm2.paper import printed
from cm2.progress import Progress
from cm2.runs.store import Run
from cm2.tables.planning import Entry, TablePlan
from cm2.tables.result import PER_TEST, REPLICATES, Cell

METRICS = ("auroc", "aupr")


def result_cells(plan: TablePlan, jobs: int = 1, tests: bool = False) -> list[Cell]:
    """Every number of a table of results or tests.

    Args:
        plan: a plan whose runs are finished.
        jobs: number of processes.
        tests: whether it is a table of tests: the paper's p-values are shown beside ours, and its test is recomputed on our runs.
    """
    found = [_cell(plan, entry, metric, tests) for entry in plan.entries for metric in METRICS]
    blocks: dict[tuple[str, str], list[Entry]] = {}
    for entry in plan.entries:
        blocks.setdefault((entry.section.label, entry.task), []).append(entry)
    compared_rows = len(METRICS) * sum(len(block) - 1 for block in blocks.values())
    replicates = max(REPLICATES, PER_TEST * compared_rows)
    work = [delayed(_differences)(block, plan.runs, plan.spec.reference, replicates, tests) for block in blocks.values()]
    with Progress("comparing rows", len(work), "block") as progress:
        compared = dict(zip(blocks, progress.parallel(work, jobs), strict=True))
    return _corrected([replace(c, difference=compared[c.section, c.task].get((c.row, c.metric))) for c in found])


def _cell(plan: TablePlan, entry: Entry, metric: str, tests: bool) -> Cell:
    runs = [plan.runs[config.digest()] for config in entry.configs]
    measured = [run.metrics["test"] for run in runs]
    values = tuple(test[metric] for test in measured)
    intervals = tuple((test[f"{metric}_low"], test[f"{metric}_high"]) for test in measured)
    over = mean_over_seeds(values) if len(values) > 1 else None
    value, low, high = (over.estimate, over.low, over.high) if over else (values[0], *intervals[0])
    cell = Cell(
        section=entry.section.label,
        row=entry.row.label,
        task=entry.task,
        metric=metric,
        value=value,
        low=low,
        high=high,
        seeds=values,
        bootstrap=intervals,
        n=int(measured[0]["n"]),
        positives=int(measured[0]["positives"]),
        runs=tuple(run.path.name for run in runs),
    )
    return _beside_printed(cell, f"{metric}_p" if tests else metric, plan, entry)


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


def _differences(
    block: Sequence[Entry], runs: Mapping[str, Run], reference: str, replicates: int, as_printed: bool
) -> dict[tuple[str, str], dict[str, Any]]:
    """Differences of every row of a section to the reference, for one task, on the same resamples of the same stays."""
    of = {entry.row.label: [_test(runs[config.digest()]) for config in entry.configs] for entry in block}
    if reference not in of:
        return {}
    base = of.pop(reference)
    same = {label: frames for label, frames in of.items() if _same_stays(frames, base)}  # a paired test needs the same stays
    if not same:
        return {}
    label = base[0]["label"].to_numpy()
    stacked = {name: np.stack([f["probability"].to_numpy() for f in frames]) for name, frames in {**same, reference: base}.items()}
    against = stacked.pop(reference)
    found = paired_bootstraps(label, stacked, against, METRICS, replicates)
    out = {key: _described(difference) for key, difference in found.items()}
    for (name, metric), entry in out.items():
        entry |= _over_seeds(runs, block, name, reference, metric)
        if as_printed:
            entry["p_replicates"] = replicate_test(label, stacked[name][0], against[0], metric)
    return out


def replicate_test(label: np.ndarray, a: np.ndarray, b: np.ndarray, metric: str, replicates: int = 1000) -> float:
    """The test that the paper's Table 11 seems to report: a two-sample t-test between two sets of bootstrap replicates.

    Its sample size is the number of replicates: with more of them its p-value goes to 0, whatever the number of stays. Use
    ``cm2.metrics.paired_bootstrap`` instead.

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


def _described(difference: Difference) -> dict[str, float]:
    return {"estimate": difference.estimate, "low": difference.low, "high": difference.high, "p": difference.p_value}


def _over_seeds(runs: Mapping[str, Run], block: Sequence[Entry], row: str, reference: str, metric: str) -> dict[str, float]:
    of = {entry.row.label: [runs[config.digest()].metrics["test"][metric] for config in entry.configs] for entry in block}
    differences = [a - b for a, b in zip(of[row], of[reference], strict=True)]
    if len(differences) < 2:
        return {}
    over = mean_over_seeds(differences)
    varies = max(differences) > min(differences)  # the t-test of equal differences divides by zero
    return {"seeds_low": over.low, "seeds_high": over.high, "seeds_p": float(ttest_1samp(differences, 0).pvalue) if varies else 1.0}


def _test(run: Run) -> pd.DataFrame:
    frame = run.predictions
    return frame[frame["split"] == "test"].sort_values("stay_id", ignore_index=True)


def _same_stays(frames: Sequence[pd.DataFrame], base: Sequence[pd.DataFrame]) -> bool:
    """Whether all seeds of both were tested on the same stays."""
    return all(frame["stay_id"].equals(base[0]["stay_id"]) for frame in (*frames, *base))


def _corrected(found: Sequence[Cell]) -> list[Cell]:
    """The cells with Holm's correction over all differences of the table."""
    adjusted = iter(holm([cell.difference["p"] for cell in found if cell.difference]))
    return [replace(c, difference={**c.difference, "p_holm": next(adjusted)}) if c.difference else c for c in found]
