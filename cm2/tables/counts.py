"""How many stays a cohort has, by split and by the modalities they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cm2.cohorts import Cohort
from cm2.cohorts.cohort import SPLITS
from cm2.cohorts.disclosure import SMALLEST, guard
from cm2.tables.spec import Role, role_of


def count_groups(cohort: Cohort, role: Role | None = None) -> list[dict[str, Any]]:
    """Counts of all stays, of those that have each modality and of those that have the first two, three, ... of the cohort's role.

    Args:
        cohort: a prepared cohort; nothing but its list of stays is read. Of a credentialed one no count from 1 to 9 is given, nor one
            from which such a count follows by subtraction, and positives are not counted by split: None stands for these.
        role: default that of the cohort.

    Returns:
        For each group ``modalities``, ``stays`` by split and in ``total``, and by task (its column) the same of the ``known`` outcomes
        and of the ``positives``.
    """
    names = (role or role_of(cohort)).modalities
    groups = [(), *((name,) for name in names), *(names[:size] for size in range(2, len(names) + 1))]
    counted = [_count(cohort, group) for group in groups]
    return [_withheld(entry, counted[0]) for entry in counted] if cohort.credentialed else counted


def _count(cohort: Cohort, names: Sequence[str]) -> dict[str, Any]:
    columns = [list(cohort.manifest["modalities"]).index(name) for name in names]
    has = cohort.present[:, columns].all(axis=1)
    split = cohort.stays["split"].to_numpy()
    by_split = lambda chosen: {name: int((chosen & (split == name)).sum()) for name in SPLITS} | {"total": int(chosen.sum())}
    tasks = {}
    for task in cohort.tasks:
        label = cohort.stays[task].to_numpy()
        tasks[task] = {"known": by_split(has & (label >= 0)), "positives": by_split(has & (label == 1))}
    return {"modalities": list(names), "stays": by_split(has), "tasks": tasks}


def _withheld(counted: dict[str, Any], everyone: dict[str, Any]) -> dict[str, Any]:
    """Without what tells of fewer than ten stays: those that have the modalities, those that lack them, or a part of either."""
    parts, whole = counted["stays"], everyone["stays"]
    few = {name for name in parts if _small(whole[name] - parts[name])}
    stays = guard({name: parts[name] for name in SPLITS}, few & set(SPLITS))
    stays["total"] = None if "total" in few or _small(parts["total"]) else parts["total"]
    nothing: dict[str, int | None] = dict.fromkeys((*SPLITS, "total"))
    tasks: dict[str, Any] = {}
    earlier: list[int] = []
    for task, entry in counted["tasks"].items():
        known, positives = entry["known"]["total"], entry["positives"]["total"]
        lacking = everyone["tasks"][task]["positives"]["total"] - positives
        near = [abs(positives - other) for other in earlier]  # one outcome may contain another
        told = (positives, known - positives, lacking, whole["total"] - parts["total"] - lacking, parts["total"] - known, *near)
        shown = None if stays["total"] is None or any(map(_small, told)) else positives
        if shown is not None:
            earlier.append(shown)
        tasks[task] = {"known": stays if known == parts["total"] else nothing, "positives": nothing | {"total": shown}}
    return counted | {"stays": stays, "tasks": tasks}


def _small(count: int) -> bool:
    return 0 < count < SMALLEST
