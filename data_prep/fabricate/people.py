"""Patients, hospital admissions and ICU stays, one visit after another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

HOUR, DAY = 3600, 86400
YEAR = 365.25 * DAY
UNITS3 = ("MICU", "SICU", "CCU", "CSRU", "TSICU")
UNITS4 = (
    *("Medical Intensive Care Unit (MICU)", "Surgical Intensive Care Unit (SICU)", "Coronary Care Unit (CCU)"),
    *("Medical/Surgical Intensive Care Unit (MICU/SICU)", "Neuro Stepdown", "Trauma SICU (TSICU)"),
)
CODES9 = ("0389", "4280", "486", "51881", "5849", "42731", "4019", "25000", "41401", "2724", "V1582", "E8788")
CODES10 = ("A419", "I509", "J189", "N179", "I4891", "I10", "E119", "I2510", "E785", "Z87891")
# not in the dictionary of diagnoses; "389" is "0389" read as a number
UNLISTED = ("389", "ZZ999", "00000")


@dataclass(frozen=True)
class Icu:
    """Specification of one ICU stay.

    Args:
        seconds: from INTIME to OUTTIME; if None, drawn, 48 h or longer.
        moved: ``unit`` or ``ward`` (MIMIC-III): the last one differs from the first.
        los: whether OUTTIME and LOS are known.
        events: ``usual``, ``none``, ``unclean``, ``late`` (after 48 h), ``first hour`` or ``gap`` (first hour, then after 20 h).
    """

    seconds: int | None = None
    moved: str = ""
    los: bool = True
    events: str = "usual"


@dataclass
class Person:
    """A patient and the time, in seconds since 1970, at which the last admission ended."""

    subject_id: int
    age: float
    clock: int
    listed: bool = True
    birth: int | None = None
    death: int | None = None
    male: bool = True


@dataclass
class Population:
    """Draws people; rows are collected as lists of dictionaries, all times in seconds since 1970.

    Args:
        edition: 3 or 4.
        stays: number of ICU stays to come.
        rng: generator of every draw.
    """

    edition: int
    stays: int
    rng: np.random.Generator
    people: list[Person] = field(default_factory=list)
    admissions: list[dict[str, Any]] = field(default_factory=list)
    icu: list[dict[str, Any]] = field(default_factory=list)
    diagnoses: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        starts, span = ((1, 100_001, 200_001), 99_998) if self.edition == 3 else ((10_000_001, 20_000_001, 30_000_001), 9_999_998)
        draw = lambda start, size: iter((start + self.rng.choice(span, size, replace=False)).tolist())
        self._subjects, self._hadms, self._stays = map(draw, starts, (self.stays, 3 * self.stays, self.stays))

    @property
    def room(self) -> int:
        """ICU stays still to come."""
        return self.stays - len(self.icu)

    def person(self, age: float | None = None, listed: bool = True) -> Person:
        """A new patient of ``age`` years (if None, drawn from 20 to 88); unlisted ones are missing from PATIENTS."""
        age = float(self.rng.uniform(20, 88)) if age is None else age
        clock = int(self.rng.integers(int(140 * YEAR), int(210 * YEAR))) // 60 * 60  # the twenty-second century, as in the official files
        person = Person(next(self._subjects), age, clock, listed, male=bool(self.rng.random() < 0.5))
        self.people.append(person)
        return person

    def visit(
        self,
        person: Person,
        *stays: Icu,
        gap: int = 0,
        fate: str = "home",
        listed: bool = True,
        codes: str = "listed",
        rest: int | None = None,
        birth_days: float | None = None,
    ) -> None:
        """One hospital admission.

        Args:
            person: the patient.
            stays: its ICU stays, in order; may be empty.
            gap: seconds from the last discharge (or the start of the patient's clock) to the admission; negative for an overlap.
            fate: ``home``, ``died``, ``same day`` (dies after discharge, that day), ``late record`` (DEATHTIME after DISCHTIME, no DOD),
                ``later`` (dies three weeks after).
            listed: False leaves it out of ADMISSIONS.
            codes: its diagnoses: ``listed``, ``none``, ``unlisted``, ``null``, ``version`` (of the other ICD version) or ``mixed``.
            rest: seconds from the last ICU stay to discharge; drawn if None.
            birth_days: DOB is midnight this many days before the first INTIME, instead of being derived from the age.
        """
        draw = lambda low, high: int(self.rng.integers(low, high))
        start = person.clock + gap
        hadm, end = next(self._hadms), start
        for i, plan in enumerate(stays):
            inside = end + (draw(600, 8 * HOUR) if i == 0 else draw(6 * HOUR, 40 * HOUR))
            seconds = draw(49 * HOUR, 80 * HOUR) + int(self.rng.exponential(40 * HOUR)) if plan.seconds is None else plan.seconds
            end = inside + seconds
            if person.birth is None:
                birth = inside - (person.age * YEAR if birth_days is None else birth_days * DAY)
                person.birth = int(birth // DAY * DAY)
            self._add(person, hadm, plan, inside, end)
        rest = draw(3 * HOUR, 90 * HOUR) if rest is None else rest
        if fate == "died":
            rest = draw(0, HOUR)
        end += rest + (30 * HOUR if not stays else 0)
        if fate == "same day":  # discharged in the morning, with time to die on the same day
            end = end // DAY * DAY + DAY + 10 * HOUR
        person.clock = end
        if person.birth is None:
            person.birth = int((start - person.age * YEAR) // DAY * DAY)
        death = end if fate == "died" else end + 600 if fate == "late record" else None
        if fate in ("died", "same day", "later"):
            person.death = (end + (21 * DAY if fate == "later" else 0)) // DAY * DAY
        row = {"subject_id": person.subject_id, "hadm_id": hadm, "admittime": start, "dischtime": end, "deathtime": death}
        row["hospital_expire_flag"] = int(death is not None)
        if listed:
            self.admissions.append(row)
        self._diagnose(person, hadm, codes)

    def _add(self, person: Person, hadm: int, plan: Icu, inside: int, end: int) -> None:
        units = [str(unit) for unit in self.rng.choice(UNITS3 if self.edition == 3 else UNITS4, 2, replace=False)]
        wards = [int(ward) for ward in self.rng.choice(np.arange(7, 58), 2, replace=False)]
        los = (end - inside) / DAY
        self.icu.append(
            {
                "subject_id": person.subject_id,
                "hadm_id": hadm,
                "stay_id": next(self._stays),
                "system": str(self.rng.choice(["carevue", "metavision", "both"], p=[0.5, 0.42, 0.08]))
                if self.edition == 3
                else "metavision",
                "first_careunit": units[0],
                "last_careunit": units[plan.moved == "unit"],
                "first_wardid": wards[0],
                "last_wardid": wards[plan.moved == "ward"],
                "intime": inside,
                "outtime": end if plan.los else None,
                "los": (round(los, 4) if self.edition == 3 else los) if plan.los else None,
                "seconds": end - inside,
                "events": plan.events,
            }
        )

    def _system(self) -> str:
        return "metavision" if self.edition == 4 else str(self.rng.choice(["carevue", "metavision", "both"], p=[0.5, 0.42, 0.08]))

    def _diagnose(self, person: Person, hadm: int, codes: str) -> None:
        nine = self.edition == 3 or self.rng.random() < 0.5
        known = CODES9 if nine else CODES10
        some = [known[i] for i in self.rng.permutation(len(known))[: int(self.rng.integers(1, 6))]]
        choices: dict[str, list[str | None]] = {"none": [], "unlisted": [*UNLISTED], "null": [None], "mixed": [UNLISTED[0], *some]}
        given = choices.get(codes, [*some])
        version = (9 if nine else 10) if codes != "version" else (10 if nine else 9)
        for i, code in enumerate(given):
            self.diagnoses.append(
                {"subject_id": person.subject_id, "hadm_id": hadm, "seq_num": i + 1, "icd_code": code, "icd_version": version}
            )
