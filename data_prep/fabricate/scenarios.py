"""The patients: every case that a rule of the preparation treats, then ordinary ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict, Unpack

import numpy as np

from data_prep.fabricate.people import DAY, HOUR, Icu, Population

MONTH = 30 * DAY
EVERY = 200


@dataclass(frozen=True)
class Scenario:
    """A case: its name, the number of ICU stays it takes, the function that creates it, and the editions that have it."""

    name: str
    stays: int
    make: Callable[[Population], None]
    editions: tuple[int, ...] = (3, 4)


class _Visit(TypedDict, total=False):
    """Options of an admission beside its stays, see ``Population.visit``."""

    fate: str
    listed: bool
    codes: str
    rest: int
    birth_days: float


def _again(first: Icu, *then: Icu, gap: int, **options: Unpack[_Visit]) -> Callable[[Population], None]:
    def make(population: Population) -> None:
        person = population.person()
        population.visit(person, first)
        population.visit(person, *then, gap=gap, **options)

    return make


def _overlap(population: Population) -> None:
    person = population.person()
    population.visit(person, Icu(), rest=4 * HOUR)
    population.visit(person, Icu(), gap=-20 * HOUR)  # in intensive care under both admissions for some hours


def _once(*stays: Icu, age: float | None = None, known: bool = True, **options: Unpack[_Visit]) -> Callable[[Population], None]:
    return lambda population: population.visit(population.person(age, known), *stays, **options)


def _three(population: Population) -> None:
    person = population.person()
    for gap in (0, 12 * DAY, 400 * DAY):
        population.visit(person, Icu(), gap=gap)


SCENARIOS = (
    Scenario("care_unit_change", 1, _once(Icu(moved="unit"))),
    Scenario("ward_change", 1, _once(Icu(moved="ward")), (3,)),
    Scenario("subject_not_in_patients", 1, _once(Icu(), known=False)),
    Scenario("stay_not_in_admissions", 1, _once(Icu(), listed=False)),
    Scenario("two_stays_in_admission", 2, _once(Icu(), Icu())),
    Scenario("two_stays_one_moved", 2, _once(Icu(seconds=30 * HOUR, moved="unit"), Icu())),
    Scenario("minor", 1, _once(Icu(), age=12.4)),
    Scenario("eighteen_in_short_years", 1, _once(Icu(), birth_days=18 * 365 + 2), (3,)),
    Scenario("eighteen", 1, _once(Icu(), age=18.0), (4,)),
    Scenario("age_300", 1, _once(Icu(), age=300.0), (3,)),
    Scenario("age_91", 1, _once(Icu(), age=91.0), (4,)),
    Scenario("born_after_admission", 1, _once(Icu(), birth_days=-40), (3,)),
    Scenario("no_diagnosis", 1, _once(Icu(), codes="none")),
    Scenario("unlisted_diagnosis", 1, _once(Icu(), codes="unlisted")),
    Scenario("null_diagnosis", 1, _once(Icu(), codes="null"), (3,)),
    Scenario("diagnosis_of_other_version", 1, _once(Icu(), codes="version"), (4,)),
    Scenario("unlisted_and_listed_diagnosis", 1, _once(Icu(), codes="mixed")),
    Scenario("missing_los", 1, _once(Icu(los=False))),
    Scenario("short_stay", 1, _once(Icu(seconds=20 * HOUR))),
    Scenario("stay_47_59_59", 1, _once(Icu(seconds=48 * HOUR - 1))),
    Scenario("stay_48_h", 1, _once(Icu(seconds=48 * HOUR))),
    Scenario("stay_without_events", 1, _once(Icu(events="none"))),
    Scenario("stay_with_unclean_events", 1, _once(Icu(events="unclean"))),
    Scenario("stay_with_late_events", 1, _once(Icu(events="late"))),
    Scenario("events_in_first_hour", 1, _once(Icu(events="first hour"))),
    Scenario("events_with_gap", 1, _once(Icu(events="gap"))),
    Scenario("death_on_day_of_discharge", 1, _once(Icu(), fate="same day")),
    Scenario("deathtime_after_discharge", 1, _once(Icu(), fate="late record")),
    Scenario("death_in_hospital", 1, _once(Icu(), fate="died")),
    Scenario("death_after_three_weeks", 1, _once(Icu(), fate="later")),
    Scenario("readmitted_to_icu", 2, _again(Icu(), Icu(), gap=9 * DAY)),
    Scenario("readmitted_to_ward", 1, _again(Icu(), gap=9 * DAY)),
    Scenario("readmitted_after_30_days", 2, _again(Icu(), Icu(), gap=MONTH)),
    Scenario("readmitted_a_second_earlier", 2, _again(Icu(), Icu(), gap=MONTH - 1)),
    Scenario("readmitted_to_changed_unit", 2, _again(Icu(), Icu(moved="unit"), gap=4 * DAY)),
    Scenario("readmitted_to_short_stay", 2, _again(Icu(), Icu(seconds=9 * HOUR), gap=5 * DAY)),
    Scenario("overlapping_admissions", 2, _overlap),
    Scenario("touching_admissions", 2, _again(Icu(), Icu(), gap=0)),
    Scenario("three_admissions", 3, _three),
)


def populate(edition: int, stays: int, outcomes: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[Population, Counter[str]]:
    """A hospital with every scenario, then ordinary patients.

    Args:
        edition: 3 or 4.
        stays: number of ICU stays, at least 50.
        outcomes: by task ``(stays,)``, 0 or 1: the outcome of an ordinary patient whose first stay is the i-th.
        rng: generator of every draw.

    Returns:
        The population, and the number of occurrences of each scenario.
    """
    population, counts = Population(edition, stays, rng), Counter[str]()
    for _ in range(max(1, stays // EVERY)):
        for scenario in SCENARIOS:
            if edition in scenario.editions and scenario.stays <= population.room:
                scenario.make(population)
                counts[scenario.name] += 1
    while population.room:
        i = len(population.icu)
        _ordinary(population, bool(outcomes["in_hospital_mortality"][i]), bool(outcomes["readmission"][i]))
    return population, counts


def _ordinary(population: Population, died: bool, again: bool) -> None:
    rng, person = population.rng, population.person()
    short = int(rng.integers(5 * HOUR, 48 * HOUR)) if rng.random() < 0.12 else None
    population.visit(person, Icu(short), fate="died" if died else "home")
    if died:
        return
    to_icu = [Icu()] if population.room and rng.random() < 0.6 else []
    if again:
        population.visit(person, *to_icu, gap=int(rng.integers(HOUR, MONTH)))
    elif rng.random() < 0.12:
        population.visit(person, *to_icu, gap=int(rng.integers(MONTH, 12 * MONTH)))
