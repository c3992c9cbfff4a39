"""Shared by both editions: checks of the arguments, the hospital with its corrupted events, small conversions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cm2.errors import InputError
from cm2.progress import Progress
from data_prep.fabricate.charting import chart, simulate
from data_prep.fabricate.dirt import Charted
from data_prep.fabricate.dirt_rows import soil_rows
from data_prep.fabricate.dirt_values import soil_values
from data_prep.fabricate.people import Person
from data_prep.fabricate.scenarios import populate

LEAST, MOST = 50, 30_000


@dataclass(frozen=True)
class Hospital:
    """Everything drawn before it is laid out in tables; times in seconds since 1970.

    Args:
        factors: factors of the stays, ``(n, 3, d)``.
        people: the patients.
        admissions: one row each.
        icu: n stays.
        diagnoses: one row each.
        events: events with injected errors, see ``charting.chart``.
        dirt: number of injected errors by kind.
        rng: generator for the draws that follow.
    """

    factors: np.ndarray
    people: list[Person]
    admissions: pd.DataFrame
    icu: pd.DataFrame
    diagnoses: pd.DataFrame
    events: pd.DataFrame
    dirt: Counter[str]
    rng: np.random.Generator


def check(out: Path, stays: int, seed: int) -> None:
    """Checks the arguments.

    Raises:
        ValueError: too few or too many stays, a negative seed, or an ``out`` that is not empty.
    """
    if not LEAST <= stays <= MOST:
        raise InputError(
            f"stays: got {stays}; all cases together need at least {LEAST} ICU stays, and the identifiers suffice for {MOST}: "
            "give a number between"
        )
    if seed < 0:
        raise InputError(f"seed: got {seed}; give 0 or a positive integer")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not an empty folder; remove it or choose another one")


def admit(edition: int, stays: int, seed: int) -> Hospital:
    """A hospital of ``stays`` ICU stays, with errors injected into its events."""
    with Progress("", 4, even=False) as progress:
        progress.stage("simulating")
        factors, series, outcomes = simulate(stays, seed)
        rng = np.random.default_rng((seed, edition))
        population, dirt = populate(edition, stays, outcomes, rng)
        icu, admissions = pd.DataFrame(population.icu), pd.DataFrame(population.admissions)
        progress.stage("charting")
        charted = Charted(chart(series, icu, rng), rng)
        progress.stage("flaws of values")
        soil_values(charted)
        progress.stage("flaws of rows")
        soil_rows(charted, icu, admissions)
        events = charted.done()
    return Hospital(factors, population.people, admissions, icu, pd.DataFrame(population.diagnoses), events, dirt + charted.counts, rng)


def moments(seconds: pd.Series) -> pd.Series:
    """Seconds since 1970, possibly missing, as datetimes."""
    return pd.to_datetime(seconds.astype("Int64"), unit="s").astype("datetime64[s]")


def numbers(value: pd.Series) -> pd.Series:
    """The column VALUENUM: the text as a number, if it is one. Rows without a text have a number all the same."""
    number = pd.to_numeric(value, errors="coerce")
    return number.where(np.isfinite(number)).mask(value.isna(), 100.0)


def shuffled(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The rows in random order: official tables have no order to rely on."""
    return frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)
