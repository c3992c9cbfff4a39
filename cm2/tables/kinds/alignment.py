"""Tables of alignment: whether a stay's embeddings find each other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from cm2.escape import markdown as escape
from cm2.evaluation.embeddings import Embedded, cannot_score, law_of
from cm2.evaluation.retrieval import MEASURES, MEDIAN_RANK, RECALLS, Standing, cosine_standings, standings
from cm2.methods import Method
from cm2.tables.embeddings import CHANCE, DIAGNOSTICS, FAMILIES, MOST, RATES, EmbeddingKind
from cm2.tables.evaluated import AUROC, Finding
from cm2.tables.result import TableResult
from cm2.uncertainty import FEWEST, Measured, measure

POOL = 100
"""Number of candidates in a random set, including the true one."""


class Alignment(EmbeddingKind):
    """Retrieval of one modality by another, and by all the others."""

    name = "alignment"
    headings: ClassVar[Mapping[str, str]] = {
        "recall_1": "recall at 1",
        "recall_5": "at 5",
        "recall_10": "at 10",
        MEDIAN_RANK: "median rank",
        AUROC: "AUROC",
        **DIAGNOSTICS,
        **FAMILIES,
    }
    of_law = "dependence"
    shares: ClassVar[Collection[str]] = (*RECALLS, AUROC)
    predicts = True
    asked = (
        "Which embedding of the modality belongs to the stay? Share of stays whose own is among the best 1, 5 and 10, and the"
        " median of its rank, among all candidates or in random sets of 100 (exact expectation over the sets). Density: of stay and"
        " candidate together; dependence: the same over the product of the margins, optimal for candidates drawn from the margin."
        " AUROC: of the outcome."
    )

    def measured(self, section: str, metric: str, parts: Mapping[str, NDArray]) -> Measured:
        """A share or a median from the ranks, in random sets where the section's name ends so; an AUROC from labels and log-odds."""
        if metric == AUROC:
            return measure(parts["label"].astype(np.int64), expit(parts["logit"].astype(np.float64)))
        better, tied = (parts[name].astype(np.int64) for name in ("better", "tied"))
        standing = Standing(better, tied, candidates=len(better))
        return standing.measure(metric, POOL if section.endswith(f", of {POOL}") else None)

    def notes(self, result: TableResult) -> str:
        """As of every table of embeddings, and which tasks have no AUROC."""
        others = ", ".join(map(escape, result.provenance.get("tasks", ())))
        return super().notes(result) + (f"\n{others}: not a binary outcome, of which there is no AUROC.\n" if others else "")

    def findings(self, embedded: Embedded, method: Method, label: str) -> Iterator[Finding]:
        """Every pair in both directions, in random sets and in the whole split; then each modality from the others, some of them masked."""
        names, present = embedded.names, embedded.present
        modalities = range(len(names))
        for source in modalities:
            for target in modalities:
                if source != target:
                    given = present & (torch.arange(len(names)) == source)
                    yield from _retrieved(embedded, method, label, f"{names[source]} to {names[target]}", given, target, whole=True)
        for target in modalities if len(names) > 2 else ():
            for rate in RATES:
                section = f"{names[target]} from the others, {rate:.0%} of them hidden"
                yield from _retrieved(embedded, method, label, section, embedded.hide(target, rate), target, whole=False)


def _retrieved(
    embedded: Embedded, method: Method, label: str, section: str, given: torch.Tensor, target: int, whole: bool
) -> Iterator[Finding]:
    rows = embedded.stays(embedded.present[:, target] & given.any(dim=1), MOST)
    if len(rows) < FEWEST:
        yield Finding(f"{section}, of all", label, "", "recall_1", len(rows))
        return
    z = embedded.z[rows]
    query = (z, given[rows], z[:, target], target)
    found = {} if cannot_score(method) else standings(law_of(method), *query)
    found["cosine"] = cosine_standings(*query)
    pools: dict[str, int | None] = {f"of {POOL}": POOL} if len(rows) > POOL else {}
    pools |= {"of all": None} if whole or not pools else {}
    for pool, among in pools.items():
        for metric, value in found["cosine"].chance(among).items():
            yield Finding(f"{section}, {pool}", CHANCE, "", metric, len(rows), value=value)
        for score, standing in found.items():
            parts = {"better": standing.better, "tied": standing.tied}
            for metric in MEASURES:
                yield Finding(f"{section}, {pool}", label, score, metric, len(rows), parts)
