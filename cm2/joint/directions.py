r"""Directions of the vector link: orthonormal columns, and their estimate from moments.

With :math:`\bar x_m` the mean of :math:`L_{mk}^{-1}(z_m - \mu_{mk})` over the posterior of the labels, N(0, I) but for their uncertainty,
and :math:`C_{lm} = E[\bar x_l \bar x_m^\top]`, the directions of two modalities are the singular vectors of :math:`C_{12}` (Hotelling
1936); those of more maximise :math:`\sum_{l<m} \sum_j (q_{lj}^\top C_{lm} q_{mj})^2` (Kettenring 1971), one modality after another.

References:
    Fukaya et al. (2014), CholeskyQR2: a simple and communication-avoiding algorithm, ScalA
    Hotelling (1936), Relations between two sets of variates, Biometrika 28
    Kettenring (1971), Canonical analysis of several sets of variables, Biometrika 58
"""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDS, _TOLERANCE = 100, 1e-5


def orthonormal(raw: Tensor) -> Tensor:
    """Orthonormal columns with the span of the raw ones, ``(..., d, r)``; nothing waits for a device.

    Cholesky-QR, twice (Fukaya et al. 2014): the second pass takes away the rounding errors of the first.
    """
    for _ in range(2):
        factor = torch.linalg.cholesky_ex(raw.mT @ raw).L
        raw = torch.linalg.solve_triangular(factor.mT, raw, upper=True, left=False)
    return raw


def random_directions(modalities: int, count: int, like: Tensor) -> Tensor:
    """A random start, ``(M, d, r)`` with d the last size of `like`, whose dtype and device it has."""
    drawn = torch.randn(modalities, like.shape[-1], count, dtype=like.dtype)
    return torch.linalg.qr(drawn).Q.to(like.device)


def cross_moments(x: Tensor, present: Tensor) -> Tensor:
    """Sums over stays of the outer products of modalities observed together: ``(n, M, d)`` and ``(n, M)`` -> ``(M, M, d, d)``."""
    x = torch.where(present[..., None], x, 0.0)
    return torch.einsum("nla,nmb->lmab", x, x)


def leading_directions(moments: Tensor, paired: Tensor, count: int) -> Tensor:
    """The directions with the largest correlations.

    Args:
        moments: `cross_moments`, ``(M, M, d, d)``.
        paired: ``(M, M)``, how many stays each sum has.
        count: r.

    Returns:
        ``(M, d, r)`` with orthonormal columns, the strongest first, their correlations with the first modality's positive.
    """
    cross = moments / paired.clamp(min=1)[..., None, None]
    cross = cross * ~torch.eye(len(cross), dtype=torch.bool)[..., None, None]
    if len(cross) == 2:
        u, _, vh = torch.linalg.svd(cross[0, 1])
        return torch.stack([u[:, :count], vh[:count].T])
    found = _maximal_variance(cross, count)
    for _ in range(_ROUNDS):
        before = found
        for m in range(len(cross)):
            pull = (cross[m] @ found) * _correlations(cross, found)[m, :, None]
            found = torch.cat([found[:m], _polar(pull.sum(0))[None], found[m + 1 :]])
        if float((found - before).abs().max()) < _TOLERANCE:
            break
    each = _correlations(cross, found)
    order = each.square().sum((0, 1)).argsort(descending=True)
    sign = torch.where(each[0] < 0, -1.0, 1.0).to(found)
    return (found * sign[:, None])[..., order]


def fold_directions(x: Tensor, present: Tensor, folds: Tensor, count: int) -> Tensor:
    """Directions for each stay that were chosen by the stays of the other folds, ``(folds, M, d, r)``.

    Directions chosen on a sample correlate in it by chance as well; along those of others, independent modalities do not.

    Args:
        x: ``(n, M, d)`` scores.
        present: ``(n, M)``.
        folds: ``(n,)``, the number of each stay's fold.
        count: r.
    """
    seen = present.double()
    parts = [
        (cross_moments(x[folds == f], present[folds == f]), seen[folds == f].T @ seen[folds == f]) for f in range(int(folds.max()) + 1)
    ]
    moments, paired = (sum(each, start=torch.zeros_like(each[0])) for each in zip(*parts, strict=True))
    overall = leading_directions(moments, paired, count)
    found = []
    for part, counted in parts:
        directions = leading_directions(moments - part, paired - counted, count)
        # a direction and its opposite are the same to the moments, but not to a copula with one tail
        sign = torch.where((directions[0] * overall[0]).sum(0) < 0, -1.0, 1.0).to(directions)
        found.append(directions * sign)
    return torch.stack(found)


def _correlations(cross: Tensor, directions: Tensor) -> Tensor:
    """q_lj' C_lm q_mj, ``(M, M, r)``."""
    return torch.einsum("laj,lmab,mbj->lmj", directions, cross, directions)


def _maximal_variance(cross: Tensor, count: int) -> Tensor:
    """A start: the leading eigenvectors of all cross moments in one matrix, cut into modalities and made orthonormal."""
    modalities, _, dim, _ = cross.shape
    _, vectors = torch.linalg.eigh(cross.transpose(1, 2).reshape(modalities * dim, -1))
    return torch.stack([_polar(part) for part in vectors[:, -count:].flip(-1).view(modalities, dim, count)])


def _polar(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal columns, ``(d, r)``."""
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u @ vh
