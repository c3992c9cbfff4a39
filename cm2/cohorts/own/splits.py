"""Splits of one's own stays: by subject, stratified by an outcome, and the same on every machine whatever the order of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cm2.cohorts.format import SPLITS
from cm2.cohorts.missingness import stable_uniform
from cm2.cohorts.own.ids import Roster, keys_of
from cm2.cohorts.own.incoming import Place
from cm2.config.names import choose
from cm2.errors import InputError, spelled

FRACTIONS = (0.7, 0.15, 0.15)
"""Of the subjects, for training, validation and test."""
SHARES = (len(SPLITS), len(SPLITS) - 1)
"""How many shares may be given: without the third one there are no test stays, which is for data whose test stays are elsewhere."""
ALSO = {
    **dict.fromkeys(("validation", "val", "dev", "tuning"), "valid"),
    **dict.fromkeys(("testing", "held_out"), "test"),
    "training": "train",
}
"""Other names of the splits, those of MEDS and of Hugging Face among them."""


def fractions_of(split: Any) -> tuple[float, ...] | None:
    """The shares of training, validation and test that a split asks for; None if it names the split of each row.

    Raises:
        InputError: shares that are not two or three positive numbers with the sum 1.
    """
    if split is None:
        return FRACTIONS
    if not isinstance(split, tuple | list) or len(split) not in SHARES or not all(isinstance(s, int | float) for s in split):
        return None
    if min(split) <= 0 or abs(sum(split) - 1) > 1e-6:
        raise InputError(f"{spelled('split', '--split')}: {tuple(split)}; give shares above 0 for {', '.join(SPLITS)}, with the sum 1")
    return tuple(split)


def named_splits(values: Sequence[Any], place: Place, column: str | None) -> np.ndarray:
    """Splits as rows name them.

    Raises:
        InputError: an unknown name, or a split that no row is in.
    """
    found = []
    for row, value in enumerate(values):
        name = ALSO.get(str(value).lower(), str(value).lower())
        if name not in SPLITS:
            said = f"unknown split {str(value)!r:.40}"
            place.fault(said, choose(str(value), SPLITS), row, column)
        found.append(name)
    return np.array(found)


def refuse_empty(split: np.ndarray, needed: Sequence[str] = SPLITS) -> None:
    """Raises InputError if one of the splits that are needed has no row."""
    for name in needed:
        if not (split == name).any():
            remedy = spelled(*2 * (f"all of {', '.join(needed)} are needed",), "give more rows, or another validation_fraction")
            raise InputError(f"{spelled('split', '--split', 'y')}: no row is in {name}; {remedy}")


def refuse_leak(split: np.ndarray, groups: Sequence[str], place: Place) -> None:
    """Raises InputError if the rows of a subject are in several splits."""
    first: dict[str, int] = {}
    for row, group in enumerate(groups):
        other = first.setdefault(group, row)
        if split[other] != split[row]:
            called = "" if place.protected else f" {group!r:.40}"
            said = f"its subject{called} is in {split[row]}, and in {split[other]} in {place.row(other)}"
            place.fault(said, f"put all rows of a subject into one split, or give {spelled('split=', '--split')} as shares", row)


def groups_of(values: Sequence[Any], place: Place) -> list[str]:
    """Subjects as texts. Raises InputError for one that is missing."""
    return keys_of(values, Place(f"{place.name}: subjects", place.protected))


def drawn_splits(roster: Roster, groups: Sequence[str], strata: np.ndarray, fractions: tuple[float, ...], seed: int) -> np.ndarray:
    """Splits drawn by a hash of (seed, subject), the same shares of the subjects of each stratum in each split.

    A subject belongs to the rarest of the strata of its rows. If a stratum has as many subjects as there are splits, each has one.

    Args:
        roster: the stays, in any order: a row's split does not depend on it.
        groups: subject of each row.
        strata: ``(n,)`` stratum of each row, NaN where the outcome is unknown.
        fractions: of training, validation and, unless there are no test stays, test.
        seed: any integer.

    Returns:
        ``(n,)`` names of splits.
    """
    rows = pd.DataFrame({"group": groups, "stratum": strata})
    size = Counter(rows["stratum"].fillna(-np.inf))
    rows["rank"] = [(size[value], value) for value in rows["stratum"].fillna(-np.inf)]
    first = rows.sort_values(["rank", "group"], kind="stable").drop_duplicates("group")
    numbers = Roster(list(first["group"]), True, roster.protected).stay_id
    first = first.assign(drawn=stable_uniform(seed, numbers, "split")).sort_values(["drawn", "group"])
    chosen: dict[str, str] = {}
    owed = np.zeros(len(fractions))
    for _, members in first.groupby("rank", sort=True):
        counts = _shares(len(members), fractions, owed)
        owed += len(members) * np.asarray(fractions) - counts  # what rounding took from a split, the next stratum gives back
        names = np.repeat(SPLITS[: len(fractions)], counts)
        chosen |= dict(zip(members["group"], names, strict=True))
    return np.array([chosen[group] for group in groups])


def _shares(n: int, fractions: Sequence[float], owed: np.ndarray) -> np.ndarray:
    """How many of n go to each split: the largest remainders round up, and each has one if there are as many."""
    wanted, least = n * np.asarray(fractions) + owed, int(n >= len(fractions))
    counts = np.maximum(np.floor(wanted), least).astype(np.int64)
    while counts.sum() < n:
        counts[int((wanted - counts).argmax())] += 1
    while counts.sum() > n:
        counts[int(np.where(counts > least, counts - wanted, -np.inf).argmax())] -= 1
    return counts
