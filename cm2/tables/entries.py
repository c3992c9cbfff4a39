"""Rows by sections by tasks: the configurations of a table, which depend on a cohort by its role alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cm2.cohorts import Cohort
from cm2.config import Config
from cm2.errors import InputError
from cm2.methods import METHODS
from cm2.tables.spec import ABSENT, Role, Row, Section, TableSpec

RATE = 0.75
"""Default masking rate: the share of MIMIC-IV stays without a radiograph."""


@dataclass(frozen=True)
class Entry:
    """A row of a section for one task: one configuration under several seeds."""

    section: Section
    row: Row
    task: str
    """Heading of the task."""
    configs: tuple[Config, ...]
    """One for each seed."""


def entries_of(
    spec: TableSpec,
    role: Role,
    modalities: tuple[str, ...],
    profile: str,
    seeds: int,
    rows: Sequence[Row],
    tasks: Mapping[str, str],
    settings: Mapping[str, Any],
) -> list[Entry]:
    """Rows by sections by tasks, which depend on a cohort by its role alone.

    Args:
        spec: the table.
        role: of the cohort.
        modalities: those that the table uses.
        profile: see ``Config.from_profile``.
        seeds: number of seeds; a row may have a number of its own that is smaller.
        rows: those wanted.
        tasks: those wanted, label columns by heading.
        settings: fields to override in every run.

    Raises:
        ValueError: settings that make no configuration.
    """
    entries = []
    for section in spec.section:
        base = _setting(section, role, modalities, settings)
        for row in rows:
            if row.sections and section.label not in row.sections:
                continue
            for heading, task in tasks.items():
                overrides = base | dict(section.set) | dict(row.set) | {"method": row.method, "task": task}
                entries.append(Entry(section, row, heading, _configs(profile, overrides, seeds, row)))
    return entries


def _setting(section: Section, role: Role, modalities: tuple[str, ...], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides that implement a section's setting on a cohort; the user's settings take precedence."""
    overrides: dict[str, Any] = {"modalities": list(modalities), "matched": section.setting != "partial"}
    if section.setting in ABSENT and not _masks(settings):
        rates = _rates(section, role, modalities)
        overrides |= {f"{where}.{name}": rate for where in ABSENT[section.setting] for name, rate in rates.items()}
    return overrides | dict(settings)


def _masks(settings: Mapping[str, Any]) -> bool:
    """Whether the user's settings say what is masked."""
    return any(name.startswith("absent") for name in settings)


def _rates(section: Section, role: Role, modalities: tuple[str, ...]) -> dict[str, float]:
    """Share of the stays that a section masks, by modality: the section's own, or the cohort's.

    A partially matched cohort without rates has missing modalities already; the one-sided settings start from complete stays.
    """
    taken = {name: rate for name, rate in role.partial.items() if name in modalities}
    rates = taken or ({} if section.setting == "partial" and section.rate is None else {modalities[-1]: RATE})
    return rates if section.rate is None else dict.fromkeys(rates, section.rate)


def masks_nothing(section: Section, role: Role, modalities: tuple[str, ...], cohort: Cohort, settings: Mapping[str, Any]) -> bool:
    """Whether a partially matched section would mask nothing in a cohort that lacks nothing."""
    masked = _masks(settings) or bool(_rates(section, role, modalities))
    return section.setting == "partial" and not masked and bool(cohort.with_modalities(modalities).present.all())


def _configs(profile: str, overrides: Mapping[str, Any], seeds: int, row: Row) -> tuple[Config, ...]:
    try:
        first = Config.from_profile(profile, {**overrides, "seed": 0})
    except ValueError as error:
        raise InputError(f"row {row.label}: {error}") from None
    METHODS.find(first.method, f"row {row.label}")
    return tuple(replace(first, seed=seed) for seed in range(min(seeds, row.seeds or seeds)))
