"""What the embeddings of one run were found to do, stay by stay: the numbers of tables of alignment and imputation before any mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cm2.runs.run import Run
from cm2.tables.predictions import predicted
from cm2.uncertainty import Measured

AUROC = "auroc"


class Finding(NamedTuple):
    """One number of one run, with what it follows from."""

    section: str
    method: str
    """Label of the method's row."""
    score: str
    """Empty where there is one row for the method."""
    metric: str
    n: int
    """Number of stays."""
    parts: Mapping[str, NDArray] | None = None
    """Scores of the stays by name, each ``(n,)``, from which the number follows; None where there are too few stays."""
    value: float | None = None
    """That of chance, which belongs to no run."""


class Evaluated(NamedTuple):
    """What one run was found to do."""

    findings: list[Finding]
    diagnostics: Mapping[str, float]
    """Of its law; empty where there is none."""


def exactly(value: float) -> Measured:
    """A number that does not depend on which stays there are."""
    return Measured(value, np.zeros(1), math.inf)


def same(a: Sequence[Finding], b: Sequence[Finding]) -> bool:
    """Whether two seeds found the same, stay by stay."""
    return len(a) == len(b) and all(
        x[:5] == y[:5]
        and x.value == y.value
        and (x.parts or {}).keys() == (y.parts or {}).keys()
        and all(np.array_equal(values, (y.parts or {})[name]) for name, values in (x.parts or {}).items())
        for x, y in zip(a, b, strict=True)
    )


def of_predictions(run: Run, findings: Sequence[Finding], label: str, of_law: str) -> Iterator[Finding]:
    """The AUROC of the run's test predictions, in every section in the row of the law's own score, or of the first where there is none.

    Only a binary outcome has one.
    """
    test = predicted(run)
    if test.of.identity:
        return
    parts = {"label": test.label, "logit": test.compact} if test.of.enough(test.label) else None
    rows: dict[str, list[str]] = {}
    for finding in findings:
        if finding.method == label and finding.score:
            rows.setdefault(finding.section, []).append(finding.score)
    for section, scores in rows.items():
        yield Finding(section, label, of_law if of_law in scores else scores[0], AUROC, len(test.label), parts)
