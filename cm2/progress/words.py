"""Times, counts and lists in words."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 2
"""Number of processes whose work a line names; the others are counted."""
LEAST, SOON = 0.02, 120.0
"""A fraction and seconds: less done in less time measures the start-up, not the rest, and gives no estimate."""


def duration(seconds: float) -> str:
    """A measured time: "7.4 s", "45 s", "2 min 5 s", "3 h 20 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def about(seconds: float) -> str:
    """An estimated time, rounded accordingly: "15 s", "12 min", "3 h 20 min"."""
    if seconds < 57.5:
        return f"{max(5, 5 * round(seconds / 5))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(10 * round(minutes / 10), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def time_left(share: float, before: float, seconds: float, limit: bool = False) -> str:
    """ "; about 12 min left"; empty where nothing is left, or where too little is done and too little time has passed.

    Args:
        share: fraction done, from 0 to 1.
        before: the part of it that was done by an earlier call.
        seconds: time that the rest of it took.
        limit: whether the estimate is an upper bound.
    """
    if not before < share < 1 or (share - before < LEAST and seconds < SOON):
        return ""
    return f"; {'at most' if limit else 'about'} {about(seconds * (1 - share) / (share - before))} left"


def count(done: float, total: int | None, unit: str) -> str:
    """ "3 of 20 runs", "12.5 of 45.0 MB"; empty where there is nothing to count.

    Args:
        done: steps done.
        total: number of steps, or None.
        unit: a step, in the singular; ``B`` for bytes.
    """
    if unit == "B":
        return f"{done / 1e6:,.1f}{f' of {total / 1e6:,.1f}' if total else ''} MB"
    if total is None or total < 2:
        return ""
    ending = "es" if unit.endswith(("ch", "s", "x")) else "s" if unit else ""
    return f"{int(done):,} of {total:,} {unit}{ending}".rstrip()


def listed(names: Sequence[str]) -> str:
    """The first names, and the number of further ones."""
    more = [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return " and ".join([*names[:SHOWN], *more])
