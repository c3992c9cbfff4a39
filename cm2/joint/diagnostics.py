r"""Whether a fitted joint distribution describes the embeddings, and how much of their dependence it sees.

References:
    Roy, Vetterli (2007), The effective rank, EUSIPCO
"""

from __future__ import annotations

from copy import deepcopy
from itertools import combinations

import torch
from torch import Tensor

from cm2.copulas import Copula
from cm2.copulas.chosen import Chosen, counted
from cm2.joint.law import CopulaJoint
from cm2.marginals import GaussianMixtureDistribution

_FOLDS = 5


def effective_rank(z: Tensor) -> float:
    """exp of the entropy of the covariance's eigenvalues, from 1 to d (Roy, Vetterli 2007); ``z`` ``(n, d)``."""
    values = torch.linalg.eigvalsh(_covariance(z.double())).clamp(min=0)
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())


def distance(mixture: GaussianMixtureDistribution, z: Tensor) -> float:
    """How far the mixture's mean is from that of the embeddings ``(n, d)``, in their standard deviations, the root mean square over d."""
    mean = (mixture.log_weights.exp()[:, None] * mixture.mean).sum(0)
    return float(((mean - z.mean(0)) / z.std(0).clamp(min=1e-12)).square().mean().sqrt())


def gaussian_nats(x: Tensor, y: Tensor, shrinkage: float = 0.05, seed: int = 0) -> float:
    r"""Held-out nats per stay of a Gaussian copula with free cross-correlations, at margins that fit.

    Args:
        x: ``(n, d)`` scores of one modality, N(0, I) under its margin (`Link.mean_scores`). They are standardised once more: at a margin
            that does not describe its embeddings, any dependence term is about that.
        y: ``(n, d)`` scores of another one, of the same stays.
        shrinkage: of the cross-correlations, and of each modality's own; chosen by nobody.
        seed: of the folds, each of which is judged by the moments of the others.
    """
    n, d = x.shape
    folds = torch.randperm(n, generator=torch.Generator().manual_seed(seed)) % _FOLDS
    z, total = torch.cat([x, y], 1).double(), 0.0
    identity = torch.eye(2 * d, dtype=torch.float64)
    for fold in range(_FOLDS):
        train, held_out = _standardised(z[folds != fold], z[folds == fold], d, shrinkage)
        u, s, vh = torch.linalg.svd(train[:, :d].T @ train[:, d:] / len(train))
        cross = (1 - shrinkage) * (u * s.clamp(max=1)) @ vh
        matrix = identity.clone()
        matrix[:d, d:], matrix[d:, :d] = cross, cross.T
        factor = torch.linalg.cholesky(matrix)
        white = torch.linalg.solve_triangular(factor, held_out.T, upper=False)
        total += float((held_out.square().sum() - white.square().sum()) / 2 - len(held_out) * factor.diagonal().log().sum())
    return total / n


def _covariance(z: Tensor) -> Tensor:
    """``(d, d)`` of ``(n, d)``, a matrix for d = 1 as well."""
    return torch.cov(z.T).view(z.shape[1], z.shape[1])


def _standardised(train: Tensor, held_out: Tensor, d: int, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Both halves of the columns with mean 0 and covariance I over the first sample."""
    parts = []
    for columns in (slice(0, d), slice(d, None)):
        own = train[:, columns]
        covariance = _covariance(own)
        factor = torch.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * torch.diag(covariance.diagonal().clamp(min=1e-12)))
        parts.append([torch.linalg.solve_triangular(factor, (x[:, columns] - own.mean(0)).T, upper=False).T for x in (train, held_out)])
    first, second = (torch.cat(pair, 1) for pair in zip(*parts, strict=True))
    return first, second


@torch.no_grad()
def describe(joint: CopulaJoint, z: Tensor, present: Tensor) -> dict[str, float]:
    """Diagnostics of a joint distribution on embeddings ``(n, M, d)`` with mask ``(n, M)``.

    It is computed on the host, whatever device the embeddings are on, and without random numbers.

    Returns:
        ``effective_rank``, the least of the modalities; ``law_distance``, the largest; and of the pairs of modalities, in the mean over
        them, nats per stay: ``law_nats``, the law's dependence term, and ``gaussian_nats``, what a full Gaussian copula sees at margins
        that fit. The last two are left out where no pair has enough stays. Of a law whose families a fit chose, ``family_gaussian`` and
        so on, the number of directions with each. Modalities of fewer than two stays are passed over.
    """
    joint, z, present = deepcopy(joint).cpu(), z.detach().cpu(), present.cpu()
    own = [(mixture(validate_args=False), z[present[:, m], m]) for m, mixture in enumerate(joint.marginals)]
    own = [(mixture, rows) for mixture, rows in own if len(rows) > 1]
    if not own:
        return {}
    found = {
        "effective_rank": min(effective_rank(rows) for _, rows in own),
        "law_distance": max(distance(mixture, rows) for mixture, rows in own),
    }
    if not isinstance(joint.copula, Copula):
        found |= counted([copula for copula in joint.copula if isinstance(copula, Chosen)])
    law = joint(validate_args=False)
    scores = law.link.mean_scores(torch.where(present[..., None], z, 0.0))
    seen, there = [], []
    for pair in combinations(range(z.shape[1]), 2):
        rows = present[:, list(pair)].all(1)
        if int(rows.sum()) > _FOLDS:
            seen.append(float(law.dependence(z[rows], _only(pair, present[rows])).mean()))
            there.append(gaussian_nats(*(scores[rows, m] for m in pair)))
    return found | ({"law_nats": sum(seen) / len(seen), "gaussian_nats": sum(there) / len(there)} if seen else {})


def _only(pair: tuple[int, int], present: Tensor) -> Tensor:
    """The mask ``(n, M)`` without the modalities that are not in the pair."""
    mask = torch.zeros_like(present)
    mask[:, list(pair)] = present[:, list(pair)]
    return mask
