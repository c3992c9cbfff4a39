"""Difference of two rows as a table stores it: the interval and p-value with both kinds of chance, and either part alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cm2.uncertainty import Uncertain, combined


def smaller_class(n: int, positives: int) -> int:
    """Positives or negatives of n stays, whichever are fewer."""
    return min(positives, n - positives)


def described(both: Uncertain, df_stays: float, seeds: Sequence[Sequence[float]], margin: float | None = None) -> dict[str, float]:
    """What a table stores of a difference.

    Args:
        both: the difference; with one seed it has the standard error over the stays alone.
        df_stays: degrees of freedom of its standard error over the stays.
        seeds: values of either row's seeds, or in one list the differences of paired seeds.
        margin: of the test of equivalence; None: there is none.

    Returns:
        ``estimate``, ``low``, ``high``, ``p`` and, with a margin, ``p_equivalent``, from both kinds of chance; ``se_stays``, ``stays_low``
        and ``stays_high`` from the stays alone; with two seeds or more, ``se_seeds``, ``seeds_low``, ``seeds_high`` and ``seeds_p`` from
        the seeds alone.
    """
    low, high = both.interval()
    stays_low, stays_high = combined(both.estimate, both.se_stays, df_stays).interval()
    out = {"estimate": both.estimate, "low": low, "high": high, "p": both.p_value}
    out |= {} if margin is None else {"p_equivalent": both.equivalence(margin)}
    out |= {"se_stays": both.se_stays, "stays_low": stays_low, "stays_high": stays_high}
    if both.both:
        alone = combined(both.estimate, 0.0, math.inf, *seeds)
        seeds_low, seeds_high = alone.interval()
        out |= {"se_seeds": both.se_seeds, "seeds_low": seeds_low, "seeds_high": seeds_high, "seeds_p": alone.p_value}
    return out
