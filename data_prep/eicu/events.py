"""From the tables of eICU to the table ``cleaned`` that MIMIC's binning reads."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd

from cm2.progress import Progress
from data_prep.channels import CHANNELS
from data_prep.eicu.sources import CHARTED, COLUMNS, EICU, FAHRENHEIT, LABS, OFFSETS, SCORES
from data_prep.mimic.events import READ, UNREAD, category_ranks, implausible
from data_prep.mimic.raw import quoted, reading, source

ENTRY = pd.Timestamp("2000-01-01")
"""Stands for every entry: the database has no dates, only minutes after it."""


def clean_events(connection: duckdb.DuckDBPyConnection, tables: dict[str, Path]) -> None:
    """Fills ``cleaned (subject_id, stay_id, charttime, variable, number, text, fate)``, see ``data_prep.mimic.events.clean_events``.

    A stay is its own subject, so that no other stay's events reach it. Temperatures under the item in Fahrenheit, and of 79 or more, are
    converted; oxygen above 1 is a percentage; a score's number becomes its category.

    Args:
        connection: connection to DuckDB, with the table ``candidate (stay_id)``.
        tables: files by table.
    """
    connection.register("score_frame", _scores())
    connection.execute(
        "CREATE TABLE score AS SELECT variable::UTINYINT AS of_variable, score::DOUBLE AS score, rank::DOUBLE AS rank FROM score_frame"
    )
    connection.execute(f"CREATE TYPE fate AS ENUM ({', '.join(quoted(name) for name in (READ, *UNREAD))})")
    connection.execute("CREATE TABLE charted_value (stay_id BIGINT, minutes DOUBLE, variable UTINYINT, value VARCHAR, fahrenheit BOOLEAN)")
    with Progress("", len(tables), "table") as progress:
        for table in progress.each(tables):
            with reading(tables[table]):
                for query in _queries(table, source(tables[table], EICU, table)):
                    connection.execute(f"INSERT INTO charted_value {query}")
    scored = ", ".join(str(_code(name)) for name in SCORES)
    warm, oxygen, saturation = (_code(name) for name in ("Temperature", "Fraction inspired oxygen", "Oxygen saturation"))
    connection.execute(f"""
        CREATE TABLE cleaned AS
        SELECT subject_id, stay_id, charttime, variable, CASE WHEN fate = '{READ}' THEN number END AS number, NULL::VARCHAR AS text,
            fate::fate AS fate
        FROM (
            SELECT *, CASE WHEN number IS NULL THEN CASE WHEN variable IN ({scored}) THEN 'not_a_category' ELSE 'not_a_number' END
                WHEN {implausible()} THEN 'out_of_range' ELSE '{READ}' END AS fate
            FROM (
                SELECT stay_id AS subject_id, stay_id, {_moment()} AS charttime, variable, CASE
                    WHEN variable IN ({scored}) THEN rank
                    WHEN NOT isfinite(x) THEN NULL
                    WHEN variable = {warm} AND (fahrenheit OR x >= 79) THEN (x - 32) * 5 / 9
                    WHEN variable = {oxygen} AND x > 1 THEN x / 100
                    WHEN variable = {saturation} AND x <= 1 THEN x * 100
                    ELSE x END AS number
                FROM (SELECT *, try_cast(value AS DOUBLE) AS x FROM charted_value WHERE minutes IS NOT NULL)
                LEFT JOIN score ON of_variable = variable AND score = x
            )
        )
    """)
    connection.execute("DROP TABLE charted_value")


def _queries(table: str, rows: str) -> list[str]:
    """SQL of a table's charted values, one query for each of its channels that is a column."""
    here = "try_cast(patientunitstayid AS BIGINT) IN (SELECT stay_id FROM candidate)"
    ids = "try_cast(patientunitstayid AS BIGINT)"
    if table in COLUMNS:
        offset = f"try_cast({OFFSETS[table]} AS DOUBLE)"
        there = lambda column: f"{here} AND trim(coalesce({column}, '')) <> ''"
        return [
            f"SELECT {ids}, {offset}, {_code(channel)}, trim({column}), FALSE FROM {rows} WHERE {there(column)}"
            for column, channel in COLUMNS[table].items()
        ]
    if table == "lab":
        cases = " ".join(f"WHEN {quoted(name)} THEN {_code(channel)}" for name, channel in LABS.items())
        value, offset, kind = "labresult", "labresultoffset", f"CASE labname {cases} END"
        warm = "FALSE"
    else:
        label, name = "nursingchartcelltypevallabel", "nursingchartcelltypevalname"
        cases = " ".join(
            f"WHEN {label} = {quoted(of)} AND {name} = {quoted(what)} THEN {_code(channel)}" for (of, what), channel in CHARTED.items()
        )
        value, offset, kind = "nursingchartvalue", "nursingchartoffset", f"CASE {cases} END"
        warm = f"{name} = {quoted(FAHRENHEIT)}"
    return [
        f"SELECT {ids}, try_cast({offset} AS DOUBLE), {kind}, trim({value}), {warm} FROM {rows} "
        f"WHERE {here} AND ({kind}) IS NOT NULL AND trim(coalesce({value}, '')) <> ''"
    ]


def _scores() -> pd.DataFrame:
    rows = []
    for name, categories in SCORES.items():
        code = _code(name)
        ranks = {CHANNELS[code].categories[position]: rank for rank, position in enumerate(category_ranks(code))}
        rows += [(code, score, ranks[text]) for score, text in enumerate(categories, 1) if text]
    return pd.DataFrame(rows, columns=["variable", "score", "rank"])


def _moment() -> str:
    return f"TIMESTAMP '{ENTRY}' + to_microseconds(round(minutes * 60000000)::BIGINT)"


def _code(name: str) -> int:
    return next(code for code, channel in enumerate(CHANNELS) if channel.name == name)
