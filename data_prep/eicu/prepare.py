"""From the raw files of eICU to a prepared cohort."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from cm2.cohorts.disclosure import FABRICATED, Disclosure
from cm2.cohorts.missingness import stable_uniform
from cm2.errors import InputError, spelled
from data_prep.channels import feature_names, units
from data_prep.eicu.events import ENTRY, clean_events
from data_prep.eicu.sources import EICU, ROWS, channels
from data_prep.made_up import is_made_up
from data_prep.mimic.archives import as_folders
from data_prep.mimic.flow import Flow, draw_flow
from data_prep.mimic.inputs import compare_checksum, whole
from data_prep.mimic.quirks import Quirks
from data_prep.mimic.raw import described, find_table, header, reading, source
from data_prep.mimic.series import STEP_HOURS, bin_events, channel_health, discretise
from data_prep.mimic.splits import RATIOS
from data_prep.mimic.stays import ADULT, HOURS, OLDEST
from data_prep.mimic.tables import Means, Tables, prepare_from_tables
from data_prep.once import Asked
from data_prep.writer import PreparedCohort, PreparedModality

VERSION = "preparation 1"
PAPER = "Pollard et al., Scientific Data 2018;5:180178"
DOIS = {"v2.0": "https://doi.org/10.13026/C2WM1R", "Demo v2.0.1": "https://doi.org/10.13026/4mxk-na84"}
DEMO_STAYS = 2_520
LONG_DAYS = 7
TASKS = {
    "in_hospital_mortality": "death in hospital (hospitaldischargestatus Expired)",
    "long_stay": f"discharge alive from hospital more than {LONG_DAYS} days after entry to the unit (a death is a 0)",
}
STAGES = 6


def prepare_eicu(
    raw: Path | str,
    out: Path | str,
    memory_limit: str = "3GB",
    jobs: int = 2,
    temporary: Path | str | None = None,
    allow_incomplete: bool = False,
) -> Path:
    """Prepares eICU v2.0, or its open demo v2.0.1: charted series of adults' unit stays of 48 hours or more.

    The matrix is that of MIMIC, with the same 76 columns, so that a model of one can be tried on the other. Capillary refill is not
    charted; scores are numbers and take CareVue's spelling. A patient's stays share a split, drawn by a hash.

    Args:
        raw: folder with ``patient``, ``vitalPeriodic``, ``vitalAperiodic``, ``lab`` and ``nurseCharting``, as ``.csv``, ``.csv.gz`` or
            ``.parquet``; or the release's zip archive, whose tables are unpacked for the time being; or a DuckDB file of them.
        out: folder of the prepared cohort, written whole or not at all.
        memory_limit: memory limit of DuckDB; larger data spill to disk.
        jobs: number of threads.
        temporary: folder for the data that spill; default: beside ``out``.
        allow_incomplete: prepare files that are not as published, too; the manifest says which.

    Returns:
        ``out``. If it already holds this very cohort, nothing is written.

    Raises:
        ValueError: a table that is missing, doubled, damaged or not as published; a step of the flow chart that leaves no stay; no space
            left; or an ``out`` that holds something else.
    """
    raw, out = Path(raw), Path(out)
    with as_folders({"raw": raw}, {"raw": (EICU, [*EICU.tables])}, out, temporary) as places:
        tables = {table: find_table(places["raw"], EICU, table) for table in EICU.tables}
        for table, path in tables.items():
            whole(path)
            header(path, EICU, table)
        parameters = {"raw": described(list(tables.values()))}
        fabricated = is_made_up(*(place if place.is_dir() else place.parent for place in (raw, places["raw"])))
        asked = Asked(out, "eicu", VERSION, parameters, fabricated=fabricated)
        check = partial(_checked, tables=tables, allow_incomplete=allow_incomplete)
        make = partial(_cohort, files=tables, parameters=parameters, fabricated=fabricated)
        return prepare_from_tables(asked, places["raw"], Means(memory_limit, jobs, temporary), STAGES, check, make)


def _cohort(tables: Tables, files: dict[str, Path], parameters: dict[str, Any], fabricated: bool) -> PreparedCohort:
    connection, progress, counts = tables.connection, tables.progress, tables.counts
    progress.stage("stays")
    stays, flow = _stays(connection, files["patient"])
    connection.register("candidate_frame", stays[["stay_id"]])
    connection.execute("CREATE TABLE candidate AS SELECT stay_id FROM candidate_frame")
    progress.stage("reading events")
    clean_events(connection, files)
    progress.stage("binning events")
    leaving = ENTRY + pd.to_timedelta(stays["unitdischargeoffset"], unit="min")
    timed = stays.assign(subject_id=stays["stay_id"], intime=ENTRY, outtime=leaving)
    values, used, became = bin_events(connection, timed, Quirks())
    charted = (~np.isnan(values)).any(axis=(1, 2))
    stays = flow.keep(stays, pd.Series(charted), f"an event in the first {HOURS} hours", "of the channels")
    order = stays["stay_id"].argsort().to_numpy()
    stays, values = stays.iloc[order].reset_index(drop=True), values[charted][order]
    progress.stage("series")
    stays["split"] = _splits(stays["uniquepid"])
    training = (stays["split"] == "train").to_numpy()
    if not training.any():
        raise InputError(f"no training stay among {len(stays)}: too few patients for a split by a hash; prepare more stays")
    series, statistics = discretise(values, training, Quirks())
    counts |= {"events": used, "channels": channel_health(values, training, became, channels())}
    everyone = np.ones(len(stays), dtype=bool)
    about = {"step_hours": STEP_HOURS}
    modality = PreparedModality("series", series, everyone, feature_names(), units(), {"split": "train"} | statistics, about)
    shown = Disclosure(credentialed=True, fabricated=fabricated)
    draw = lambda folder: draw_flow(shown.flow(flow.steps), folder / "flow.svg", FABRICATED if fabricated else "")
    said = f"{counts['source']['release'] or 'eICU, of no release that its rows tell'}; {PAPER}"
    said = f"{FABRICATED} Layout: eICU v2.0." if fabricated else said
    return PreparedCohort(
        "eicu", said, VERSION, parameters, stays, {"series": modality}, TASKS, flow.steps, counts, extra=draw, fabricated=fabricated
    )


def _stays(connection: duckdb.DuckDBPyConnection, path: Path) -> tuple[pd.DataFrame, Flow]:
    names = EICU.columns("patient")[:7]
    numbers = {name: f"try_cast({name} AS BIGINT) AS {name}" for name in names if name.endswith(("id", "offset")) and name != "uniquepid"}
    with reading(path):
        columns = ", ".join(numbers.get(name, f"trim({name}) AS {name}") for name in names)
        frame = connection.execute(f"SELECT {columns} FROM {source(path, EICU, 'patient')}").df()
    frame = frame.rename(columns={"patientunitstayid": "stay_id"})
    if frame["stay_id"].isna().any() or frame["stay_id"].duplicated().any():
        raise InputError("patient: a patientunitstayid is missing or occurs twice; use the official file")
    flow = Flow(len(frame), "unit stays")
    alone = ~frame["patienthealthsystemstayid"].duplicated(keep=False)
    frame = flow.keep(frame, alone, "only unit stay of its hospital stay")
    age = pd.to_numeric(frame["age"].replace("> 89", str(OLDEST)), errors="coerce")
    frame = flow.keep(frame, age >= ADULT, f"{ADULT} years or older", "an unknown age is none")
    known = frame["hospitaldischargestatus"].isin(("Alive", "Expired")) & frame["hospitaldischargeoffset"].notna()
    frame = flow.keep(frame, known, "known outcome", "status and time of discharge from hospital")
    frame = flow.keep(frame, frame["unitdischargeoffset"] >= HOURS * 60, f"{HOURS} hours or longer", "in the unit")
    died = frame["hospitaldischargestatus"] == "Expired"
    late = frame["hospitaldischargeoffset"] > LONG_DAYS * 24 * 60
    frame = frame.assign(in_hospital_mortality=died.astype("int64"), long_stay=(~died & late).astype("int64"))
    return frame.astype({"stay_id": "int64"}), flow


def _splits(patient: pd.Series) -> np.ndarray:
    """The split of each stay, by a hash of its patient's name."""
    digest = lambda name: int.from_bytes(hashlib.blake2b(str(name).encode(), digest_size=8).digest(), "little", signed=True)
    number = np.array([digest(name) for name in patient], dtype=np.int64)
    test_ratio, valid_ratio = RATIOS["eicu"]
    test = stable_uniform(0, number, "eicu test") < test_ratio
    valid = stable_uniform(0, number, "eicu validation") < valid_ratio
    return np.where(test, "test", np.where(valid, "valid", "train")).astype(object)


def _checked(connection: duckdb.DuckDBPyConnection, tables: dict[str, Path], allow_incomplete: bool) -> dict[str, Any]:
    """The release and what was checked, for the manifest; see ``data_prep.mimic.inputs.check_inputs``."""
    checked, problems = dict.fromkeys((path.name for path in tables.values()), "not checked"), []
    for path in tables.values():
        listed = compare_checksum(path)
        if listed is not None:
            checked[path.name] = "checksum"
            problems += [listed] if listed else []
    rows = lambda table: int(connection.execute(f"SELECT count(*) FROM {source(tables[table], EICU, table)}").fetchall()[0][0])
    with reading(tables["patient"]):
        stays = rows("patient")
    release = {ROWS["patient"]: "v2.0", DEMO_STAYS: "Demo v2.0.1"}.get(stays)
    for table in ROWS if release == "v2.0" else ():
        with reading(tables[table]):
            if (found := rows(table)) != ROWS[table]:
                problems.append(f"{tables[table]} has {found:,} rows, and eICU v2.0 has {ROWS[table]:,}")
        checked[tables[table].name] = "rows" if checked[tables[table].name] == "not checked" else checked[tables[table].name]
    if problems and not allow_incomplete:
        remedy = spelled("pass allow_incomplete=True", "add --allow-incomplete")
        raise InputError(f"{problems[0]}; copy it again, or {remedy} if you mean to prepare a part")
    title = f"eICU Collaborative Research Database {release}, {DOIS[release]}" if release else None
    return {"release": title, "checked": checked, "incomplete": [problem.rpartition("/")[2] for problem in problems]}
