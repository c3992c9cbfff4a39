"""The published releases by their numbers of rows, as printed on PhysioNet's pages and in MIT-LCP/mimic-code (``validate.sql``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TELLING = ("patients", "admissions", "icustays", "diagnoses_icd")
"""Small tables whose numbers of rows, together, tell a release."""

ENOUGH = 2
"""How many of them have to agree: fewer may be chance."""


@dataclass(frozen=True)
class Edition:
    """One published release.

    Args:
        title: its name and version.
        version: the version alone.
        doi: where it is published.
        rows: number of rows by table.
        demo: an open demo, which is passed on in altered forms: only missing events count against it.
    """

    title: str
    version: str
    doi: str
    rows: Mapping[str, int]
    demo: bool = False

    def lacking(self, rows: Mapping[str, int]) -> dict[str, tuple[int, int]]:
        """Rows found and published, of the tables that are not as published."""
        known = {table: (found, self.rows[table]) for table, found in rows.items() if table in self.rows}
        if self.demo:
            return {table: (found, there) for table, (found, there) in known.items() if table.endswith("events") and found < there}
        return {table: (found, there) for table, (found, there) in known.items() if found != there}


_IV3 = {
    "patients": 364_627,
    "admissions": 546_028,
    "icustays": 94_458,
    "d_icd_diagnoses": 112_107,
    "chartevents": 432_997_491,
    "outputevents": 5_359_395,
}
EDITIONS = {
    "mimic3": (
        Edition(
            "MIMIC-III Clinical Database v1.4",
            "1.4",
            "10.13026/C2XW26",
            {
                "patients": 46_520,
                "admissions": 58_976,
                "icustays": 61_532,
                "diagnoses_icd": 651_047,
                "d_icd_diagnoses": 14_567,
                "chartevents": 330_712_483,
                "labevents": 27_854_055,
                "outputevents": 4_349_218,
                "noteevents": 2_083_180,
            },
        ),
        Edition(
            "MIMIC-III Clinical Database Demo v1.4",
            "demo 1.4",
            "10.13026/C2HM2Q",
            {
                "patients": 100,
                "admissions": 129,
                "icustays": 136,
                "diagnoses_icd": 1_761,
                "chartevents": 758_355,
                "labevents": 76_074,
                "outputevents": 11_320,
            },
            demo=True,
        ),
    ),
    "mimic4": (
        Edition("MIMIC-IV v3.1", "3.1", "10.13026/kpb9-mt58", _IV3 | {"diagnoses_icd": 6_364_488, "labevents": 158_374_764}),
        Edition("MIMIC-IV v3.0", "3.0", "10.13026/hxp0-hg59", _IV3 | {"diagnoses_icd": 6_364_520, "labevents": 158_478_383}),
        Edition(
            "MIMIC-IV v2.2",
            "2.2",
            "10.13026/6mm1-ek67",
            {
                "patients": 299_712,
                "admissions": 431_231,
                "icustays": 73_181,
                "diagnoses_icd": 4_756_326,
                "d_icd_diagnoses": 109_775,
                "chartevents": 313_645_063,
                "labevents": 118_171_367,
                "outputevents": 4_234_967,
            },
        ),
        Edition(
            "MIMIC-IV v2.0",
            "2.0",
            "10.13026/7vcr-e114",
            {
                "patients": 315_460,
                "admissions": 454_324,
                "icustays": 76_943,
                "diagnoses_icd": 5_006_884,
                "d_icd_diagnoses": 109_775,
                "chartevents": 329_822_285,
                "labevents": 124_342_638,
            },
        ),
        Edition(
            "MIMIC-IV Clinical Database Demo v2.2",
            "demo 2.2",
            "10.13026/dp1f-ex47",
            {
                "patients": 100,
                "admissions": 275,
                "icustays": 140,
                "diagnoses_icd": 4_506,
                "chartevents": 668_862,
                "labevents": 107_727,
                "outputevents": 9_362,
            },
            demo=True,
        ),
    ),
}
"""Releases by the name of the cohort, newest first."""


def recognised(name: str, rows: Mapping[str, int]) -> Edition | None:
    """The release whose telling tables agree best, if at least two do; of several the newest.

    Args:
        name: ``mimic3`` or ``mimic4``.
        rows: number of rows of each of ``TELLING``.
    """
    agreeing = [sum(edition.rows.get(table) == rows[table] for table in TELLING) for edition in EDITIONS[name]]
    return EDITIONS[name][agreeing.index(max(agreeing))] if max(agreeing) >= ENOUGH else None
