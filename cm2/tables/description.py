"""Aggregates of a prepared cohort that may be committed and shown: flow chart, counts, outcomes, missingness.

``write_description("FOLDER OF physionet2012", "results/physionet2012/cohort.json")`` writes the file that the book reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cm2.cohorts import Cohort, load_cohort
from cm2.cohorts.format import fabricated
from cm2.config.files import read_json
from cm2.durable import write_json
from cm2.errors import InputError
from cm2.kinds import kind
from cm2.kinds.contract import MASK
from cm2.results import kept
from cm2.runs.provenance import provenance
from cm2.tables.counts import count_groups

FORMAT = 1
ROWS_AT_ONCE = 1024


def describe(cohort: Cohort) -> dict[str, Any]:
    """Aggregates of a prepared cohort.

    Args:
        cohort: a prepared cohort. For a credentialed one, every number that would disclose a group of fewer than ten stays is None.

    Returns:
        ``name``, ``source``, ``version``, ``created``, ``checksum``, ``credentialed``, ``fabricated``; ``flow``, the steps of the flow
        chart; ``tasks``, the definition of a positive; ``modalities``, their kinds and shapes; ``groups``, see ``count_groups``;
        ``variables``, by series modality and variable: among stays with the modality, the share that lack the variable and the share of
        steps without a value;
        ``provenance``.
    """
    manifest = cohort.manifest
    flow = manifest["flow"]
    return {
        "format": FORMAT,
        **{key: manifest[key] for key in ("name", "source", "version", "created", "checksum")},
        "credentialed": cohort.disclosure.credentialed,
        "fabricated": cohort.disclosure.fabricated,
        "flow": cohort.disclosure.flow(flow),
        "tasks": {name: task["description"] for name, task in manifest["tasks"].items()},
        "modalities": {name: {"kind": entry["kind"], "shape": entry["shape"]} for name, entry in manifest["modalities"].items()},
        "groups": count_groups(cohort),
        "variables": {name: _variables(cohort, name) for name, entry in manifest["modalities"].items() if kind(entry["kind"]).named_steps},
        "provenance": provenance(cohort),
    }


def write_description(cohort: Path | str, out: Path | str) -> Path:
    """Writes the description of a prepared cohort to a JSON file, atomically.

    Args:
        cohort: folder of the prepared cohort.
        out: the file.
    """
    return write_json(Path(out), describe(load_cohort(cohort)), ensure_ascii=False, allow_nan=False)


def kept_description(name: str) -> dict[str, Any]:
    """The description committed as ``results/NAME/cohort.json``.

    Raises:
        ValueError: there is none, or it has another format.
    """
    folder = kept()
    path = folder / name / "cohort.json" if folder else None
    if path is None or not path.is_file():
        raise InputError(f"no description of {name!r} under results/; write one with cm2.tables.description.write_description")
    described = read_json(path)
    if described.get("format") != FORMAT:
        raise InputError(f"{path}: format {described.get('format')!r}, this version of cm2 reads {FORMAT}; write it again")
    return described


def kept_descriptions() -> dict[str, dict[str, Any]]:
    """Every description committed below ``results/``, by the name of its folder; those of fabricated cohorts are left out.

    Raises:
        ValueError: one has another format.
    """
    folder = kept()
    names = sorted(path.parent.name for path in folder.glob("*/cohort.json")) if folder else []
    return {name: described for name in names if not fabricated(described := kept_description(name))}


def group(described: Mapping[str, Any], *modalities: str) -> dict[str, Any]:
    """The counts of the stays with these modalities; of all stays if none is named.

    Raises:
        ValueError: the description has no such group.
    """
    found = [entry for entry in described["groups"] if entry["modalities"] == list(modalities)]
    if not found:
        known = ", ".join(" | ".join(entry["modalities"]) or "all" for entry in described["groups"])
        raise InputError(f"the description of {described['name']} has no group {' | '.join(modalities)!r}; it has {known}")
    return found[0]


def _variables(cohort: Cohort, name: str) -> dict[str, dict[str, Any]]:
    """Missingness of each variable, from the mask columns of the series."""
    entry = cohort.manifest["modalities"][name]
    masks = {feature.removeprefix(MASK): i for i, feature in enumerate(entry["features"]) if feature.startswith(MASK)}
    rows = np.flatnonzero(cohort.present[:, list(cohort.manifest["modalities"]).index(name)])
    if not masks or not len(rows):
        return {}
    columns, array = list(masks.values()), cohort.array(name)
    steps = np.concatenate(
        [(array[rows[at : at + ROWS_AT_ONCE]][:, :, columns] > 0).sum(axis=1) for at in range(0, len(rows), ROWS_AT_ONCE)]
    )
    shown, whole = {}, len(rows) * entry["shape"][0]
    for i, variable in enumerate(masks):
        lacking, bins = int((steps[:, i] == 0).sum()), int(steps[:, i].sum())
        about = entry.get("variables", {}).get(variable, {})
        shares = {"stays": _share(cohort, lacking, len(rows)), "steps": _share(cohort, whole - bins, whole)}
        shown[variable] = {key: about[key] for key in ("meaning", "unit") if key in about} | {"absent": shares}
    return shown


def _share(cohort: Cohort, part: int, whole: int) -> float | None:
    shown = cohort.disclosure.parts({"part": part, "rest": whole - part})["part"]
    return None if shown is None else round(shown / whole, 6)
