"""What a run tells of its model without the cohort: inputs, task, parts, and how good it is by which modalities are observed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cm2.cohorts import Cohort, Stays
from cm2.cohorts.disclosure import Disclosure
from cm2.config import Config
from cm2.methods import Method, parts_from_outside, starts_from
from cm2.methods.saved import FORMAT
from cm2.tasks import Task

FROM_TEXTS = "the cohort's texts"
"""Origin of a vocabulary that tells of them."""


def describe(config: Config, cohort: Cohort, method: Method, frame: pd.DataFrame, stays: Stays) -> dict[str, Any]:
    """What describes the model of a run, apart from its weights; of a credentialed cohort only what may be shown.

    Args:
        config: the run's configuration.
        cohort: as prepared by `cm2.methods.tokenised`.
        method: trained.
        frame: predictions of the test stays.
        stays: the test stays, in the same order.
    """
    model = config.model
    return {
        "format": FORMAT,
        "cm2": version("cm2"),
        "method": config.method,
        "method_version": method.version,
        "config": without_paths(config.to_dict()),
        "modalities": _modalities(cohort),
        "task": _task(cohort, config.task),
        "tokenizer": _tokenizer(cohort, config),
        "law": {"link": model.link, "family": model.family, "none": method.why_no_law()},
        "parts": parts_from_outside(config, cohort),
        "pretrained": starts_from(config, cohort),
        "architectures": _architectures(method),
        "cohort": {
            "name": cohort.name,
            **{entry: cohort.manifest.get(entry, "") for entry in ("source", "version")},
            "checksum": cohort.checksum,
            "credentialed": cohort.disclosure.credentialed,
            "fabricated": cohort.disclosure.fabricated,
        },
        "patterns": by_pattern(frame, stays, cohort.disclosure),
    }


def measured(frame: pd.DataFrame, task: Task) -> dict[str, float]:
    """Metrics of a frame of predictions, unguarded."""
    return task.summary(*task.of_frame(frame))


def by_pattern(frame: pd.DataFrame, stays: Stays, disclosure: Disclosure) -> list[dict[str, Any]]:
    """Metrics of a split's stays by the modalities that they have, the largest group first.

    The groups are the parts of a whole that is shown. So of a credentialed cohort a group's numbers are hidden if it has one to nine stays,
    or one to nine with either outcome (of a class, or with or without a label), and with it the next larger groups from which they would
    follow.

    Args:
        frame: predictions, one row for each stay in their order.
        stays: of the split.
        disclosure: of the cohort.
    """
    names, present, task = [m.name for m in stays.modalities], stays.present.numpy(), stays.task
    label = task.of_frame(frame)[0]
    groups = {tuple(row): (present == row).all(axis=1) for row in np.unique(present, axis=0)}
    keys = {pattern: "+".join(name for name, there in zip(names, pattern, strict=True) if there) for pattern in groups}
    sizes = {keys[pattern]: int(rows.sum()) for pattern, rows in groups.items()}
    hidden = {key for key, count in disclosure.parts(sizes).items() if count is None}
    counted = {keys[pattern]: task.counts(label[rows]).values() for pattern, rows in groups.items()}
    sides = {key: [side for count in counts for side in count.sides] for key, counts in counted.items()}
    for at in range(len(next(iter(sides.values()), []))):
        counts = {key: each[at] for key, each in sides.items()}
        hidden |= {key for key, count in disclosure.parts(counts, hidden).items() if count is None}
    hidden |= {key for key, count in disclosure.parts(sizes, hidden).items() if count is None}
    found = []
    for pattern, rows in sorted(groups.items(), key=lambda each: -int(each[1].sum())):
        key, observed = keys[pattern], [name for name, there in zip(names, pattern, strict=True) if there]
        both = not task.lacks(label[rows])  # of one outcome alone there is nothing to measure
        smallest = task.smallest(label[rows])
        shown = disclosure.metrics(measured(frame[rows], task), smallest=smallest) if both and key not in hidden else {}
        found.append({"observed": observed, "n": None if key in hidden else sizes[key], "metrics": shown})
    return found


def without_paths(tree: Any) -> Any:
    """A tree of plain values in which paths of this machine are cut to their last part."""
    if isinstance(tree, Mapping):
        return {name: without_paths(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [without_paths(value) for value in tree]
    local = isinstance(tree, str) and tree and (Path(tree).is_absolute() or Path(tree).exists())
    return Path(tree).name if local else tree


def _modalities(cohort: Cohort) -> list[dict[str, Any]]:
    entries, statistics = cohort.manifest["modalities"], cohort.manifest.get("normalisation", {})
    kept = ("features", "mean", "std")
    return [
        asdict(m)
        | {part: entries[m.name].get(part, []) for part in ("features", "units")}
        | {"normalisation": {k: v for k, v in statistics.get(m.name, {}).items() if k in kept}}
        for m in cohort.modalities
    ]


def _task(cohort: Cohort, name: str) -> dict[str, Any]:
    return {"name": name, **cohort.task(name).described()}


def tokenizer_file(cohort: Cohort, description: Mapping[str, Any]) -> str:
    """The text of the tokenizer's file; empty for a model that reads no texts."""
    return cohort.text_tokenizer.backend_tokenizer.to_str() if description["tokenizer"] is not None else ""


def _tokenizer(cohort: Cohort, config: Config) -> dict[str, Any] | None:
    if not any(m.vocabulary for m in cohort.modalities):
        return None
    text, used = config.encoder.text, cohort.text_tokenizer
    trained = cohort.trains_tokenizer
    origin = (
        "the cohort's texts" if trained else "bytes" if not text.pretrained else f"the pretrained model {without_paths(text.pretrained)}"
    )
    special = {name: token for name, token in used.special_tokens_map.items() if isinstance(token, str)}
    return {"origin": origin, "max_length": cohort.max_length, "special": special}


def _architectures(method: Method) -> dict[str, Any]:
    """Configurations of the pretrained models of transformers, which a reader may not have, by name."""
    found: dict[str, Any] = {}
    for module in method.modules():
        if isinstance(name := getattr(module, "pretrained", None), str) and name:
            network = getattr(module, "bert", None) or getattr(module, "network", None)
            settings = network.config.to_dict() if network is not None else {}
            found[without_paths(name)] = {key: value for key, value in settings.items() if not key.startswith("_")}
    return found
