"""Checks of a prepared cohort against its manifest, and comparison of its counts with the paper's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cm2.cohorts import Cohort, load_cohort
from cm2.cohorts.disclosure import FABRICATED
from cm2.cohorts.format import MANIFEST, MEASURED, PRIVATE, SPLITS, read_exact
from cm2.errors import InputError
from cm2.kinds import kind
from cm2.kinds.contract import MASK
from cm2.paper import printed
from cm2.progress import Progress
from cm2.tables.counts import count_groups
from cm2.tables.health import health_findings, health_text
from cm2.tables.spec import role_of, roles


@dataclass(frozen=True)
class Verification:
    """Outcome of the checks of a cohort.

    Args:
        checks: checks passed, one line each.
        problems: checks failed, one line each.
        comparison: counts of the paper and of the cohort; see ``compare_with_paper``.
        health: what became of each channel's values, as text; see ``health_text``.
    """

    checks: list[str]
    problems: list[str]
    comparison: pd.DataFrame
    health: str = ""

    @classmethod
    def of(cls, findings: Iterator[tuple[str, str]]) -> Verification:
        """Checks and problems from pairs of what was checked and what is wrong with it, empty if nothing is."""
        checks: list[str] = []
        problems: list[str] = []
        for line, problem in findings:
            (problems if problem else checks).append(f"{line}: {problem}" if problem else line)
        return cls(checks, problems, pd.DataFrame())

    def lines(self) -> list[str]:
        """One line for each check."""
        return [*(f"ok     {line}" for line in self.checks), *(f"WRONG  {line}" for line in self.problems)]


def verify_cohort(path: Path) -> Verification:
    """Checks a prepared cohort against its manifest.

    Args:
        path: its folder.

    Raises:
        ValueError: not a prepared cohort at all.
    """
    if not (path / MANIFEST).is_file():
        raise InputError(f"{path} is not a prepared cohort: it has no {MANIFEST}; write one with `cm2 prepare`")
    with Progress(f"verifying {path.name}", 1 + len(CHECKS), even=False) as progress:
        try:
            cohort = load_cohort(path)
        except ValueError as error:
            return Verification([], [str(error)], pd.DataFrame())
        checks = ["every file has the size and checksum of the manifest"]
        if cohort.disclosure.fabricated:
            checks.append(FABRICATED)
        problems: list[str] = []
        for name, check in CHECKS.items():
            progress.stage(name)
            for line, problem in check(cohort):
                (problems if problem else checks).append(f"{line}: {problem}" if problem else line)
        progress.stage("counts of the paper")
        return Verification(checks, problems, compare_with_paper(path), health_text(cohort))


def compare_with_paper(path: Path) -> pd.DataFrame:
    """Counts of the paper's Tables 1 and 8 beside the cohort's.

    Args:
        path: folder of a prepared cohort.

    Returns:
        ``table, row, task, column, paper, here, difference``; no row for a cohort the paper does not have, or a fabricated one. A
        count that would disclose a group of fewer than ten stays is missing, as is its difference: it may not leave the machine.
    """
    cohort = load_cohort(path, verify=False)
    role = role_of(cohort) if cohort.name in roles() else None
    groups = {" | ".join(group["modalities"]) or "all": group for group in count_groups(cohort)}
    rows = []
    for names, label in (role.counted if role else {}).items():
        if names not in groups:
            continue
        for table in (1, 8):
            for cell in printed(table, row=label).to_dict("records"):
                here = _shown(groups[names], cell["column"], role.tasks.get(cell["task"]) if role else None)
                rows.append((table, label, cell["task"], cell["column"], int(cell["value"]), here))
    frame = pd.DataFrame(rows, columns=["table", "row", "task", "column", "paper", "here"])
    frame["here"] = frame["here"].astype("Int64")
    frame["difference"] = frame["here"] - frame["paper"]
    return frame


def comparison_text(frame: pd.DataFrame) -> str:
    """The comparison as a plain-text table: one line per row and task, ``here (paper)`` in each column."""
    if frame.empty:
        return "The paper has no counts for this cohort."
    shown = frame.drop_duplicates(["row", "task", "column"], keep="last")
    shown = shown.assign(
        cell=[f"{'hidden' if pd.isna(h) else f'{h:,}'} ({p:,})" for h, p in zip(shown["here"], shown["paper"], strict=True)]
    )
    order = ["train", "valid", "test", "total", "positives"]
    wide = shown.pivot(index=["row", "task"], columns="column", values="cell").reindex(columns=order).fillna("")
    return "Stays here (in the paper, Tables 1 and 8)\n" + wide.reset_index().to_string(index=False)


Finding = tuple[str, str]
COUNTED = ("positives", "unknown", "positives_by_split", "counts")
"""Counts of a task in a manifest."""


def _shown(group: dict[str, Any], column: str, task: str | None) -> int | None:
    if column == "positives":
        return group["tasks"][task]["positives"]["total"] if task else None
    return group["stays"][column]


def _told(cohort: Cohort) -> list[dict[str, Any]]:
    """The manifest; for a credentialed cohort, whose manifest shows no small count, the exact one as well."""
    return [read_exact(cohort.path), *([cohort.manifest] if PRIVATE in cohort.manifest["sizes"] else [])]


def _found(cohort: Cohort, exact: dict[str, Any]) -> dict[str, Any]:
    """The manifest that the files would give."""
    stays = cohort.stays
    by_split = lambda chosen: {split: int((chosen & (stays["split"] == split)).sum()) for split in SPLITS}
    present = dict(zip(exact["modalities"], cohort.present.T, strict=True))
    split = stays["split"].to_numpy()
    tasks = {name: cohort.task(name).entry(cohort.label(name), split, SPLITS) for name in exact["tasks"]}
    modalities = {name: {**entry, "present": int(present[name].sum())} for name, entry in exact["modalities"].items()}
    return {**exact, "stays": len(stays), "splits": by_split(stays["split"].notna()), "modalities": modalities, "tasks": tasks}


def _entry(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree.get(name)
    return tree


def _counts(cohort: Cohort) -> Iterator[Finding]:
    told = _told(cohort)
    found = _found(cohort, told[0])
    pairs = list(zip(told, [found, cohort.disclosure.manifest(found)], strict=False))

    def same(what: str, *entry: str) -> Finding:
        chosen = [(_entry(a, entry), _entry(b, entry)) for a, b in pairs]
        differing = next((pair for pair in chosen if pair[0] != pair[1]), None)
        if differing is None:
            return what, ""
        hidden = "the manifest says something else"
        return what, hidden if cohort.disclosure.credentialed else "the manifest says {}, the files {}".format(*differing)

    yield same("number of stays", "stays")
    yield same("stays of each split", "splits")
    for name in told[0]["modalities"]:
        yield same(f"stays with {name}", "modalities", name, "present")
    for task in told[0]["tasks"]:
        for entry in (entry for entry in COUNTED if entry in told[0]["tasks"][task]):
            yield same(f"{entry.replace('_', ' ')} of {task}", "tasks", task, entry)
    yield "every stay once", "" if cohort.stays["stay_id"].is_unique else "a stay occurs twice"


def _flow(cohort: Cohort) -> Iterator[Finding]:
    charts = [one.get("flow", []) for one in _told(cohort)]
    gaps = dict.fromkeys(b["step"] for steps in charts for a, b in pairwise(steps) if a["stays"] - b["dropped"] != b["stays"])
    yield "each step of the flow chart leaves what it does not drop", f"not so at {', '.join(gaps)}" if gaps else ""
    ends = all(any(step["stays"] == len(cohort.stays) for step in steps) for steps in charts)
    yield "the flow chart leads to the stays of the cohort", "" if ends else "its steps leave other numbers"


def _labels(cohort: Cohort) -> Iterator[Finding]:
    for name in cohort.tasks:  # the labels' range was checked when the cohort was opened
        task = cohort.task(name)
        fits = task == task.fitted(cohort.label(name)[(cohort.stays["split"] == "train").to_numpy()])
        yield f"labels of {name} are {task.expected}", "" if fits else "its settings in the manifest are incomplete"
    if {"in_hospital_mortality", "readmission"} <= set(cohort.tasks):
        dead = cohort.stays["in_hospital_mortality"] == 1
        missed = int((cohort.stays.loc[dead, "readmission"] == 0).sum())
        yield "deaths in hospital count as readmissions", f"{cohort.disclosure.count(missed)} do not" if missed else ""


def _placeholders(cohort: Cohort) -> Iterator[Finding]:
    for (name, entry), present in zip(cohort.manifest["modalities"].items(), cohort.present.T, strict=True):
        yield kind(entry["kind"]).misplaced(cohort, name, present)


def _series(cohort: Cohort) -> Iterator[Finding]:
    for name, entry in cohort.manifest["modalities"].items():
        features: list[str] = entry["features"]
        if not kind(entry["kind"]).named_steps or not any(feature.startswith(MASK) for feature in features):
            continue
        values = cohort.array(name)
        masks = [i for i, feature in enumerate(features) if feature.startswith(MASK)]
        one_hot = [i for i, feature in enumerate(features) if "->" in feature and i not in masks]
        yield f"{name}: masks and categories are 0 or 1", "" if _binary(values, masks + one_hot) else "other values"
        statistics = cohort.manifest.get("normalisation", {}).get(name)
        if statistics and "features" in statistics and "split" in statistics:
            yield _standardised(cohort, name, statistics)


def _standardised(cohort: Cohort, name: str, statistics: dict[str, Any]) -> Finding:
    fitted = cohort.stays["split"].isin(statistics["split"].split(" and ")).to_numpy()
    columns = [cohort.manifest["modalities"][name]["features"].index(feature) for feature in statistics["features"]]
    values = cohort.array(name)[fitted][:, :, columns].astype(np.float64)
    if statistics.get("of") == MEASURED:
        values = np.where(_measured(cohort, name, statistics["features"], fitted), values, np.nan)
    mean, std = np.abs(np.nanmean(values, axis=(0, 1))).max(), np.nanstd(values, axis=(0, 1), ddof=statistics.get("of") != MEASURED)
    least = np.isin(statistics["features"], statistics.get("least_deviation", []))  # divided by more than their deviation
    off = mean > 1e-3 or not np.all((np.abs(std - 1) < 1e-3) | (std == 0) | (least & (std < 1)))  # 0: a feature that never varies
    return f"{name}: mean 0 and standard deviation 1 over the {statistics['split']} stays", f"means up to {mean:.2g}" if off else ""


def _measured(cohort: Cohort, name: str, features: list[str], rows: np.ndarray) -> np.ndarray:
    """Where features were measured ``(rows, steps, features)``: everywhere in observed stays, if there are no masks."""
    names: list[str] = cohort.manifest["modalities"][name]["features"]
    if f"{MASK}{features[0]}" in names:
        return cohort.array(name)[rows][:, :, [names.index(f"{MASK}{feature}") for feature in features]] == 1
    present = cohort.present[rows, list(cohort.manifest["modalities"]).index(name)]
    return np.broadcast_to(present[:, None, None], (len(present), *cohort.array(name).shape[1:2], len(features)))


def _binary(values: np.ndarray, columns: list[int]) -> bool:
    blocks = (values[start : start + 1024][:, :, columns] for start in range(0, len(values), 1024))
    return all(bool(np.isin(block, (0, 1)).all()) for block in blocks)


CHECKS: dict[str, Callable[[Cohort], Iterator[Finding]]] = {
    "counts": _counts,
    "flow chart": _flow,
    "labels": _labels,
    "missing modalities": _placeholders,
    "series": _series,
    "channels": health_findings,
}
