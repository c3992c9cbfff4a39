"""Charted, laboratory and output events of the 17 variables: read, attributed to a stay, cleaned.

The 114 item ids are rows of ``items.csv``; the rules are those of the MIMIC-III benchmarks' ``preprocessing.py`` (Harutyunyan et al.,
Scientific Data 2019), with those quirks of the released preparation that are switched on. A value is not read if it is no number or no
known category, of another fluid than blood, or outside its channel's plausible range; every row that is set aside or not read is counted.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from cm2.progress import Progress
from data_prep.channels import CHANNELS
from data_prep.mimic.quirks import Quirks
from data_prep.mimic.raw import Release, find_table, query_share, reading, source

TABLES = ("chartevents", "labevents", "outputevents")
PLAIN = r"(\d+(\.\d*)?|\.\d+)"
SET_ASIDE = {
    "no_value": "value IS NULL",
    "no_time": "charttime IS NULL",
    "no_admission_id": "hadm_id IS NULL",
    "admission_not_in_cohort": "owner IS NULL",
    "of_another_stay": "stay_id <> owner",
}
"""Conditions that exclude a row, by name, in the order in which they are checked."""

READ = "read"
UNREAD = ("not_a_number", "not_a_category", "of_another_fluid", "out_of_range")
"""Why a value is not read."""

AS_TEXT = ("Heart Rate", "Mean blood pressure", "Respiratory rate")
"""Variables that the benchmark has no cleaning function for, so that they stay text until they are sorted."""

CAPILLARY_REFILL = {"Normal <3 secs": 0, "Brisk": 0, "Abnormal >3 secs": 1, "Delayed": 1}
FAHRENHEIT, POUNDS, OUNCES, INCHES = (3654, 678, 223761, 679), (3581, 226531), 3582, 1394


def items() -> pd.DataFrame:
    """The 114 item ids: ``itemid``, ``variable``, ``source`` (lab, carevue, metavision), ``unit`` (where a variable's items differ) and
    ``fluid`` (where it is not blood, by MIMIC's dictionary of laboratory items)."""
    return pd.read_csv(str(files("data_prep.mimic") / "items.csv"), keep_default_na=False)


def known_channels(sources: Collection[str]) -> set[str]:
    """The variables that these sources have an item for."""
    known = items()
    return set(known["variable"][known["source"].isin(sources)])


def read_events(connection: duckdb.DuckDBPyConnection, raw: Path, release: Release, stays: pd.DataFrame, quirks: Quirks) -> dict[str, Any]:
    """Fills the table ``event (subject_id, stay_id, charttime, itemid, value, unit, aside)`` with the rows of the 114 items.

    An event belongs to the stay of its admission; ``aside`` is the reason for excluding it, or null.

    Args:
        connection: connection to DuckDB.
        raw: folder of the tables.
        release: release of the tables.
        stays: stays that passed the first five steps of the flow chart, one per admission.
        quirks: only ``units_ignored`` is used.

    Returns:
        Rows by table, and rows by reason for exclusion.
    """
    connection.register("item_frame", items().assign(variable=lambda frame: _codes(frame["variable"])))
    connection.execute(
        "CREATE TABLE item AS SELECT itemid::BIGINT AS itemid, variable::UTINYINT AS variable, fluid <> '' AS foreign_fluid FROM item_frame"
    )
    connection.register("owner_frame", stays[["subject_id", "hadm_id", "stay_id"]])
    connection.execute("CREATE TABLE owner AS SELECT subject_id, hadm_id, stay_id AS owner FROM owner_frame")
    connection.execute(
        "CREATE TABLE event (subject_id BIGINT, stay_id BIGINT, charttime TIMESTAMP, itemid BIGINT, value VARCHAR, unit VARCHAR,"
        " aside VARCHAR)"
    )
    rows: dict[str, int] = {}
    paths = {table: find_table(raw, release, table) for table in TABLES}
    sizes = {table: path.stat().st_size for table, path in paths.items()}
    with Progress("", sum(sizes.values()), "B") as progress:
        for table, path in paths.items():
            progress.measure = partial(_bytes_read, connection, sizes[table])
            names = release.columns(table)
            stay = next((name for name in names if name in ("stay_id", "icustay_id")), "NULL::BIGINT")
            unit = "''" if quirks.units_ignored and release.name == "mimic4" else "coalesce(valueuom, '')"
            with reading(path):
                connection.execute(f"""
                    INSERT INTO event SELECT subject_id, owner, charttime, itemid, value, unit, {_reason()} FROM (
                        SELECT subject_id, hadm_id, {stay} AS stay_id, itemid, try_cast(charttime AS TIMESTAMP) AS charttime,
                            trim(value, ' \t\r\n') AS value, {unit} AS unit
                        FROM {source(path, release, table)} WHERE itemid IN (SELECT itemid FROM item)
                    ) LEFT JOIN owner USING (subject_id, hadm_id)
                """)
            progress.advance(sizes[table])
            rows[table] = connection.execute("SELECT count(*) FROM event").fetchall()[0][0] - sum(rows.values())
    reasons = connection.execute("SELECT coalesce(aside, 'kept'), count(*) FROM event GROUP BY 1 ORDER BY 1").fetchall()
    return {"rows_of_the_items": rows, "rows": dict.fromkeys([*SET_ASIDE, "kept"], 0) | dict(reasons)}


def clean_events(connection: duckdb.DuckDBPyConnection, quirks: Quirks) -> dict[str, dict[str, int]]:
    """Fills ``cleaned (subject_id, stay_id, charttime, variable, number, text, fate)`` from ``event``.

    Categories are ranks in code-point order. ``fate`` is ``read`` or one of ``UNREAD``, with a null number; ``text`` is the value as
    written for ``AS_TEXT``, with ``largest_as_text``.

    Returns:
        Number of values that are not read, by variable: those that are no number, no known category or of another fluid, and those out
        of the plausible range.
    """
    connection.register("category_frame", _categories())
    connection.execute("CREATE TABLE category AS SELECT variable::UTINYINT AS of_variable, text, rank::DOUBLE AS rank FROM category_frame")
    connection.execute(f"CREATE TYPE fate AS ENUM ({', '.join(repr(name) for name in (READ, *UNREAD))})")
    rules = _rules(quirks)
    textual = ", ".join(str(code) for code, channel in enumerate(CHANNELS) if channel.categories)
    cases = "\n".join(f"WHEN {_code(name)} THEN {rule}" for name, rule in rules.items())
    as_text = f"CASE WHEN variable IN ({', '.join(str(_code(name)) for name in AS_TEXT)}) THEN value END"
    with Progress("", measure=partial(query_share, connection)):
        connection.execute(f"""
            CREATE TABLE cleaned AS
            SELECT subject_id, stay_id, charttime, variable, CASE WHEN fate = '{READ}' THEN number END AS number, text, fate::fate AS fate
            FROM (
                SELECT *, CASE WHEN {"FALSE" if quirks.other_fluids_as_blood else "foreign_fluid"} THEN 'of_another_fluid'
                    WHEN number IS NULL THEN CASE WHEN variable IN ({textual}) THEN 'not_a_category' ELSE 'not_a_number' END
                    WHEN {"FALSE" if quirks.implausible_values_kept else implausible()} THEN 'out_of_range' ELSE '{READ}' END AS fate
                FROM (
                    SELECT subject_id, stay_id, charttime, variable, foreign_fluid, CASE WHEN variable IN ({textual}) THEN rank
                        WHEN isfinite(x) THEN CASE variable {cases} ELSE x END END AS number,
                        {as_text if quirks.largest_as_text else "NULL::VARCHAR"} AS text
                    FROM (
                        SELECT subject_id, stay_id, charttime, itemid, variable, foreign_fluid, value, unit, lower(unit) AS lower_unit,
                            CASE variable
                            WHEN {_code("Systolic blood pressure")} THEN {_pressure(1)}
                            WHEN {_code("Diastolic blood pressure")} THEN {_pressure(2)}
                            ELSE try_cast(value AS DOUBLE) END AS x
                        FROM event JOIN item USING (itemid) WHERE aside IS NULL
                    ) LEFT JOIN category ON of_variable = variable AND category.text = {_category_text()}
                )
            )
        """)
    unread = f"SELECT variable, fate::VARCHAR, count(*) FROM cleaned WHERE fate <> '{READ}' GROUP BY ALL ORDER BY ALL"
    counts: dict[str, dict[str, int]] = {"not_read_by_variable": {}, "out_of_range_by_variable": {}}
    for code, fate, count in connection.execute(unread).fetchall():
        by_variable = counts["out_of_range_by_variable" if fate == "out_of_range" else "not_read_by_variable"]
        by_variable[CHANNELS[code].name] = by_variable.get(CHANNELS[code].name, 0) + count
    return counts


def category_ranks(code: int) -> list[int]:
    """Position among a channel's categories of each rank in code-point order: the inverse of the coding in ``cleaned``."""
    categories = CHANNELS[code].categories
    return sorted(range(len(categories)), key=lambda position: categories[position])


def _rules(quirks: Quirks) -> dict[str, str]:
    """SQL that converts a finite number ``x`` (with text ``value``), by variable; a variable without a rule keeps the number."""
    divided = "TRUE" if quirks.fio2_always_divided else "x > 1"
    fahrenheit = "FALSE" if quirks.fahrenheit_by_value else f"contains(unit, 'F') OR itemid IN {FAHRENHEIT}"
    plain = f"regexp_full_match(value, '{PLAIN}')"
    return {
        "Fraction inspired oxygen": f"CASE WHEN contains(lower_unit, 'torr') OR NOT ({divided}) THEN x ELSE x / 100 END",
        "Glucose": f"CASE WHEN {plain} THEN x END",
        "pH": f"CASE WHEN {plain} THEN x END",
        "Oxygen saturation": f"CASE WHEN {plain} THEN CASE WHEN x <= 1 THEN x * 100 ELSE x END END",
        "Temperature": f"CASE WHEN x >= 79 OR {fahrenheit} THEN (x - 32) * 5 / 9 ELSE x END",
        "Weight": f"""CASE WHEN itemid = {OUNCES} OR contains(lower_unit, 'oz') THEN x / 16 * 0.453592
            WHEN itemid IN {POUNDS} OR contains(lower_unit, 'lb') THEN x * 0.453592 ELSE x END""",
        "Height": f"CASE WHEN itemid = {INCHES} OR contains(lower_unit, 'in') THEN round_even(x * 2.54, 0) ELSE x END",
    }


def implausible() -> str:
    """SQL for a cleaned ``number`` outside the plausible range of its variable."""
    ranges = {code: channel.plausible for code, channel in enumerate(CHANNELS) if channel.plausible}
    cases = " ".join(f"WHEN {code} THEN number NOT BETWEEN {low}::DOUBLE AND {high}::DOUBLE" for code, (low, high) in ranges.items())
    return f"CASE variable {cases} ELSE FALSE END"


def _bytes_read(connection: duckdb.DuckDBPyConnection, size: int) -> float:
    return size * query_share(connection)


def _pressure(part: int) -> str:
    """SQL for a blood pressure: a number, or one part of ``systolic/diastolic`` if both are numbers."""
    parts = [f"try_cast(split_part(value, '/', {i}) AS DOUBLE)" for i in (1, 2)]
    both = f"len(string_split(value, '/')) = 2 AND isfinite({parts[0]}) AND isfinite({parts[1]})"
    return f"CASE WHEN NOT contains(value, '/') THEN try_cast(value AS DOUBLE) WHEN {both} THEN {parts[part - 1]} END"


def _category_text() -> str:
    """SQL for the text looked up among the categories: the total coma score as a whole number, with decimals dropped if they are 0."""
    whole = "isfinite(x) AND abs(x) < 100 AND x = trunc(x)"
    return f"CASE WHEN variable = {_code('Glascow coma scale total')} THEN CASE WHEN {whole} THEN x::INT::VARCHAR END ELSE value END"


def _categories() -> pd.DataFrame:
    rows = []
    for code, channel in enumerate(CHANNELS):
        texts = {channel.categories[position]: rank for rank, position in enumerate(category_ranks(code))}
        known = CAPILLARY_REFILL if channel.name == "Capillary refill rate" else texts
        rows += [(code, text, rank) for text, rank in known.items()]
    return pd.DataFrame(rows, columns=["variable", "text", "rank"])


def _reason() -> str:
    return "CASE " + " ".join(f"WHEN {condition} THEN '{name}'" for name, condition in SET_ASIDE.items()) + " END"


def _code(name: str) -> int:
    return next(code for code, channel in enumerate(CHANNELS) if channel.name == name)


def _codes(names: pd.Series) -> pd.Series:
    return names.map({channel.name: code for code, channel in enumerate(CHANNELS)})
