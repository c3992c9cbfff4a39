"""Mixture weights predicted per stay."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightNetwork(nn.Module):
    """Predicts the weights of each modality's mixture from the stay's other observed modalities (paper: an MLP with a softmax).

    With weights that depend on the other modalities, f_m is a conditional density of z_m and the mixtures' term a sum of conditional log
    densities, a pseudo-likelihood (Besag 1975) that contains dependence itself: the dependence between the labels of two modalities no
    longer appears in the copula's term. If only one modality is observed, its network reads zeros.

    Args:
        modalities: M.
        dim: d, width of an embedding and of the hidden layer.
        components: K.
    """

    def __init__(self, modalities: int, dim: int, components: int) -> None:
        super().__init__()
        others = (modalities - 1) * (dim + 1)
        self.networks = nn.ModuleList(
            nn.Sequential(nn.Linear(others, dim), nn.ReLU(), nn.Linear(dim, components)) for _ in range(modalities)
        )

    def forward(self, z: Tensor, present: Tensor, logits: Tensor) -> Tensor:
        """Log weights ``(B, M, K)``.

        Args:
            z: embeddings ``(B, M, d)``; rows of missing modalities are never read.
            present: ``(B, M)`` bool.
            logits: logits of the mixtures' learnt weights ``(M, K)``, to which the networks' outputs are added.
        """
        known = torch.cat((torch.where(present[..., None], z, 0), present[..., None].to(z.dtype)), dim=-1)
        shift = [network(torch.cat((known[:, :m], known[:, m + 1 :]), dim=1).flatten(1)) for m, network in enumerate(self.networks)]
        return (logits + torch.stack(shift, dim=1)).log_softmax(-1)
