"""Error injection for charted events: each error type corrupts a disjoint set of events and is counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from pandas.api.typing import NAType

LEAST = 8


@dataclass
class Charted:
    """Events, and the errors injected into them.

    Args:
        frame: as returned by ``charting.chart``, with a plain index 0, 1, ...
        rng: generator of every choice.
    """

    frame: pd.DataFrame
    rng: np.random.Generator
    counts: Counter[str] = field(default_factory=Counter)
    added: list[pd.DataFrame] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.free = np.ones(len(self.frame), dtype=bool)

    def pick(self, kind: str, where: np.ndarray, share: float) -> np.ndarray:
        """Positions of untouched events among ``where`` ``(n,)`` bool: a fraction ``share`` of them, at least 8 if there are as many."""
        options = np.nonzero(where & self.free)[0]
        chosen = self.rng.choice(options, min(len(options), max(LEAST, round(share * len(options)))), replace=False)
        self.free[chosen] = False
        self.counts[kind] += len(chosen)
        return chosen

    def put(self, at: np.ndarray, **columns: np.ndarray | str | int | NAType) -> None:
        """Sets columns of the events at positions ``at``."""
        places = self.frame.columns.tolist()
        for name, values in columns.items():
            self.frame.iloc[at, places.index(name)] = values

    def add(self, at: np.ndarray, **columns: np.ndarray | str) -> None:
        """Copies of the events at positions ``at``, with other values in some columns."""
        self.added.append(self.frame.iloc[at].assign(**columns))

    def like(self, by: str) -> np.ndarray:
        """For every event the position of another one with the same ``by``, ``(n,)``; one event of each group gets itself."""
        key = self.frame[by].to_numpy()
        # shuffled, then sorted by key: neighbours are random members of one group
        order = self.rng.permutation(len(key))
        order = order[np.argsort(key[order], kind="stable")]
        following = np.roll(order, -1)
        other = np.empty(len(key), dtype=np.int64)
        other[order] = np.where(key[following] == key[order], following, order)
        return other

    def done(self) -> pd.DataFrame:
        """All events, in random order."""
        frame = pd.concat([self.frame, *self.added], ignore_index=True)
        return frame.iloc[self.rng.permutation(len(frame))].reset_index(drop=True)
