"""Digits seen in halves, and a network whose embeddings of the halves are tied by a copula. The three loops beside it train it."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from cm2.copulas import make
from cm2.joint import CopulaJoint
from cm2.marginals import GaussianMixture

WEIGHT = 0.01  # of the log density, which sums over coordinates, beside the cross-entropy


def digits(missing: float = 0.5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Upper and lower half of 1,797 digits ``(n, 2, 32)``, which halves are observed ``(n, 2)``, and the digit ``(n,)``.

    Args:
        missing: share of the digits without the lower half.
        seed: of the choice of those.
    """
    pixels, digit = load_digits(return_X_y=True)
    views = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 2, 32)
    observed = torch.ones(len(views), 2, dtype=torch.bool)
    observed[:, 1] = torch.rand(len(views), generator=torch.Generator().manual_seed(seed)) >= missing
    return views * observed[:, :, None], observed, torch.tensor(digit)


class TwoViews(nn.Module):
    """An encoder for each view, their joint distribution, and a classifier that reads both embeddings.

    An embedding that is missing is drawn from the joint distribution given the one that is there; the draw passes gradients on to the
    distribution's parameters.
    """

    def __init__(self, dim: int = 8, components: int = 3) -> None:
        super().__init__()
        encoder = lambda: nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, dim), nn.BatchNorm1d(dim))
        self.encoders = nn.ModuleList([encoder(), encoder()])
        self.joint = CopulaJoint(make("gumbel", 2), [GaussianMixture(components, dim), GaussianMixture(components, dim)])
        self.classify = nn.Linear(2 * dim, 10)

    def embed(self, views: Tensor, observed: Tensor) -> Tensor:
        """Embeddings ``(B, 2, dim)``, zero where a view is missing: an encoder sees the digits that have its view."""
        z = views.new_zeros(len(views), 2, self.joint.dim)
        for m, encoder in enumerate(self.encoders):
            rows = observed[:, m].nonzero().flatten()
            z[rows, m] = encoder(views[rows, m])
        return z

    def initialise(self, views: Tensor, observed: Tensor) -> None:
        """Starts the mixtures where the embeddings are."""
        with torch.no_grad():
            self.joint.initialise(self.embed(views, observed), observed)

    def forward(self, views: Tensor, observed: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """``logits`` ``(B, 10)`` and, with labels ``(B,)``, the ``loss`` ``()``."""
        z, law = self.embed(views, observed), self.joint()
        logits = self.classify(law.impute(z, observed)[0].flatten(1))
        if labels is None:
            return {"logits": logits}
        return {"loss": F.cross_entropy(logits, labels) - WEIGHT * law.log_prob(z, observed).mean(), "logits": logits}
