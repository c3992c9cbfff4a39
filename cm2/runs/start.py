"""What every training starts from: the method, the stays of its splits, and the checks before anything is trained."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial

from cm2.cohorts import Cohort, Stays
from cm2.config import Config
from cm2.errors import InputError
from cm2.methods import Method, build_method, tokenised
from cm2.runs.batches import check_memory

ONE_AT_A_TIME = threading.RLock()
"""Of the threads of a process only one trains: all draw from torch's one generator."""


def start(config: Config, cohort: Cohort, test: bool = True) -> tuple[Cohort, Method, dict[str, Stays]]:
    """The cohort with its texts tokenised for a configuration, the untrained method, and the stays by split.

    Args:
        config: of the run.
        cohort: as it was opened.
        test: whether there are test stays.

    Raises:
        ValueError: a method that cannot learn the task, a split whose outcomes are all the same, or a batch that no memory holds.
    """
    cohort = tokenised(cohort, config)
    method = build_method(config, cohort)
    stays = _stays(config, cohort, test)
    check_outcomes(config, cohort, stays)
    check_memory(method, config, cohort)
    return cohort, method, stays


def _stays(config: Config, cohort: Cohort, test: bool) -> dict[str, Stays]:
    """The stays of each split, some of their modalities masked."""
    split = partial(cohort.split, task=config.task, mechanism=config.mechanism, seed=config.seed, matched=config.matched)
    stays = {name: split(name, absent=config.absent).with_labels(config.labels, config.seed) for name in ("train", "valid")}
    # model selection on more labels than training has would be no training with few labels
    found = {"train": stays["train"], "valid": stays["valid"].labelled()}
    return found | {"test": split("test", absent=config.absent_test)} if test else found


def check_outcomes(config: Config, cohort: Cohort, stays: Mapping[str, Stays]) -> None:
    """Checks that a method can be trained and tested, before anything is trained. The error tells no count, and what may be the cause.

    Args:
        config: of the run.
        cohort: where the stays come from.
        stays: that the configuration leaves of each split.

    Raises:
        InputError: a split whose known outcomes are all the same.
    """
    for name, split in stays.items():
        if why := split.task.lacks(split.label.numpy(), training=name == "train"):
            which, remedies = f"{name} stays", ["prepare the cohort with more stays"]
            if config.matched:
                which += f" with all of {', '.join(modality.name for modality in split.modalities)}"
                remedies.append("let stays that lack a modality take part (matched = false)")
            if config.labels < 1 and name != "test":
                which += f", {config.labels:g} of them labelled,"
                remedies.append("give a larger share of labels")
            told = f"{cohort.name}: the known outcomes {config.task} of the {which} {why}"
            raise InputError(f"{told}: {', '.join(remedies)}, or choose another task")
