"""Disclosure control for counts of a credentialed cohort: suppresses 1 to 9 and counts from which these follow by subtraction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

SMALLEST = 10
"""Smallest positive count of a credentialed cohort that may be shown."""

SUBSET = "stay in the cohort"
"""Marks, in the note of a flow chart's step, a subset of the cohort."""


def guard(parts: Mapping[str, int], hidden: Collection[str] = ()) -> dict[str, int | None]:
    """Counts that may be shown beside their sum; suppressed ones are None.

    A count from 1 to 9 is suppressed. If it could be derived from the sum, the next smallest counts are suppressed too, until at least
    two are, with a sum of at least 10. Zeros are shown.

    Args:
        parts: counts that add up to a number that is shown.
        hidden: names of counts to suppress in any case.
    """
    concealed = {name for name, count in parts.items() if 0 < count < SMALLEST} | set(hidden)
    others = sorted((count, name) for name, count in parts.items() if name not in concealed and count)
    while concealed and others and (len(concealed) < 2 or sum(parts[name] for name in concealed) < SMALLEST):
        concealed.add(others.pop(0)[1])
    return {name: None if name in concealed else count for name, count in parts.items()}


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
