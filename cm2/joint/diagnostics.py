r"""Whether a fitted joint distribution describes the embeddings, and how much of their dependence it sees.

References:
    Roy, Vetterli (2007), The effective rank, EUSIPCO
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from cm2.joint.law import CopulaJoint
from cm2.marginals import GaussianMixtureDistribution

_FOLDS = 5


def effective_rank(z: Tensor) -> float:
    """exp of the entropy of the covariance's eigenvalues, from 1 to d (Roy, Vetterli 2007); ``z`` ``(n, d)``."""
    values = torch.linalg.eigvalsh(torch.cov(z.double().T)).clamp(min=0)
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())


def distance(mixture: GaussianMixtureDistribution, z: Tensor) -> float:
    """How far the mixture's mean is from that of the embeddings ``(n, d)``, in their standard deviations, the root mean square over d."""
    mean = (mixture.log_weights.exp()[:, None] * mixture.mean).sum(0)
    return float(((mean - z.mean(0)) / z.std(0).clamp(min=1e-12)).square().mean().sqrt())


def gaussian_nats(x: Tensor, y: Tensor, shrinkage: float = 0.05, seed: int = 0) -> float:
    r"""Held-out nats per stay of a Gaussian copula with free cross-correlations, at given margins.

    Args:
        x: ``(n, d)`` scores of one modality, N(0, I) under its margin (`Vector.mean_scores`).
        y: ``(n, d)`` scores of another one, of the same stays.
        shrinkage: of the cross-correlations, chosen by nobody.
        seed: of the folds, each of which is judged by the correlations of the others.
    """
    n, d = x.shape
    folds = torch.randperm(n, generator=torch.Generator().manual_seed(seed)) % _FOLDS
    z, total = torch.cat([x, y], 1).double(), 0.0
    identity = torch.eye(2 * d, dtype=torch.float64)
    for fold in range(_FOLDS):
        train, held_out = z[folds != fold], z[folds == fold]
        u, s, vh = torch.linalg.svd(train[:, :d].T @ train[:, d:] / len(train))
        cross = (1 - shrinkage) * (u * s.clamp(max=1)) @ vh
        matrix = identity.clone()
        matrix[:d, d:], matrix[d:, :d] = cross, cross.T
        factor = torch.linalg.cholesky(matrix)
        white = torch.linalg.solve_triangular(factor, held_out.T, upper=False)
        total += float((held_out.square().sum() - white.square().sum()) / 2 - len(held_out) * factor.diagonal().log().sum())
    return total / n


@torch.no_grad()
def describe(joint: CopulaJoint, z: Tensor, present: Tensor) -> dict[str, float]:
    """Diagnostics of a joint distribution on the embeddings it was fitted to, ``(n, M, d)`` and ``(n, M)``: columns of a history.

    Returns:
        ``effective_rank``, the least of the modalities; ``law_distance``, the largest; and for ``link="vector"`` ``gaussian_nats``, the
        mean over the pairs of modalities of what a full Gaussian copula sees at the same margins.
    """
    own = [z[present[:, m], m] for m in range(z.shape[1])]
    found = {
        "effective_rank": min(effective_rank(rows) for rows in own),
        "law_distance": max(distance(mixture(validate_args=False), rows) for mixture, rows in zip(joint.marginals, own, strict=True)),
    }
    if joint.raw_directions is None:
        return found
    scores = joint(validate_args=False).link.mean_scores(torch.where(present[..., None], z, 0.0))
    both = [(a, b, present[:, a] & present[:, b]) for a, b in combinations(range(z.shape[1]), 2)]
    nats = [gaussian_nats(scores[rows, a], scores[rows, b]) for a, b, rows in both if int(rows.sum()) > _FOLDS]
    return found | ({"gaussian_nats": sum(nats) / len(nats)} if nats else {})
