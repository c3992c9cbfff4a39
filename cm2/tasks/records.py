"""What a task hands out of itself: the stays that a metric tells apart, an outcome for other programs, a metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from numpy.typing import NDArray

from cm2.uncertainty import Measured


class Count(NamedTuple):
    """Stays that a metric distinguishes: of a class, of a label, or all."""

    n: int
    """Stays with a known outcome."""
    positives: int | None = None
    """Those of them that are of the class, have the label, or the event; None where nothing is told apart."""

    @property
    def sides(self) -> tuple[int, ...]:
        """Stays without and with it; all where nothing is told apart."""
        return (self.n,) if self.positives is None else (self.n - self.positives, self.positives)

    @property
    def smaller(self) -> int:
        """Size of the smaller side."""
        return min(self.sides)


class Single(NamedTuple):
    """One outcome, as programs for a single outcome take it: a task is one of them or several."""

    target: NDArray
    """``(n,)``, NaN where unknown: a class, or a number on the scale of the outputs."""
    classes: int
    """Number of classes; 0 for a number."""
    constant: float | None = None
    """The output where only one of two classes is there, from which nothing can be learnt."""


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are."""

    name: str
    """In files, for example ``macro_auroc``."""
    heading: str
    """In tables, for example ``Macro AUROC``."""
    measure: Callable[..., Measured]
    """Of labels and predictions of the same stays, with its dependence on each of them; labels that are unknown are left out."""
    higher: bool = True
    """Whether more is better."""
    share: bool = True
    """Whether it lies between 0 and 1, so that its interval does; see `cm2.uncertainty.Uncertain.interval`."""
    of_task: bool = False
    """Whether ``measure`` takes the task before them."""

    def bound(self, task: object) -> Metric:
        """The metric of a task, whose ``measure`` takes labels and predictions alone."""
        return replace(self, measure=partial(self.measure, task), of_task=False) if self.of_task else self

    def gain(self, value: float) -> float:
        """The value, or its negative where less is better: what is to be made large."""
        return value if self.higher else -value
