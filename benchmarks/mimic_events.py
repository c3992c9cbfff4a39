"""Raw MIMIC-III chart events to a prepared cohort: rows per second, growth and peak memory; ratio to the benchmark's row-by-row procedure.

python -m benchmarks.mimic_events --out benchmarks/results/mimic_events.json
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from benchmarks._row_by_row import row_by_row
from benchmarks._timing import arguments, report

ROWS_A_STAY = 5400  # MIMIC-III: 330 million rows, 61,532 stays
FULL_ROWS = 330_712_483
DAYS = 4
ITEMS = {
    220045: "70 + k % 40",
    220181: "60 + k % 40",
    220210: "12 + k % 12",
    220277: "90 + k % 10",
    220179: "90 + k % 60",
    220180: "45 + k % 40",
    220621: "90 + k % 90",
    223835: "40 + k % 50",
    223830: "7 + (k % 50) / 100.0",
    224639: "60 + k % 40",
}
"""Ten of the 114 items and their values; they make up a sixth of the rows, as in the open demo."""

MEASURED = """
import json, resource, sys, time
from data_prep.mimic import prepare_mimic3
start = time.perf_counter()
prepare_mimic3(sys.argv[1], sys.argv[2], modalities=["series"], memory_limit=sys.argv[3], jobs=int(sys.argv[4]))
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
"""


def write_raw(folder: Path, rows: int, compressed: bool) -> None:
    """A raw folder of MIMIC-III whose CHARTEVENTS has so many rows, each stay's in one piece and out of order in time."""
    folder.mkdir()
    connection = duckdb.connect()
    stays = max(rows // ROWS_A_STAY, 1)
    stay = f"least(range // {ROWS_A_STAY}, {stays - 1})"
    entry = "TIMESTAMP '2150-01-01 08:00:00'"

    def write(table: str, query: str, suffix: str = ".csv") -> None:
        connection.execute(f"COPY ({query}) TO '{folder / (table + suffix)}' (HEADER)")

    ids = "10000 + range AS SUBJECT_ID, 100000 + range AS HADM_ID"
    window = f"{entry} AS INTIME, {entry} + INTERVAL {DAYS} DAY AS OUTTIME, {DAYS}.0 AS LOS"
    units = "'MICU' AS FIRST_CAREUNIT, 'MICU' AS LAST_CAREUNIT, 50 AS FIRST_WARDID, 50 AS LAST_WARDID"
    write("ICUSTAYS", f"SELECT {ids}, 200000 + range AS ICUSTAY_ID, {units}, {window} FROM range({stays})")
    times = f"{entry} AS ADMITTIME, {entry} + INTERVAL {DAYS + 1} DAY AS DISCHTIME, NULL AS DEATHTIME"
    write("ADMISSIONS", f"SELECT {ids}, {times}, (range % 8 = 0)::INT AS HOSPITAL_EXPIRE_FLAG FROM range({stays})")
    write("PATIENTS", f"SELECT 10000 + range AS SUBJECT_ID, TIMESTAMP '2090-01-01' AS DOB, NULL AS DOD FROM range({stays})")
    write("DIAGNOSES_ICD", f"SELECT 100000 + range AS HADM_ID, '4019' AS ICD9_CODE FROM range({stays})")
    write("D_ICD_DIAGNOSES", "SELECT '4019' AS ICD9_CODE")
    events = "SUBJECT_ID, HADM_ID, ICUSTAY_ID, ITEMID, CHARTTIME, VALUE, VALUEUOM"
    for table in ("LABEVENTS", "OUTPUTEVENTS"):
        empty = ", ".join(f"NULL AS {name}" for name in events.split(", "))
        write(table, f"SELECT {empty} WHERE false")
    kinds = " ".join(f"WHEN {i} THEN {item}" for i, item in enumerate(ITEMS))
    values = " ".join(f"WHEN {i} THEN ({rule})::VARCHAR" for i, rule in enumerate(ITEMS.values()))
    query = f"""SELECT range AS ROW_ID, 10000 + {stay} AS SUBJECT_ID, 100000 + {stay} AS HADM_ID, 200000 + {stay} AS ICUSTAY_ID,
        CASE k % 60 {kinds} ELSE 225000 + k % 60 END AS ITEMID, {entry} + to_seconds((k % {DAYS * 1440}) * 60) AS CHARTTIME,
        {entry} + to_seconds((k % {DAYS * 1440}) * 60 + 900) AS STORETIME, 17700 AS CGID,
        CASE k % 60 {values} ELSE (k % 997)::VARCHAR END AS VALUE, k % 997 AS VALUENUM, 'unit' AS VALUEUOM,
        0 AS WARNING, 0 AS ERROR, NULL AS RESULTSTATUS, NULL AS STOPPED
        FROM (SELECT range, (hash(range) >> 16)::BIGINT AS k FROM range({rows}))"""
    write("CHARTEVENTS", query, ".csv.gz" if compressed else ".csv")


def prepared(raw: Path, memory_limit: str, threads: int) -> dict[str, float]:
    """Seconds and peak memory in GiB of a whole preparation, in a process of its own."""
    with tempfile.TemporaryDirectory(dir=raw.parent) as out:
        arguments = [sys.executable, "-c", MEASURED, str(raw), f"{out}/cohort", memory_limit, str(threads)]
        return json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)


def peer_rate(folder: Path) -> float:
    """Rows per second of the row-by-row procedure over ``folder/peer``."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        start = time.perf_counter()
        count, _ = row_by_row(folder / "peer", Path(work))
        return count / (time.perf_counter() - start)


def row(what: str, millions: float, seconds: float, peer: float, peak: float | None = None) -> dict[str, Any]:
    """A line of the table."""
    rate = millions * 1e6 / seconds
    times = {"s": seconds, "rows/s": rate, "ratio": rate / peer, "min for MIMIC-III": FULL_ROWS / rate / 60}
    return {"what": what, "million rows": millions} | times | {"peak GiB": peak}


def main() -> None:
    """Prints the table."""
    parser = arguments(__doc__.splitlines()[0], repeats=1)
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 3, 10], help="rows of CHARTEVENTS (default 1 3 10)")
    parser.add_argument("--peer-rows", type=int, default=108_000, help="rows for the row-by-row procedure (default %(default)s)")
    parser.add_argument("--memory-limit", default="3GB", help="of DuckDB (default %(default)s)")
    options = parser.parse_args()
    table = []
    with tempfile.TemporaryDirectory() as place:
        for suffix in (".csv", ".csv.gz"):
            folder, measured, peer = Path(place) / suffix, [], []
            folder.mkdir()
            write_raw(folder / "peer", options.peer_rows, compressed=suffix == ".csv.gz")
            for millions in options.millions:
                write_raw(folder / str(millions), round(millions * 1e6), compressed=suffix == ".csv.gz")
                peer.append(peer_rate(folder))
                measured.append((millions, prepared(folder / str(millions), options.memory_limit, options.threads)))
            fastest, name = max(peer), f"CHARTEVENTS{suffix}"
            table.append(row(f"row by row, {name}", options.peer_rows / 1e6, options.peer_rows / fastest, fastest))
            table += [row(name, millions, found["seconds"], fastest, found["peak"]) for millions, found in measured]
    what = "the whole preparation, series alone, imports apart; of the row-by-row runs the fastest"
    note = f"{options.threads} threads, DuckDB's memory_limit {options.memory_limit}; {what}."
    report("MIMIC-III: chart events to a prepared cohort", table, options, note)


if __name__ == "__main__":
    main()
