"""Disclosure control: what may be shown of a cohort, decided in one place.

Everything that leaves a cohort's folder or the run store (a count, a metric, a flow chart, a table, a message) passes a `Disclosure`, which
`cm2.cohorts.Cohort.disclosure` gives. Of an open cohort it returns what it is given. Of a credentialed one it hides every count from 1 to 9
and every count from which one follows by subtraction, hides metrics of so few, rounds the others, and removes what names a single record.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from cm2.cohorts.format import credentialed, fabricated

SMALLEST = 10
"""Smallest positive count of a credentialed cohort that may be shown."""

SUBSET = "stay in the cohort"
"""Marks, in the note of a flow chart's step, a subset of the cohort."""

DIGITS = 3
"""Significant digits of a credentialed cohort's metrics: more would tell how many pairs of stays there are, and about single ones."""

FABRICATED = "Fabricated data: made-up files in the layout of a credentialed source. No number here is about a patient."
"""The sentence that stands wherever a number of a fabricated cohort is shown."""

_RECORDS = (
    # files of MIMIC-CXR and their names; identifiers in columns or beside their name; times of a de-identified copy
    (re.compile(r"(?:files/)?(?:\bp\d{2}/)?\bp\d{8}(?:/[\w./-]*)?|\bs\d{8}(?:\.txt|/[\w.-]+)?"), "a record"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{8}){4}(?:\.\w+)?"), "a record"),
    (re.compile(r"\b(subject|hadm|stay|icustay|study|row|record|patient)(_id)?s?\b([ =:]+)\d{4,}", re.IGNORECASE), r"\1\2\3(hidden)"),
    (re.compile(r"\b2[1-9]\d\d-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?"), "a time"),
)

Key = TypeVar("Key", bound=Hashable)


class Group(NamedTuple):
    """A group of stays by its outcome; None where a number is hidden or unknown."""

    n: int | None
    """Stays with a known outcome."""
    positives: int | None = None
    """Those of them with a positive one."""


@dataclass(frozen=True)
class Disclosure:
    """What may be shown of a cohort: everything of an open one, guarded aggregates of a credentialed one.

    Args:
        credentialed: whether the data are under a use agreement.
        fabricated: whether they are made up in the layout of such data, which is said wherever they are shown.
    """

    credentialed: bool = True
    fabricated: bool = False

    @classmethod
    def of(cls, flags: Mapping[str, Any]) -> Disclosure:
        """From a manifest, or the provenance of a run or table."""
        return cls(credentialed(flags), fabricated(flags))

    def flow(self, steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A flow chart; see `guard_flow`."""
        return guard_flow(steps) if self.credentialed else [dict(step) for step in steps]

    def parts(self, parts: Mapping[Key, int], hidden: Collection[Key] = ()) -> dict[Key, int | None]:
        """Counts beside their sum; see `guard`."""
        return guard(parts, hidden) if self.credentialed else dict(parts)

    def channel(self, sums: Mapping[str, int], parts: Mapping[str, int]) -> dict[str, int | None]:
        """What became of a channel's values: its sums ``charted``, ``stays`` and ``steps``, and the parts of ``charted``.

        So few stays' values and steps are as telling as their number.
        """
        if not self.credentialed:
            return {**sums, **parts}
        tells = few(sums["stays"])
        shown = {name: None if few(count) or (tells and name != "charted") else count for name, count in sums.items()}
        return shown | guard(parts, ["used"] if tells and parts else [])

    def groups(self, groups: Mapping[Key, Group], beside: Collection[Group] = ()) -> dict[Key, Group]:
        """Sizes and positives of groups of stays; see `guard_groups`."""
        return guard_groups(groups, beside) if self.credentialed else dict(groups)

    def counts(self, tree: Any) -> Any:
        """Nested counts, of rows or stays; see `guard_counts`."""
        return guard_counts(tree) if self.credentialed else tree

    def number(self, value: float) -> float:
        """A metric, an interval's end, a p-value: to three significant digits."""
        return float(f"{value:.{DIGITS}g}") if self.credentialed else value

    def metrics(self, metrics: Mapping[str, Any], *wholes: Group, smallest: int | None = None) -> dict[str, Any]:
        """Metrics of a split, with ``n`` and ``positives``; see `guard_metrics`."""
        return guard_metrics(metrics, wholes, smallest) if self.credentialed else dict(metrics)

    def manifest(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """A manifest; see `guard_manifest`."""
        return guard_manifest(manifest) if self.credentialed else dict(manifest)

    def count(self, count: int | None) -> str:
        """One count in words: ``1,234``, or ``fewer than 10``, or ``hidden``."""
        if count is None:
            return "hidden"
        return f"fewer than {SMALLEST}" if self.credentialed and few(count) else f"{count:,}"

    def record(self, name: object, row: int) -> str:
        """What a message calls a single record: its name, or of a credentialed cohort its place among those handed in, from 1 on."""
        return f"in row {row + 1}" if self.credentialed else str(name)


def few(count: int) -> bool:
    """Whether a count tells of one to nine stays."""
    return 0 < count < SMALLEST


def guard(parts: Mapping[Key, int], hidden: Collection[Key] = ()) -> dict[Key, int | None]:
    """Counts that may be shown beside their sum; suppressed ones are None.

    A count from 1 to 9 is suppressed. If it could be derived from the sum, the next smallest counts are suppressed too, until at least
    two are, with a sum of at least 10. Zeros are shown.

    Args:
        parts: counts that add up to a number that is shown.
        hidden: names of counts to suppress in any case.
    """
    concealed = {name for name, count in parts.items() if few(count)} | set(hidden)
    others = sorted((count, name) for name, count in parts.items() if name not in concealed and count)
    while concealed and others and (len(concealed) < 2 or sum(parts[name] for name in concealed) < SMALLEST):
        concealed.add(others.pop(0)[1])
    return {name: None if name in concealed else count for name, count in parts.items()}


def guard_groups(groups: Mapping[Key, Group], beside: Collection[Group] = ()) -> dict[Key, Group]:
    """Sizes and positives of groups that may be shown next to each other; suppressed ones are None.

    Groups may contain one another. So a number is suppressed if it is from 1 to 9, as are both positives and negatives if either is, and if
    it differs by 1 to 9 from the same number of a larger group that is shown. The largest groups come first.

    Args:
        groups: by any key.
        beside: groups whose numbers are shown in any case.
    """
    told = list(beside)
    shown: dict[Key, Group] = {}
    for key in sorted(groups, key=lambda key: -(groups[key].n or 0)):
        n, positives = groups[key]
        if n is None:
            shown[key] = Group(None, None)
            continue
        size = None if few(n) or _near(n, [other.n for other in told]) else n
        if positives is not None:
            negatives = n - positives
            others = [other.n - other.positives for other in told if other.n is not None and other.positives is not None]
            if few(positives) or few(negatives) or _near(positives, [g.positives for g in told]) or _near(negatives, others):
                positives = None
        shown[key] = Group(size, positives)
        told.append(shown[key])
    return {key: shown[key] for key in groups}


def guard_metrics(metrics: Mapping[str, Any], wholes: Collection[Group] = (), smallest: int | None = None) -> dict[str, Any]:
    """Metrics of a split that may be shown: all None where they depend on a group of fewer than ten stays, else rounded.

    Args:
        metrics: by name, with ``n`` and, of a binary outcome, ``positives``; what was guarded before stays as it is.
        wholes: larger groups of the same cohort whose numbers are shown.
        smallest: size of the smallest group on which they depend; None: the positives or the negatives.
    """
    n, positives = metrics["n"], metrics.get("positives")
    if n is None or (positives is None and ("positives" in metrics or smallest is None)):
        return dict(metrics)
    size = guard_groups({"": Group(int(n), None if positives is None else int(positives))}, wholes)[""]
    smaller = smallest if smallest is not None else min(positives or 0, n - (positives or 0))
    rounded = {name: None if smaller < SMALLEST or value is None else float(f"{value:.{DIGITS}g}") for name, value in metrics.items()}
    return rounded | {"n": size.n} | ({} if positives is None else {"positives": size.positives})


def guard_counts(tree: Any) -> Any:
    """Nested counts that may be shown.

    Counts side by side may be parts of a sum, or one part of another. So besides those from 1 to 9 the next smallest is suppressed where a
    single one is, and the smaller of two that differ by 1 to 9. A list of numbers names records: what is left of it is how many.
    """
    if isinstance(tree, Mapping):
        counts = {name: value for name, value in tree.items() if _whole(value)}
        parts = guard(counts)
        apart = guard_groups({name: Group(value) for name, value in parts.items() if value is not None})
        shown = {name: apart[name].n if name in apart else None for name in counts}
        return {name: shown[name] if name in shown else guard_counts(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return guard_counts({"": len(tree)})[""] if any(map(_whole, tree)) else [guard_counts(item) for item in tree]
    return (None if few(tree) else tree) if _whole(tree) else tree


def guard_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest whose counts may be shown. Positives by split are left out, as more than one outcome could be set against them."""
    stays, splits = manifest["stays"], guard(manifest["splits"])
    sizes = guard_groups({name: Group(entry["present"]) for name, entry in manifest["modalities"].items()}, [Group(stays)])
    outcomes = guard_groups(_outcomes(stays, manifest["tasks"]), [Group(stays)])
    tasks = {task: _guarded_task(entry, task, outcomes) for task, entry in manifest["tasks"].items()}
    return {
        **manifest,
        "splits": splits,
        "modalities": {name: {**entry, "present": sizes[name].n} for name, entry in manifest["modalities"].items()},
        "tasks": tasks,
        "flow": guard_flow(manifest["flow"]),
        "counts": guard_counts(manifest["counts"]),
    }


def _outcomes(stays: int, tasks: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Group]:
    """Stays with a known outcome and with a positive one, by task, and by class or label."""
    found = {}
    for task, entry in tasks.items():
        if "counts" not in entry:
            found[task, ""] = Group(stays - entry["unknown"], entry["positives"])
        for name, count in entry.get("counts", {}).items():
            found[task, name] = Group(count["known"], count["positives"])
    return found


def _guarded_task(entry: Mapping[str, Any], task: str, shown: Mapping[tuple[str, str], Group]) -> dict[str, Any]:
    unknown = None if few(entry["unknown"]) else entry["unknown"]
    if "counts" not in entry:
        return {"description": entry["description"], "positives": shown[task, ""].positives, "unknown": unknown}
    positives = {name: shown[task, name].positives for name in entry["counts"]}
    if "classes" in entry:  # they add up, so what is hidden must not be what is left
        exact = {name: count["positives"] for name, count in entry["counts"].items()}
        positives = guard(exact, [name for name, value in positives.items() if value is None])
    counts = {name: {"known": shown[task, name].n, "positives": positives[name]} for name in entry["counts"]}
    return {**entry, "unknown": unknown, "counts": counts}


def guard_text(text: str) -> str:
    """A message without what names a single record of MIMIC: its file, identifier or time."""
    for pattern, instead in _RECORDS:
        text = pattern.sub(instead, text)
    return text


def guard_flow(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A flow chart in which no step drops or leaves 1 to 9 stays: such steps are merged with the next one, or with those before.

    The steps that lead to the cohort, whose size is shown elsewhere, are not merged with those that are subsets of it.

    Args:
        steps: steps of a manifest's ``flow``.
    """
    leading = [step for step in steps if SUBSET not in str(step.get("note", ""))]
    shown = _guarded(leading)
    subsets = _guarded([{**shown[-1], "dropped": 0}, *steps[len(leading) :]])[1:] if shown else []
    return shown + subsets


def _guarded(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    pending: list[Mapping[str, Any]] = []
    for step in steps:
        pending.append(step)
        if not 0 < sum(part["dropped"] for part in pending) < SMALLEST and not 0 < step["stays"] < SMALLEST:
            shown.append(_joined(pending))
            pending = []
    while pending and len(shown) > 1:
        pending = [shown.pop(), *pending]
        if not 0 < sum(part["dropped"] for part in pending) < SMALLEST and not 0 < pending[-1]["stays"] < SMALLEST:
            shown.append(_joined(pending))
            pending = []
    return shown


def _joined(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    notes = [step["note"] for step in steps if step.get("note")]
    return {
        "step": "; ".join(step["step"] for step in steps),
        "stays": steps[-1]["stays"],
        "dropped": sum(step["dropped"] for step in steps),
        "note": "; ".join(notes),
    }


def _near(count: int, others: Collection[int | None]) -> bool:
    """Whether a count differs by one to nine from another that is shown."""
    return any(few(abs(count - other)) for other in others if other is not None)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
