"""Numbers of runs recorded for the book's sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cm2.cohorts.disclosure import SMALLEST
from cm2.errors import InputError
from cm2.results import record
from cm2.runs.provenance import called
from cm2.runs.run import Run
from cm2.uncertainty import over_seeds


def record_over_seeds(runs: Sequence[Run], name: str, folder: Path) -> Path:
    """Records the test metrics of the same configuration under several seeds: the mean with its 95 % interval, and each seed's value.

    The interval counts both kinds of chance, that of the test stays and that of the seeds; see `cm2.uncertainty`.

    Args:
        runs: one per seed, two or more.
        name: name of the file ``folder / name.json``, which ``cm2.results.read`` and the book's ``{res}`` role find under ``results/``.
        folder: usually ``results`` at the root of the checkout.

    Returns:
        Path of the file.

    Raises:
        ValueError: fewer than two runs, runs that differ in more than the seed, or runs on a credentialed cohort with so few positive or
            negative test stays that no metric may be shown.
    """
    configs = [replace(run.config, seed=0) for run in runs]
    if any(config != configs[0] for config in configs):
        raise InputError("record_over_seeds: the runs differ in more than their seed; record each configuration under its own name")
    seeds = [run.config.seed for run in runs]
    source = runs[-1].environment | {"task": configs[0].task, "method": configs[0].method, "split": "test", "seeds": seeds}
    metrics = runs[0].task.recorded
    if any(run.metrics["test"][metrics[0]] is None for run in runs):
        raise InputError(
            f"record_over_seeds: fewer than {SMALLEST} of the test stays of {called(source)} are positive or negative, so no number of them"
            " may be recorded; prepare the cohort with more stays, or choose another task"
        )
    source["cohort"] = called(source)
    frames = [run.predictions.query("split == 'test'").sort_values("stay_id") for run in runs]
    tested = [runs[0].task.of_frame(frame) for frame in frames]
    for metric in metrics:
        how = runs[0].task.metrics[metric]
        over = over_seeds([how.measure(label, prediction) for label, prediction in tested])
        low, high = over.interval(share=how.share)
        for part, value in (("mean", over.estimate), ("low", low), ("high", high)):
            record(name, f"{metric}_{part}", value, ".3f", source | {"interval": "95 %, from both stays and seeds"}, folder)
        for seed, run in zip(seeds, runs, strict=True):
            record(name, f"{metric}_seed_{seed}", run.metrics["test"][metric], ".3f", source | {"seeds": [seed]}, folder)
    record(name, "seeds", len(seeds), "d", source, folder)
    for key in ("n", "positives"):
        if (count := runs[0].metrics["test"].get(key)) is not None:
            record(name, key, int(count), ",d", source, folder)
    return folder / f"{name}.json"
