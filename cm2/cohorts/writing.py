"""Writing a prepared cohort: whole or not at all. Its format is described in ``cm2.cohorts.format``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cm2.cohorts.disclosure import Disclosure
from cm2.cohorts.format import FORMAT, MANIFEST, PRESENT, PRIVATE, SPLITS, STAYS, combined_checksum, write_manifest
from cm2.cohorts.workplace import remove_leftovers
from cm2.config.names import choose
from cm2.durable import file_sha256, whole_or_nothing
from cm2.errors import InputError
from cm2.kinds import Data, kind
from cm2.tasks import Binary, Task


@dataclass(frozen=True)
class PreparedModality:
    """One modality of a cohort to be written.

    Args:
        kind: one of ``cm2.kinds``: ``series`` (n, T, F), ``image`` (n, H, W) or (n, H, W, 3), ``vector`` (n, F), ``text`` (n strings or
            None).
        data: the values, in the order of the stays.
        present: ``(n,)`` bool, where the modality is observed.
        features: names of the features, for series and vectors.
        units: one unit for each feature; "1" for a dimensionless number.
        normalisation: the statistics subtracted and divided by, and the split they come from; empty if there was no normalisation.
        notes: further entries of the manifest, by name.
    """

    kind: str
    data: Data
    present: np.ndarray
    features: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    normalisation: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PreparedCohort:
    """A cohort to be written.

    Args:
        name: name of the cohort, for example ``physionet2012``.
        source: where the data come from, one sentence with an address or a citation.
        version: version of the source or of the program that made it.
        parameters: everything the result depends on; two cohorts with equal name, version and parameters are the same.
        stays: ``stay_id`` (unique int64), ``split`` and the columns of each task: of a binary one 0, 1, or -1 where the outcome is unknown;
            of others see ``cm2.tasks``.
        modalities: by name, in the order of the columns of ``present``.
        tasks: by name: what is predicted, or for a binary outcome the definition of a positive alone.
        flow: the flow chart, one ``{"step", "stays", "dropped", "note"}`` after another.
        counts: further counts.
        extra: writes further files (the simulator's truth) below the folder it receives.
        credentialed: whether a data use agreement forbids showing small counts; a cohort that does not deny it is protected.
        fabricated: whether the data are made up in the layout of a credentialed source; it is then said wherever they are shown.
        records: what names single records, such as files that cannot be read, by kind; of a credentialed cohort it is kept apart from the
            manifest, in ``private.json``.
    """

    name: str
    source: str
    version: str
    parameters: dict[str, Any]
    stays: pd.DataFrame
    modalities: dict[str, PreparedModality]
    tasks: Mapping[str, str | Task]
    flow: list[dict[str, Any]]
    counts: dict[str, Any]
    extra: Callable[[Path], None] | None = None
    credentialed: bool = True
    fabricated: bool = False
    records: dict[str, Any] = field(default_factory=dict)

    @property
    def disclosure(self) -> Disclosure:
        """What may be shown of it."""
        return Disclosure(self.credentialed, self.fabricated)

    @property
    def outcomes(self) -> list[Task]:
        """Its tasks, under the names that they have here."""
        return [Binary(name, task) if isinstance(task, str) else replace(task, name=name) for name, task in self.tasks.items()]


def already_prepared(
    out: Path, name: str, version: str, parameters: Mapping[str, Any], credentialed: bool = True, fabricated: bool = False
) -> bool:
    """Whether ``out`` holds this very cohort. A manifest of an earlier version without ``credentialed`` or ``fabricated`` is completed.

    Raises:
        ValueError: ``out`` exists and is not this cohort.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    asked = json.loads(json.dumps({"format": FORMAT, "name": name, "version": version, "parameters": dict(parameters)}))
    try:
        manifest = json.loads((out / MANIFEST).read_text())
        same = all(manifest[key] == value for key, value in asked.items())
        if same and all((out / file).stat().st_size == size for file, size in manifest["sizes"].items()):
            flags = {"credentialed": credentialed, "fabricated": fabricated}
            if not flags.keys() <= manifest.keys():
                write_manifest(out, flags | manifest)
            remove_leftovers(out)
            return True
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise InputError(f"{out} exists and is not the {name} cohort with these parameters; remove it or choose another folder")


def write_cohort(out: Path, cohort: PreparedCohort) -> Path:
    """Writes a prepared cohort, atomically.

    Args:
        out: its folder; must not exist, or be empty.
        cohort: what to write.

    Returns:
        ``out``.

    Raises:
        ValueError: numbers of rows that disagree, a repeated stay, an unknown split, a label other than -1, 0 and 1, a stay without any
            modality, or a modality that its kind does not store: another shape or type, an image that no encoder reads, a value that is not
            finite where it is observed.


        ValueError: numbers of rows that disagree, a repeated stay, an unknown split, a label that its task does not have, a stay without
            any modality, or a value that is not finite in an observed modality.
    """
    _check(cohort)
    with whole_or_nothing(out) as folder:
        columns = {f"{PRESENT}{name}": modality.present.astype(bool) for name, modality in cohort.modalities.items()}
        labels = {column: values for task in cohort.outcomes for column, values in task.written(cohort.stays).items()}
        stays = cohort.stays[["stay_id", "split"]].assign(**labels, **columns)
        stays.to_parquet(folder / STAYS, index=False)
        described = {name: _write_modality(folder, name, modality, stays) for name, modality in cohort.modalities.items()}
        if cohort.extra is not None:
            cohort.extra(folder)
        _write_manifest(folder, cohort, stays, described)
    return out


def _check(cohort: PreparedCohort) -> None:
    stays = cohort.stays
    if not stays["stay_id"].is_unique:
        twice = _named(cohort, stays["stay_id"].duplicated())
        raise InputError(f"{twice} occurs twice; a cohort has one row per stay")
    if unknown := sorted(set(stays["split"]) - set(SPLITS)):
        raise InputError(f"unknown split {unknown[0]!r}; {choose(str(unknown[0]), SPLITS)}")
    _check_tasks(cohort)
    for name, modality in cohort.modalities.items():
        _check_modality(cohort, name, modality)
    empty = ~np.any([modality.present for modality in cohort.modalities.values()], axis=0)
    if empty.any():
        raise InputError(f"{_named(cohort, empty)} has no modality; drop and count such stays")


def _check_modality(cohort: PreparedCohort, name: str, modality: PreparedModality) -> None:
    stays = len(cohort.stays)
    if not name or name.startswith(".") or any(character in name for character in "/\\") or name in (Path(STAYS).stem, "ids"):
        raise InputError(f"a modality is called {name!r}, and a file would be after it; give it another name, without slashes")
    if len(modality.data) != stays or modality.present.shape != (stays,):
        raise InputError(f"{name}: {len(modality.data)} rows and {modality.present.shape} present for {stays} stays")
    for what, names in (("features", modality.features), ("units", modality.units)):
        width = np.shape(modality.data)[-1] if isinstance(modality.data, np.ndarray) else 0
        if names and len(names) != width:
            raise InputError(f"{name}: {len(names)} {what} for values of width {width}; give one for each, or none")
    fault = kind(modality.kind).fault(modality.data, modality.present)
    if fault is not None:
        row, said = fault
        stay = "" if row is None else f"{_named(cohort, np.arange(stays) == row)} "
        raise InputError(f"{name}: {stay}{said}")


def _check_tasks(cohort: PreparedCohort) -> None:
    taken = {"stay_id": "the stays", "split": "the splits"} | {f"{PRESENT}{name}": f"the modality {name}" for name in cohort.modalities}
    for task in cohort.outcomes:
        task.check(cohort.stays, lambda row: _called(cohort, row))
        for column in task.columns:
            if column in taken:
                raise InputError(f"{task.name}: its column {column} is that of {taken[column]}; give the task another name")
            taken[column] = f"the task {task.name}"


def _named(cohort: PreparedCohort, wrong: np.ndarray | pd.Series) -> str:
    """What an error calls the first stay where something is wrong."""
    return _called(cohort, int(np.flatnonzero(wrong)[0]))


def _called(cohort: PreparedCohort, row: int) -> str:
    record = cohort.disclosure.record(cohort.stays["stay_id"].iloc[row], row)
    return f"the stay {record}" if cohort.disclosure.credentialed else f"stay {record}"


def _write_modality(folder: Path, name: str, modality: PreparedModality, stays: pd.DataFrame) -> dict[str, Any]:
    file, shape = kind(modality.kind).write(folder, name, modality.data, modality.present, stays["stay_id"])
    described = {"kind": modality.kind, "file": file, "shape": shape, "features": modality.features, "units": modality.units}
    return described | {"present": int(modality.present.sum())} | modality.notes


def _write_manifest(folder: Path, cohort: PreparedCohort, stays: pd.DataFrame, described: dict[str, Any]) -> None:
    split = stays["split"].to_numpy()
    tasks = {}
    for task in cohort.outcomes:
        label = task.read(stays)
        tasks[task.name] = task.fitted(label[split == "train"]).entry(label, split, SPLITS)
    exact = {
        "format": FORMAT,
        "name": cohort.name,
        "source": cohort.source,
        "version": cohort.version,
        "credentialed": cohort.credentialed,
        "fabricated": cohort.fabricated,
        "created": datetime.now(UTC).date().isoformat(),
        "parameters": cohort.parameters,
        "stays": len(stays),
        "splits": {split: int((stays["split"] == split).sum()) for split in SPLITS},
        "modalities": described,
        "tasks": tasks,
        "flow": cohort.flow,
        "counts": cohort.counts,
        "normalisation": {name: m.normalisation for name, m in cohort.modalities.items() if m.normalisation},
    }
    shown = cohort.disclosure.manifest(exact)
    if cohort.credentialed:
        private = {name: exact[name] for name in exact if shown[name] != exact[name]} | {"records": cohort.records}
        # what is shown as it is stands in the manifest alone; counted in any order, but equal cohorts have equal files
        hidden = {name: found for name, found in cohort.counts.items() if shown["counts"][name] != found}
        private |= {"counts": json.loads(json.dumps(hidden, sort_keys=True))} if hidden else {}
        (folder / PRIVATE).write_text(json.dumps(private, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    elif cohort.records:
        shown["records"] = cohort.records
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    checksums = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    write_manifest(folder, shown | {"sizes": sizes, "checksums": checksums, "checksum": combined_checksum(checksums)})
