r"""Cross-modal retrieval as a measure of alignment: which of many embeddings of a modality belongs to a stay?

Three scores of a candidate y, given the embeddings :math:`z_O` of a stay's other modalities:

- ``density``: :math:`\log f(z_O, y)`, the joint log density of the pair;
- ``dependence``: :math:`\log f(z_O, y) - \log f(z_O) - \log f(y)`, the pointwise mutual information of the pair;
- ``cosine``: the mean cosine of y with each :math:`z_m`, for methods without a density.

``dependence`` is the Bayes-optimal score if the other candidates are draws from the margin. Of n candidates let the one at a
uniformly random position j come from :math:`f(\cdot \mid z_O)` and the others from f. Then
:math:`\Pr(j \mid y_1 \dots y_n, z_O) \propto f(y_j \mid z_O) \prod_{i \ne j} f(y_i) \propto f(z_O, y_j) / (f(z_O) f(y_j))`,
and the k candidates of the largest posterior probability have the largest recall at k. The joint density multiplies this by
:math:`f(y_j)`: it prefers typical candidates, whichever stay they belong to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import hypergeom
from torch import Tensor
from torch.nn import functional as F

from cm2.errors import InputError
from cm2.joint import CopulaJointDistribution
from cm2.metrics import Interval
from cm2.uncertainty import Measured, interval_of, measure_mean, measure_median

AT = (1, 5, 10)
RECALLS = tuple(f"recall_{k}" for k in AT)
"""Names of the shares of stays found among the best."""
MEDIAN_RANK = "median_rank"
MEASURES = (*RECALLS, MEDIAN_RANK)
PAIRS = 2_048
"""Number of pairs of query and candidate scored at a time: memory does not grow with the square of the stays, and stays in a cache."""


@dataclass(frozen=True)
class Standing:
    """Rank of the true candidate for each of q queries."""

    better: NDArray
    """Candidates with a higher score ``(q,)``."""
    tied: NDArray
    """Other candidates with the same score ``(q,)``."""
    candidates: int
    """Number of candidates of each query, the true one included."""

    def recall(self, k: int, among: int | None = None) -> NDArray:
        """Probability ``(q,)`` that the true candidate is among the best k, ties broken at random.

        Args:
            k: 1 or more.
            among: number of candidates, as if the true one were ranked among ``among - 1`` others drawn at random. Nothing is drawn:
                the number of better ones among them is hypergeometric. None: all candidates.
        """
        size = self._size(among)
        reach = np.arange(int(self.tied.max(initial=0)) + 1)  # number of tied candidates ranked before the true one
        ahead = np.minimum(self.better[:, None] + reach, self.candidates - 1)
        inside = hypergeom.cdf(k - 1, self.candidates - 1, ahead, size - 1) if size > 1 else np.ones(ahead.shape)
        possible = reach <= self.tied[:, None]
        return (inside * possible).sum(axis=1) / possible.sum(axis=1)

    def rank(self, among: int | None = None) -> NDArray:
        """Mid-rank ``(q,)`` from 1, with half of the tied candidates before it; with ``among`` as in ``recall``, its expectation."""
        ahead = self.better + self.tied / 2
        return 1 + ahead * (self._size(among) - 1) / max(self.candidates - 1, 1)

    def measure(self, name: str, among: int | None = None) -> Measured:
        """One of the `MEASURES` with its dependence on the queries."""
        if name == MEDIAN_RANK:
            return measure_median(self.rank(among))
        return measure_mean(self.recall(AT[RECALLS.index(name)], among))

    def measured(self, among: int | None = None) -> dict[str, Measured]:
        """All `MEASURES` with their dependence on the queries."""
        return {name: self.measure(name, among) for name in MEASURES}

    def summary(self, among: int | None = None) -> dict[str, Interval]:
        """The same with 95 % intervals over the queries."""
        return {name: interval_of(one, share=name in RECALLS) for name, one in self.measured(among).items()}

    def chance(self, among: int | None = None) -> dict[str, float]:
        """The same measures for a random score."""
        size = self._size(among)
        return {name: min(k / size, 1.0) for name, k in zip(RECALLS, AT, strict=True)} | {MEDIAN_RANK: (size + 1) / 2}

    def _size(self, among: int | None) -> int:
        if among is None:
            return self.candidates
        if not 1 <= among <= self.candidates:
            raise InputError(f"among: {among} candidates of {self.candidates}; give a number from 1 to that")
        return among


def standings(law: CopulaJointDistribution, z: Tensor, given: Tensor, candidates: Tensor, target: int) -> dict[str, Standing]:
    """Ranks of each stay's true embedding among all candidates, by ``density`` and by ``dependence``.

    Args:
        law: distribution of the embeddings.
        z: queries ``(n, M, d)``; embeddings outside the conditioning set are never read.
        given: conditioning set ``(n, M)`` bool, the modalities to search with; the target's column is ignored.
        candidates: ``(c, d)`` embeddings of the target, c >= n; the i-th belongs to the i-th query.
        target: column of the modality that is searched for.

    Raises:
        ValueError: fewer candidates than queries, or none; NaN in a score.
    """
    filled = candidates.new_zeros(len(candidates), *z.shape[1:])
    filled[:, target] = candidates
    only = torch.zeros(len(candidates), z.shape[1], dtype=torch.bool)
    only[:, target] = True
    # terms of z_O alone are left out: they are the same for all candidates of a query
    typical = law.marginal_log_prob(filled, only)[:, target]
    parts = []
    for rows in _chunks(z, candidates):
        dependence = law.cross_dependence(z[rows], given[rows], candidates, target).double()
        parts.append([_stand(score, rows) for score in (dependence + typical, dependence)])
    return {name: _joined(of, len(candidates)) for name, of in zip(("density", "dependence"), zip(*parts, strict=True), strict=True)}


def cosine_standings(z: Tensor, given: Tensor, candidates: Tensor, target: int) -> Standing:
    """The same by the mean cosine with the modalities of the conditioning set; arguments as in ``standings``."""
    given = given & (torch.arange(z.shape[1]) != target)
    if not bool(given.any(dim=1).all()):
        raise InputError("given: a query has no modality beside the target; leave such stays out")
    # a mean over m of cosines with y is one inner product with the mean direction
    direction = (F.normalize(torch.where(given[..., None], z, 0).double(), dim=-1).sum(1)) / given.sum(1, keepdim=True)
    unit = F.normalize(candidates.double(), dim=-1)
    return _joined([_stand(direction[rows] @ unit.T, rows) for rows in _chunks(z, candidates)], len(candidates))


def _chunks(z: Tensor, candidates: Tensor) -> list[Tensor]:
    if not 0 < len(z) <= len(candidates):
        raise InputError(f"{len(candidates)} candidates for {len(z)} queries; each query's own comes first, in the queries' order")
    return list(torch.arange(len(z)).split(max(1, PAIRS // len(candidates))))


def _stand(score: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of better and of other equal candidates, from scores ``(q, c)`` of the queries at ``rows``."""
    if bool(score.isnan().any()):
        raise InputError("a score is NaN; the embeddings of a modality that is present hold NaN, or the law is broken")
    own = score.gather(1, rows[:, None])
    return (score > own).sum(1), (score == own).sum(1) - 1


def _joined(parts: Sequence[tuple[Tensor, Tensor]], candidates: int) -> Standing:
    better, tied = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return Standing(better, tied, candidates)
