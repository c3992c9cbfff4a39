r"""The dependence of a batch at its own Gaussian maximum, as a function of the embeddings.

At the fitted margins the log-likelihood of Gaussian copulas along r directions, maximised over directions and correlations, is
:math:`-\frac12 \sum_j \log(1 - \rho_j^2)` nats for each stay, with :math:`\rho_j` the canonical correlations (Hotelling 1936): deep
canonical correlation analysis (Andrew et al. 2013, ICML) as the profile likelihood of a copula. It is bounded by the shrinkage and does
not change with the basis of an embedding, so no embedding gains by leaving its margin.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDS = 8


def profiled_dependence(z: Tensor, present: Tensor, directions: int, shrinkage: float) -> Tensor:
    r"""Nats of dependence per stay, a scalar; nothing waits for a device.

    With M modalities it is :math:`-\frac12 \log\det R`, R the correlations of all directions of all modalities, whose own blocks are I.

    Args:
        z: ``(n, M, d)`` embeddings; only stays with two modalities or more are read.
        present: ``(n, M)`` bool.
        directions: r.
        shrinkage: s in (0, 1): each modality's covariance S becomes :math:`(1 - s) S + s \operatorname{diag} S`, and the cross-covariances
            are multiplied by 1 - s, which keeps every correlation below 1.
    """
    paired = present & (present.sum(1, keepdim=True) > 1)
    weight = paired.to(z.dtype)
    count = weight.sum(0).clamp(min=1)
    mean = torch.einsum("nm,nmd->md", weight, torch.where(paired[..., None], z, 0.0)) / count[:, None]
    # divided by the root of each modality's own count, the moments are those of one matrix of columns, and positive definite
    x = torch.where(paired[..., None], z - mean, 0.0) / count.sqrt()[:, None]
    white = _whitened(x, shrinkage)
    cross = torch.einsum("nla,nmb->lmab", white, white)
    chosen = _leading(cross.detach(), directions)
    modalities = len(cross)
    blocks = torch.einsum("lar,lmab,mbs->lrms", chosen, cross, chosen) * (1 - shrinkage)
    other = ~torch.eye(modalities, dtype=torch.bool, device=z.device)
    size = modalities * directions
    matrix = (blocks * other[:, None, :, None]).reshape(size, size) + torch.eye(size, dtype=z.dtype, device=z.device)
    factor = torch.linalg.cholesky_ex(matrix).L
    return -factor.diagonal().log().sum()


def _whitened(x: Tensor, shrinkage: float) -> Tensor:
    """Embeddings ``(n, M, d)`` whose shrunk second moments are I."""
    second = torch.einsum("nma,nmb->mab", x, x)
    diagonal = second.diagonal(dim1=-2, dim2=-1)
    tiny = torch.finfo(x.dtype).eps * (1 + diagonal.detach().amax(-1, keepdim=True))  # a coordinate may be constant in a batch
    shrunk = (1 - shrinkage) * second + torch.diag_embed(shrinkage * diagonal + tiny)
    factor = torch.linalg.cholesky_ex(shrunk).L
    return torch.linalg.solve_triangular(factor, x.permute(1, 2, 0), upper=False).permute(2, 0, 1)


@torch.no_grad()
def _leading(cross: Tensor, count: int) -> Tensor:
    """Directions ``(M, d, r)`` with nearly the largest correlations, by alternating subspace iterations.

    At the maximum their own gradient vanishes, so it is enough to have the value's at fixed directions.
    """
    modalities, _, dim, _ = cross.shape
    found = torch.eye(dim, count, dtype=cross.dtype, device=cross.device).expand(modalities, dim, count)
    for _ in range(_ROUNDS):
        for m in range(modalities):
            pull = torch.stack([cross[m, other] @ found[other] for other in range(modalities) if other != m]).sum(0)
            # Householder: orthonormal also where the pull has a lower rank, as it has with fewer stays in common than directions
            columns, triangle = torch.linalg.qr(pull)
            along = torch.where(triangle.diagonal() < 0, -columns, columns)  # it may turn a direction round; others pull against that
            found = torch.cat([found[:m], along[None], found[m + 1 :]])
    return found
