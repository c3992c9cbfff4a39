"""Tables of alignment: whether a stay's embeddings find each other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import permutations
from typing import ClassVar, NamedTuple

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
from cm2.tables.result import Cell, TableResult
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
        f"Which embedding of the modality belongs to the stay? At most {MOST} test stays, chosen at random, are searched. Share of stays"
        " whose own is among the best 1, 5 and 10, and the median of its rank, among all of these or in random sets of"
        f" {POOL} (exact expectation over the sets). Density: of stay and candidate together; dependence: the same over the product of the"
        " margins, optimal for candidates drawn from the margin. AUROC: of the outcome, over all test stays."
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

    def sections(self, modalities: Sequence[str], cells: Sequence[Cell]) -> Iterator[str]:
        """One for each search and each set of candidates that it has among so many stays."""
        for search in _searches(modalities):
            known = [cell for cell in cells if cell.section.startswith(f"{search.what}, of ")]
            sizes = [cell.n for cell in known if cell.n is not None and cell.metric != AUROC]  # which is that of all test stays
            if known and not sizes:  # left out of a page
                yield from dict.fromkeys(cell.section for cell in known)
            else:
                yield from (_section(search, pool) for pool in _pools(search, max(sizes, default=0)))

    def findings(self, embedded: Embedded, method: Method, label: str) -> Iterator[Finding]:
        """Every pair in both directions, in random sets and in the whole split; then each modality from the others, some of them masked."""
        for search in _searches(embedded.names):
            yield from _retrieved(embedded, method, label, search)


class Search(NamedTuple):
    """What is looked for, and by what."""

    what: str
    target: int
    """Position of the modality that is looked for."""
    source: int | None
    """Position of the one modality that is given; None: all the others."""
    rate: float = 0.0
    """Share of these that is hidden."""


def _searches(names: Sequence[str]) -> Iterator[Search]:
    for source, target in permutations(range(len(names)), 2):
        yield Search(f"{names[source]} to {names[target]}", target, source)
    for target, name in enumerate(names) if len(names) > 2 else ():
        yield from (Search(f"{name} from the others, {rate:.0%} of them hidden", target, None, rate) for rate in RATES)


def _pools(search: Search, stays: int) -> list[int | None]:
    """Random sets where there are more stays than a set has, and all stays (None) where these are few or one modality is given."""
    many = stays > POOL
    return [*([POOL] if many else []), *([None] if search.source is not None or not many else [])]


def _section(search: Search, pool: int | None) -> str:
    return f"{search.what}, of {pool or 'all'}"


def _retrieved(embedded: Embedded, method: Method, label: str, search: Search) -> Iterator[Finding]:
    target, present = search.target, embedded.present
    given = (
        present & (torch.arange(len(embedded.names)) == search.source) if search.source is not None else embedded.hide(target, search.rate)
    )
    rows = embedded.stays(present[:, target] & given.any(dim=1), MOST)
    if len(rows) < FEWEST:
        yield Finding(_section(search, None), label, "", "recall_1", len(rows))
        return
    z = embedded.z[rows]
    query = (z, given[rows], z[:, target], target)
    found = {} if cannot_score(method) else standings(law_of(method), *query)
    found["cosine"] = cosine_standings(*query)
    for pool in _pools(search, len(rows)):
        section = _section(search, pool)
        for metric, value in found["cosine"].chance(pool).items():
            yield Finding(section, CHANCE, "", metric, len(rows), value=value)
        for score, standing in found.items():
            parts = {"better": standing.better, "tied": standing.tied}
            for metric in MEASURES:
                yield Finding(section, label, score, metric, len(rows), parts)
