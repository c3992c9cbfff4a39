"""The cohort of the PhysioNet/CinC Challenge 2012."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cm2.cohorts.format import SPLITS
from cm2.cohorts.missingness import stable_uniform
from cm2.config.names import choose
from cm2.errors import InputError, spelled
from cm2.progress import Progress
from data_prep.once import Asked, prepare_once
from data_prep.physionet2012.features import STEP_MINUTES, STEPS, Charted, admission_text, chart, descriptor_vector, standardise
from data_prep.physionet2012.raw import BASE_URL, HOURS, RawSet, fetch, read_set
from data_prep.physionet2012.variables import VARIABLES
from data_prep.writer import PreparedCohort, PreparedModality

VERSION = "1.0.0"
SOURCE = (
    "PhysioNet/Computing in Cardiology Challenge 2012 v1.0.0, https://physionet.org/content/challenge-2012/1.0.0/ (ODC-By 1.0); "
    "Silva I, Moody G, Scott DJ, Celi LA, Mark RG. Computing in Cardiology 2012;39:245-248"
)
TASKS = {
    "in_hospital_mortality": "death in hospital (In-hospital_death)",
    "long_stay": "alive and in hospital after 7 days (Length_of_stay > 7; a death before is a 0, like a discharge; unknown where it is -1)",
}
LONG_STAY_DAYS = 7
KNOWN_SETS = ("a", "b", "c")


def prepare_physionet2012(
    raw: Path | str,
    out: Path | str,
    train_sets: Sequence[str] = ("a",),
    test_sets: Sequence[str] = ("b",),
    download: bool = False,
    valid_fraction: float = 0.15,
    base_url: str = BASE_URL,
    descriptors: bool = False,
) -> Path:
    """Prepares the challenge's data: bedside series, laboratory series, admission text, and the descriptors as numbers if asked for.

    Series are 24 two-hour steps; step k covers (2 k, 2 k + 2] hours after admission (00:00 belongs to step 0). Of several values in a
    step the last counts (urine: the sum), values are carried forward, standardised with the training split, and followed by one
    mask per variable. Implausible values and -1 are treated as missing and counted by variable. Stays without any charted value
    remain in the cohort with the admission text alone.

    Args:
        raw: folder with ``set-<x>.tar.gz`` (or the unpacked ``set-<x>/``) and ``Outcomes-<x>.txt``.
        out: folder of the prepared cohort.
        train_sets: those of the sets ``a``, ``b``, ``c`` that give training and validation stays.
        test_sets: those that give test stays.
        download: download files missing from ``raw`` from ``base_url``, verified against its ``SHA256SUMS.txt``.
        valid_fraction: fraction of the training sets' stays used for validation, chosen by a hash of the RecordID alone.
        base_url: address of the official files.
        descriptors: also write a modality ``descriptors``, the admission text's content as numbers. It makes another cohort, with a
            checksum of its own, of which the runs on the usual one are none.

    Returns:
        ``out``. If it already holds this very cohort, nothing is written.

    Raises:
        ValueError: an unknown or repeated set, a missing, truncated or altered file, records and outcomes that are not one to one,
            or an ``out`` that holds something else.
    """
    raw, out = Path(raw), Path(out)
    train_sets, test_sets = tuple(train_sets), tuple(test_sets)
    _check_arguments(train_sets, test_sets, valid_fraction)
    if not download and not raw.is_dir():
        remedy = spelled("pass download=True", "add --download")
        raise InputError(f"{raw} is not a folder; give the one with the official files, or {remedy} to download them there")
    with Progress("preparing physionet2012", 4, even=False) as progress:
        if download:
            progress.stage("fetching")
            fetch(raw, train_sets + test_sets, base_url)
        return _prepare(raw, out, train_sets, test_sets, valid_fraction, descriptors, progress)


def _prepare(
    raw: Path,
    out: Path,
    train_sets: tuple[str, ...],
    test_sets: tuple[str, ...],
    valid_fraction: float,
    descriptors: bool,
    progress: Progress,
) -> Path:
    names = train_sets + test_sets
    progress.stage("reading")
    with Progress("", len(names), "set") as reading:
        sets = [read_set(raw, name) for name in reading.each(names)]
    parameters: dict[str, Any] = {
        "train_sets": list(train_sets),
        "test_sets": list(test_sets),
        "valid_fraction": valid_fraction,
        "raw_checksums": {part.name: part.checksums for part in sets},
    }
    if descriptors:  # named only then: a cohort without them is what it was
        parameters["descriptors"] = True
    version = f"{VERSION}, preparation 1"

    def made(_: Path) -> PreparedCohort:
        modalities, stays, flow, counts = _charted(sets, names, train_sets, valid_fraction, descriptors, progress)
        return PreparedCohort("physionet2012", SOURCE, version, parameters, stays, modalities, TASKS, flow, counts, credentialed=False)

    return prepare_once(Asked(out, "physionet2012", version, parameters, credentialed=False), made, progress)


def _charted(
    sets: list[RawSet],
    names: tuple[str, ...],
    train_sets: tuple[str, ...],
    valid_fraction: float,
    descriptors: bool,
    progress: Progress,
) -> tuple[dict[str, PreparedModality], pd.DataFrame, list[dict[str, Any]], dict[str, Any]]:
    progress.stage("charting")
    with Progress("", len(names), "set") as charting:
        charted = [chart(part) for part in charting.each(sets)]
    stays = pd.concat([_stays(part, part.name in train_sets, valid_fraction) for part in sets], ignore_index=True)
    if not stays["stay_id"].is_unique:
        twice = stays["stay_id"][stays["stay_id"].duplicated()].iloc[0]
        raise InputError(f"record {twice} is in two of the sets {', '.join(names)}; use the official files")
    modalities = _modalities(stays, charted, descriptors)
    counts = _counts(sets, charted, stays, modalities)
    return modalities, stays, _flow(names, counts, stays, modalities), counts


def _check_arguments(train_sets: tuple[str, ...], test_sets: tuple[str, ...], valid_fraction: float) -> None:
    for role, names in (("train_sets", train_sets), ("test_sets", test_sets)):
        if not names:
            raise InputError(f"{role} is empty; name at least one of {', '.join(KNOWN_SETS)}")
    names = train_sets + test_sets
    for name in names:
        if name not in KNOWN_SETS:
            raise InputError(f"unknown set {name!r}; {choose(name, KNOWN_SETS)}")
        if names.count(name) > 1:
            raise InputError(f"set {name!r} is named twice in train_sets and test_sets; each set has one role")
    if not 0 < valid_fraction < 1:
        raise InputError(f"valid_fraction: got {valid_fraction}; give a fraction between 0 and 1")


def _stays(part: RawSet, training: bool, valid_fraction: float) -> pd.DataFrame:
    valid = stable_uniform(0, part.record_id, "physionet2012 validation") < valid_fraction
    length = part.outcomes["Length_of_stay"].to_numpy()
    return pd.DataFrame(
        {
            "stay_id": part.record_id,
            "split": np.where(valid, "valid", "train") if training else "test",
            "in_hospital_mortality": part.outcomes["In-hospital_death"].to_numpy(),
            "long_stay": np.where(length < 0, -1, length > LONG_STAY_DAYS),
        }
    )


def _modalities(stays: pd.DataFrame, charted: list[Charted], numbers: bool) -> dict[str, PreparedModality]:
    values = np.concatenate([part.values for part in charted])
    descriptors = pd.concat([part.descriptors for part in charted])
    train = (stays["split"] == "train").to_numpy()
    modalities = {}
    for name in ("bedside", "laboratory"):
        columns = [i for i, variable in enumerate(VARIABLES) if variable.modality == name]
        variables = [VARIABLES[i] for i in columns]
        data, statistics = standardise(values[:, :, columns], train, variables)
        notes = {
            "step_hours": STEP_MINUTES / 60,
            "variables": {v.name: {"meaning": v.meaning, "unit": v.unit, "log1p": v.log, "bin": v.bin, "fill": v.fill,
                                   "plausible": [v.low, v.high]} for v in variables},
        }  # fmt: skip
        features = [v.name for v in variables] + [f"mask->{v.name}" for v in variables]
        units = [
            f"standard deviations of {'log(1 + ' + v.unit + ')' if v.log else v.unit}" if v.fill is None else v.unit for v in variables
        ]
        there = ~np.isnan(values[:, :, columns]).all(axis=(1, 2))
        modalities[name] = PreparedModality("series", data, there, features, units + ["1"] * len(variables), statistics, notes)
    known = descriptors.columns.tolist()
    texts: list[str | None] = [admission_text(dict(zip(known, stay, strict=True))) for stay in descriptors.to_numpy().tolist()]
    modalities["admission"] = PreparedModality("text", texts, np.ones(len(stays), dtype=bool))
    if numbers:
        data, features, units, statistics = descriptor_vector(descriptors, train)
        modalities["descriptors"] = PreparedModality("vector", data, np.ones(len(stays), dtype=bool), features, units, statistics)
    return modalities


def _counts(sets: list[RawSet], charted: list[Charted], stays: pd.DataFrame, modalities: dict[str, PreparedModality]) -> dict[str, Any]:
    by_set: dict[str, Any] = {}
    for part, seen in zip(sets, charted, strict=True):
        outcomes = part.outcomes
        by_unit = seen.descriptors["ICUType"].value_counts().sort_index()
        by_set[part.name] = seen.counts | {
            "outcomes": len(outcomes),
            "in_hospital_deaths": int(outcomes["In-hospital_death"].sum()),
            "unknown_length_of_stay": int((outcomes["Length_of_stay"] < 0).sum()),
            "icu_types": dict(zip(by_unit.index.astype(int).tolist(), by_unit.tolist(), strict=True)),
            "age_range": [float(seen.descriptors["Age"].min()), float(seen.descriptors["Age"].max())],
        }
    present = {
        split: {name: int(modality.present[(stays["split"] == split).to_numpy()].sum()) for name, modality in modalities.items()}
        for split in SPLITS
    }
    return {"sets": by_set, "present": present}


def _flow(
    names: tuple[str, ...], counts: dict[str, Any], stays: pd.DataFrame, modalities: dict[str, PreparedModality]
) -> list[dict[str, Any]]:
    total, sets = len(stays), counts["sets"]
    sum_over = lambda key: sum(sets[name][key] for name in names)
    unknown = int((stays["long_stay"] < 0).sum())
    absent = {name: int((~modality.present).sum()) for name, modality in modalities.items()}
    return [
        {
            "step": "records in the archives",
            "stays": total,
            "dropped": 0,
            "note": ", ".join(f"set {n}: {sets[n]['records']}" for n in names),
        },
        {"step": "records with an outcome, one to one", "stays": total, "dropped": 0, "note": f"{sum_over('in_hospital_deaths')} deaths"},
        {
            "step": f"records charted within {HOURS} h",
            "stays": total,
            "dropped": 0,
            "note": f"{sum_over('records_without_series')} without series stay, with the admission text alone",
        },
        {
            "step": f"series of {STEPS} steps",
            "stays": total,
            "dropped": 0,
            "note": f"without bedside values {absent['bedside']}, without laboratory values {absent['laboratory']}",
        },
        {
            "step": "stays with a known length of stay (task long_stay only)",
            "stays": total - unknown,
            "dropped": unknown,
            "note": "they remain in the cohort and in in_hospital_mortality",
        },
    ]
