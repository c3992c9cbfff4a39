"""Times, counts and lists in words."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 2
"""Processes whose work a line names; of more it gives the number."""
LEAST, SOON = 0.02, 120.0
"""A share and seconds: less in less time tells how long the start takes, not the rest."""


def duration(seconds: float) -> str:
    """A time that was taken: "7.4 s", "45 s", "2 min 5 s", "3 h 20 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def about(seconds: float) -> str:
    """An estimate, no more precise than estimates are: "15 s", "12 min", "3 h 20 min"."""
    if seconds < 57.5:
        return f"{max(5, 5 * round(seconds / 5))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(10 * round(minutes / 10), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def time_left(share: float, before: float, seconds: float, limit: bool = False) -> str:
    """ "; about 12 min left", or nothing where nothing is left, or as good as nothing is done and little time has passed.

    Args:
        share: that is done, from 0 to 1.
        before: the part of it that took none of the time.
        seconds: that the rest of it took.
        limit: whether less may be left.
    """
    if not before < share < 1 or (share - before < LEAST and seconds < SOON):
        return ""
    return f"; {'at most' if limit else 'about'} {about(seconds * (1 - share) / (share - before))} left"


def count(done: float, total: int | None, unit: str) -> str:
    """ "3 of 20 runs", "12.5 of 45.0 MB"; nothing where there is nothing to count.

    Args:
        done: steps.
        total: steps, or None.
        unit: of a step, in the singular; ``B`` for bytes.
    """
    if unit == "B":
        return f"{done / 1e6:,.1f}{f' of {total / 1e6:,.1f}' if total else ''} MB"
    if total is None or total < 2:
        return ""
    ending = "es" if unit.endswith(("ch", "s", "x")) else "s" if unit else ""
    return f"{int(done):,} of {total:,} {unit}{ending}".rstrip()


def listed(names: Sequence[str]) -> str:
    """The first names and how many more there are."""
    more = [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return " and ".join([*names[:SHOWN], *more])
