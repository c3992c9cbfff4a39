"""Numbers of stays in a cohort, by split and by observed modalities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cm2.cohorts import Cohort
from cm2.cohorts.disclosure import Disclosure, few
from cm2.cohorts.format import SPLITS
from cm2.tables.spec import Role, role_of
from cm2.tasks import known_stays


def count_groups(cohort: Cohort, role: Role | None = None) -> list[dict[str, Any]]:
    """Counts of all stays, of the stays with each modality, and of the stays with the first two, three, ... of the role's modalities.

    Args:
        cohort: a prepared cohort; only its list of stays is read. For a credentialed cohort, counts from 1 to 9, counts from which such a
            count follows by subtraction, and positives by split are suppressed (None).
        role: how tables use the cohort; by default ``role_of(cohort)``.

    Returns:
        For each group: ``modalities``; ``stays``, by split and in ``total``; and by task (its column) the same counts of the ``known``
        outcomes and of the ``positives``.
    """
    names = (role or role_of(cohort)).modalities
    groups = [(), *((name,) for name in names), *(names[:size] for size in range(2, len(names) + 1))]
    counted = [_count(cohort, group) for group in groups]
    return [_withheld(entry, counted[0], cohort.disclosure) for entry in counted] if cohort.credentialed else counted


def _count(cohort: Cohort, names: Sequence[str]) -> dict[str, Any]:
    columns = [list(cohort.manifest["modalities"]).index(name) for name in names]
    has = cohort.present[:, columns].all(axis=1)
    split = cohort.stays["split"].to_numpy()
    by_split = lambda chosen: {name: int((chosen & (split == name)).sum()) for name in SPLITS} | {"total": int(chosen.sum())}
    tasks = {}
    for task in cohort.tasks:
        label = cohort.label(task)
        # only a binary outcome has positives
        positives = by_split(has & (label == 1)) if cohort.task(task).positives(label) is not None else dict.fromkeys((*SPLITS, "total"))
        tasks[task] = {"known": by_split(has & known_stays(label)), "positives": positives}
    return {"modalities": list(names), "stays": by_split(has), "tasks": tasks}


def _withheld(counted: dict[str, Any], everyone: dict[str, Any], disclosure: Disclosure) -> dict[str, Any]:
    """Suppresses every count from which a group of fewer than ten stays could be derived.

    Such a group may be the stays with the modalities, those without, or the positives, negatives or unknown outcomes among either.
    """
    parts, whole = counted["stays"], everyone["stays"]
    without = {name for name in parts if few(whole[name] - parts[name])}
    stays = disclosure.parts({name: parts[name] for name in SPLITS}, without & set(SPLITS))
    stays["total"] = None if "total" in without or few(parts["total"]) else parts["total"]
    nothing: dict[str, int | None] = dict.fromkeys((*SPLITS, "total"))
    tasks: dict[str, Any] = {}
    earlier: list[int] = []
    for task, entry in counted["tasks"].items():
        known, positives = entry["known"]["total"], entry["positives"]["total"]
        if positives is None:
            tasks[task] = {"known": stays if known == parts["total"] else nothing, "positives": nothing}
            continue
        lacking = everyone["tasks"][task]["positives"]["total"] - positives
        # one outcome may include another (a death counts as a readmission): the difference of two shown counts is then a group as well
        near = [abs(positives - other) for other in earlier]
        told = (positives, known - positives, lacking, whole["total"] - parts["total"] - lacking, parts["total"] - known, *near)
        shown = None if stays["total"] is None or any(map(few, told)) else positives
        if shown is not None:
            earlier.append(shown)
        tasks[task] = {"known": stays if known == parts["total"] else nothing, "positives": nothing | {"total": shown}}
    return counted | {"stays": stays, "tasks": tasks}
