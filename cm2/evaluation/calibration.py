"""Whether a run's predictions come true, for all stays and for those of each missing pattern, before and after recalibration.

Calibration of the whole hides what its parts do wrong in opposite directions: where a network predicts too much of stays that lack a
modality and too little of the others, the mean is right. The recalibration is fitted on the validation stays, all patterns together.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cm2.calibration import Bin, Calibration, Forecast, Recalibration, calibration, root
from cm2.calibration.reliability import BINS, groups
from cm2.cohorts import Cohort, Stays
from cm2.cohorts.disclosure import Disclosure, Group
from cm2.errors import InputError, spelled
from cm2.metrics import Interval
from cm2.runs.run import Run
from cm2.tasks import Task
from cm2.uncertainty import FEWEST, interval_of

EVERYONE = "all stays"
Key = tuple[str, str]
"""A group of stays, and what is claimed of them."""
Place = TypeVar("Place", bound=Hashable)
COUNTS = ("n", "positives", "hidden", "few")
"""What a row says of its stays, whatever is predicted of them."""


@dataclass(frozen=True)
class Report:
    """What may be shown of the calibration of one run. Numbers that may not, or that depend on too few outcomes, are missing."""

    summary: pd.DataFrame
    """A row for each group of stays and claim: ``observed modalities``, ``of``, ``n``, ``positives``, ``few`` (whether there are too few
    outcomes for a number), ``hidden`` (whether none may be shown), and ``predicted``, ``observed``, ``large``, ``slope``, ``error``, each
    but the first with ``_low`` and ``_high``; the same after recalibration with ``after_`` before it."""
    curve: pd.DataFrame
    """A row for each group of neighbouring predictions of all stays: ``of``, ``predicted``, ``recalibrated``, ``observed``,
    ``observed_low``, ``observed_high``, ``n``, ``positives``, ``hidden``."""
    told: Mapping[str, Mapping[str, float]]
    """What the recalibration is, by claim or "all"."""
    lacking: Mapping[str, str]
    """Why there is none."""
    unjudged: str
    """What calibration cannot judge; empty if nothing."""


def check_calibrated(task: Task) -> None:
    """Raises InputError for a task whose predictions cannot be compared with outcomes, before anything is trained or predicted."""
    if task.uncalibrated:
        raise InputError(f"{task.name}: no calibration of a {task.type} task: {task.uncalibrated}")


def calibration_of(
    run: Run,
    cohort: Cohort,
    split: str = "test",
    absent: Mapping[str, float] | None = None,
    mechanism: str = "mcar",
    seed: int = 0,
    bins: int = BINS,
    progress: bool = False,
) -> Report:
    """The calibration of a finished run.

    Args:
        run: a finished run.
        cohort: the one that it was trained on, or another with the same modalities.
        split: ``test`` or ``train``; the validation stays are those on which the recalibration is fitted.
        absent: as the other arguments in `cm2.evaluate`; the validation stays are masked likewise.
        mechanism: see there.
        seed: see there.
        bins: groups of a reliability curve.
        progress: show the progress.

    Raises:
        InputError: a task whose predictions cannot be compared with outcomes, or the validation stays; both before anything is predicted.
            What `cm2.evaluate` raises.
    """
    from cm2.runs.store import predict

    if split == "valid":
        remedy = spelled("give split='test'", "give --split test")
        raise InputError(f"calibration: recalibration is fitted on the validation stays, which would judge themselves; {remedy}")
    check_calibrated(run.task)
    stays: dict[str, Stays] = {}
    frames: dict[str, pd.DataFrame] = {}
    for name in (split, "valid"):
        stays[name], frames[name] = predict(run, cohort, name, absent, mechanism, seed, progress)
    task = stays[split].task
    label, prediction = task.of_frame(frames[split])
    names = [modality.name for modality in stays[split].modalities]
    wholes = (cohort.outcomes(task.name), cohort.outcomes(task.name, split))
    recalibration = task.recalibration(*task.of_frame(frames["valid"]))
    return report(task, label, prediction, patterns(stays[split].present.numpy(), names), recalibration, cohort.disclosure, wholes, bins)


def patterns(present: NDArray, names: Collection[str]) -> dict[str, NDArray]:
    """Stays ``(n,)`` by the modalities that are observed, the largest group first. ``present`` is bool ``(n, M)``."""
    found, at, sizes = np.unique(present, axis=0, return_inverse=True, return_counts=True)
    called = [" + ".join(name for name, here in zip(names, row, strict=True) if here) for row in found]
    return {called[k]: at.reshape(-1) == k for k in np.argsort(-sizes, kind="stable")}


def report(
    task: Task,
    label: NDArray,
    prediction: NDArray,
    of: Mapping[str, NDArray],
    recalibration: Recalibration,
    disclosure: Disclosure,
    wholes: Collection[Group] = (),
    bins: int = BINS,
) -> Report:
    """The calibration of predictions, as far as it may be shown.

    Args:
        task: what is predicted.
        label: ``(n, *label_shape)``, NaN where unknown.
        prediction: ``(n,)`` or ``(n, P)``.
        of: groups of stays that share none, bool ``(n,)`` each, which together are all; see `patterns`.
        recalibration: fitted on other stays.
        disclosure: of the cohort.
        wholes: larger groups of the cohort whose numbers are shown.
        bins: groups of a reliability curve.
    """
    before, after = (task.forecasts(label, p) for p in (prediction, recalibration.apply(prediction)))
    rows = {EVERYONE: np.ones(len(label), dtype=bool), **(of if len(of) > 1 else {})}
    found = {(group, name): calibration(before[name].within(stays), bins) for group, stays in rows.items() for name in before}
    exclusive = [name for name in task.predicted if name in before] if _exclude(before, task.predicted) else []
    shown = shown_groups({key: Group(one.n, one.positives) for key, one in found.items()}, disclosure, wholes, exclusive)
    summary = []
    for (group, name), one in found.items():
        line = {"observed modalities": group, "of": name} | _line(one, shown[group, name], disclosure)
        if recalibration.changes(name):
            changed = _line(calibration(after[name].within(rows[group]), bins), shown[group, name], disclosure)
            line |= {f"after_{key}": value for key, value in changed.items() if key not in COUNTS}
        summary.append(line)
    curves = [
        line
        for name in before
        if (whole := shown[EVERYONE, name]).n is not None and (whole.positives is None) == (found[EVERYONE, name].positives is None)
        for line in _curve(name, before[name], after[name], found[EVERYONE, name].bins, disclosure, bins)
    ]
    told = {name: {key: disclosure.number(value) for key, value in numbers.items()} for name, numbers in recalibration.told.items()}
    return Report(pd.DataFrame(summary), pd.DataFrame(curves), told, recalibration.lacking, task.unjudged)


def _exclude(forecasts: Mapping[str, Forecast], names: Collection[str]) -> bool:
    """Whether one of the named claims comes true in every stay, so that their positives add up to the stays."""
    some = [forecasts[name] for name in names if name in forecasts]
    return len(some) > 1 and sum(one.positives or 0 for one in some) == some[0].n


def shown_groups(
    found: Mapping[Key, Group], disclosure: Disclosure, wholes: Collection[Group] = (), exclusive: Collection[str] = ()
) -> dict[Key, Group]:
    """Sizes and positives that may be shown together, of groups that add up to the first one, for several claims; hidden ones are None.

    What a `Disclosure` hides of groups that may contain one another is hidden of the claims in a group; what it hides of the parts of a
    sum, over the groups for each claim, and over claims that exclude one another. One number hidden may ask for another, until nothing
    changes.

    Args:
        found: exact numbers.
        disclosure: of the cohort.
        wholes: larger groups of the cohort whose numbers are shown.
        exclusive: claims of which one comes true in every stay.
    """
    rows, names = (list(dict.fromkeys(key[axis] for key in found)) for axis in (0, 1))
    sizes: set[Key] = set()
    outcomes: set[Key] = set()
    for row in rows:
        for name, one in disclosure.groups({name: found[row, name] for name in names}, wholes).items():
            if one.n is None:
                sizes.add((row, name))
            if one.positives is None and found[row, name].positives is not None:
                outcomes.add((row, name))
    sums = [[(row, name) for row in rows[1:]] for name in names]
    alternatives = [[(row, name) for name in exclusive] for row in rows]
    while True:
        before = len(sizes) + len(outcomes)
        for keys in sums:
            sizes |= _hidden({key: found[key].n for key in keys}, sizes, disclosure)
        for keys in sums + alternatives:
            outcomes |= _hidden({key: found[key].positives for key in keys}, outcomes, disclosure)
            outcomes |= _hidden({key: _negatives(found[key]) for key in keys}, outcomes, disclosure)
        outcomes |= sizes
        if len(sizes) + len(outcomes) == before:
            return {key: Group(None if key in sizes else one.n, None if key in outcomes else one.positives) for key, one in found.items()}


def _hidden(parts: Mapping[Place, int | None], hidden: Collection[Place], disclosure: Disclosure) -> set[Place]:
    """What may not be shown of the parts of a sum; those that are None are no parts."""
    counts = {key: count for key, count in parts.items() if count is not None}
    return {key for key, count in disclosure.parts(counts, [key for key in counts if key in hidden]).items() if count is None}


def _negatives(group: Group) -> int | None:
    return None if group.n is None or group.positives is None else group.n - group.positives


def _line(one: Calibration, shown: Group, disclosure: Disclosure) -> dict[str, Any]:
    """The numbers of one claim in one group; None where they may not be shown, or where there are too few outcomes."""
    numbers = {"predicted": one.predicted, **_ends("observed", one.observed)}
    for name, measured, interval in (("large", one.large, interval_of), ("slope", one.slope, interval_of), ("error", one.error, root)):
        numbers |= _ends(name, None if measured is None else interval(measured))
    return _shown(numbers, Group(one.n, one.positives), shown, one.smaller, disclosure) | {"few": one.smaller < FEWEST}


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    values = (None, None, None) if interval is None else (interval.estimate, interval.low, interval.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _shown(numbers: Mapping[str, float | None], exact: Group, shown: Group, smaller: int, disclosure: Disclosure) -> dict[str, Any]:
    """Numbers of a group, none of them where its size or its outcomes are hidden."""
    told = disclosure.metrics({**numbers, "n": exact.n}, smallest=smaller)
    hidden = shown.n is None or (shown.positives is None and exact.positives is not None)
    given = {name: None if hidden or told[name] is None or math.isnan(told[name]) else told[name] for name in numbers}
    return {**given, "n": shown.n, "positives": shown.positives, "hidden": given["predicted"] is None}


def _curve(name: str, before: Forecast, after: Forecast, of: tuple[Bin, ...], disclosure: Disclosure, bins: int) -> list[dict[str, Any]]:
    """The reliability curve of one claim for all stays. Recalibrated predictions keep their groups, of which no other counts are told."""
    exact = {k: Group(part.n, part.positives) for k, part in enumerate(of)}
    sizes = _hidden({k: group.n for k, group in exact.items()}, (), disclosure)
    outcomes = set(sizes)
    for side in ({k: group.positives for k, group in exact.items()}, {k: _negatives(group) for k, group in exact.items()}) * 2:
        outcomes |= _hidden(side, outcomes, disclosure)  # once more, as either side may have hidden parts of the other
    at, lines = groups(before, bins), []
    for k, part in enumerate(of):
        numbers = {"predicted": part.predicted, "recalibrated": float(after.predicted[at == k].mean()), **_ends("observed", part.observed)}
        shown = Group(None if k in sizes else part.n, None if k in outcomes else part.positives)
        smaller = before.within(at == k).smaller  # of events, without those whose outcome is unknown
        lines.append({"of": name, **_shown(numbers, exact[k], shown, smaller, disclosure)})
    return lines
