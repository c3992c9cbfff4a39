"""What tells the runs of a store apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cm2.runs.provenance import called
from cm2.runs.run import Run
from cm2.runs.saving import stored_description

_ABSENT = object()


def told_apart(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """What runs are called, and what tells those of one name apart.

    Args:
        runs: that can be read; see `Run.damage`.

    Returns:
        Of each run method, cohort, task and seed; and the settings in which the runs of this name differ, as ``--set`` takes them.
    """
    names = [_name(run) for run in runs]
    alike: dict[str, list[int]] = defaultdict(list)
    for at, name in enumerate(names):
        alike[name].append(at)
    differences = [""] * len(runs)
    for group in alike.values():
        for at, differs in zip(group, distinguishing([_settings(runs[at]) for at in group]), strict=True):
            differences[at] = "  ".join(f"{name}={_typed(value)}" for name, value in differs.items())
    return list(zip(names, differences, strict=True))


def distinguishing(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of several settings those entries that are not the same in all."""
    names = dict.fromkeys(name for each in settings for name in each)
    values = {name: [each.get(name, _ABSENT) for each in settings] for name in names}
    differ = [name for name, given in values.items() if any(value != given[0] for value in given)]
    return [{name: each[name] for name in differ if name in each} for each in settings]


def _name(run: Run) -> str:
    config = run.config
    return f"{config.method} {called(run.environment)} {config.task} seed {config.seed}"


def _typed(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _settings(run: Run) -> dict[str, Any]:
    """Fields by dotted name; cohort, version of the method, parts from outside, and weights that the run started from."""
    source = run.environment
    further = {
        "cohort": str(source.get("cohort_checksum", ""))[:8],
        "version": (stored_description(run.path) or {}).get("method_version", ""),
        **{entry: source.get(entry, {}) for entry in ("parts", "pretrained")},
    }
    return dict(_fields(run.config.to_dict() | further, ""))


def _fields(tree: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _fields(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
