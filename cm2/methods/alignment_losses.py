r"""Alignment losses that replace the copula in the paper's Table 4: a distance between the embeddings of two modalities.

Each takes embeddings ``(B, M, d)`` and the mask ``(B, M)`` of observed modalities, and returns a scalar to be minimised: the mean over
all stays and all pairs of modalities observed in a stay. Missing embeddings are never read. Without a pair in the batch it is 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

KL_TEMPERATURE = 0.2
"""Temperature of the softmax that turns an embedding into a distribution over its coordinates (released code)."""


def cosine_alignment(z: Tensor, present: Tensor) -> Tensor:
    """Mean of 1 - cos of the angle between two embeddings of a stay, ``(B, M, d) -> ()``; 1 for unrelated ones."""
    return _over_pairs(lambda x, y: 1 - F.cosine_similarity(x, y, dim=-1), z, present)


def kl_alignment(z: Tensor, present: Tensor, temperature: float = KL_TEMPERATURE) -> Tensor:
    r"""Mean Kullback-Leibler divergence :math:`KL(p_m \| p_n)`, m before n, of :math:`p = softmax(z / T)`, ``(B, M, d) -> ()``.

    Both sides receive a gradient; the released code detaches the first.
    """

    def divergence(x: Tensor, y: Tensor) -> Tensor:
        log_p, log_q = (x / temperature).log_softmax(-1), (y / temperature).log_softmax(-1)
        return (log_p.exp() * (log_p - log_q)).sum(-1)

    return _over_pairs(divergence, z, present)


ALIGNMENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cosine": cosine_alignment, "kl": kl_alignment}


def _over_pairs(distance: Callable[[Tensor, Tensor], Tensor], z: Tensor, present: Tensor) -> Tensor:
    first, second = torch.triu_indices(z.shape[1], z.shape[1], 1, device=z.device)
    both = present[:, first] & present[:, second]
    # missing rows become ones, not zeros: a norm has no gradient at zero
    z = torch.where(present[..., None], z, 1.0)
    total = torch.where(both, distance(z[:, first], z[:, second]), 0).sum()
    return total / both.sum().clamp(min=1)
