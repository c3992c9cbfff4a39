"""The alignment loss of the paper's released code, restated operation by operation from its description.

It is here to be timed beside ours, not to be used: it is not a likelihood (see the chapter on training). What is kept is what
costs time: a Python loop over components and modalities, a dense multivariate normal for a diagonal one, the validation of its
arguments and samples, boolean-mask indexing and assertions on values. The code itself carries no licence and is not copied.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal
from torch.nn import functional as F


class ReleasedLoss(nn.Module):
    """Gumbel, two modalities: 1 + 2K + 4·K·d parameters, as counted for the release.

    Args:
        dim: d of the embeddings (released: 256).
        components: K (released: 3).
    """

    def __init__(self, dim: int = 256, components: int = 3) -> None:
        super().__init__()
        self.components = components
        self.theta = nn.Parameter(torch.tensor(1.0))
        self.weights = nn.ParameterDict({m: nn.Parameter(torch.ones(components)) for m in "xy"})
        self.means = nn.ParameterDict({m: nn.Parameter(torch.zeros(components, dim)) for m in "xy"})
        self.scales = nn.ParameterDict({m: nn.Parameter(torch.full((components, dim), -4.0)) for m in "xy"})

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """``(B, d), (B, d) -> ()``: minus the mean over the batch of the log-sum over components."""
        log_weights = {m: F.softmax(self.weights[m], dim=0).log() for m in "xy"}
        scores = []
        for k in range(self.components):
            log_f, log_u = {}, {}
            for m, z in (("x", x), ("y", y)):
                mean, scale = self.means[m][k], F.softplus(self.scales[m][k])
                log_f[m] = MultivariateNormal(mean, scale_tril=torch.diag(scale), validate_args=True).log_prob(z)
                log_u[m] = self._log_cdf(z, mean, scale)
            dependence = self._log_gumbel_cdf(log_u["x"], log_u["y"])
            scores.append(dependence + log_f["x"] + log_f["y"] + log_weights["x"][k] + log_weights["y"][k])
        stacked = torch.stack(scores, dim=-1)
        assert not torch.isinf(stacked).any()
        total = torch.logsumexp(stacked, dim=-1)
        assert not torch.isinf(total).any()
        loss = -total.mean()
        assert not torch.isinf(loss).any()
        assert not torch.isnan(loss).any()
        return loss

    @staticmethod
    def _log_cdf(z: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """Sum over the coordinates of log Φ, Φ held above 1e-15 and log Φ = 0 replaced by the largest value below 0."""
        standard = (z - mean) / scale
        phi = torch.clamp(0.5 * torch.erfc(-standard / math.sqrt(2)), min=1e-15).log()
        largest = phi[phi < 0].max()
        return torch.where(phi == 0, largest, phi).sum(dim=-1)

    def _log_gumbel_cdf(self, log_u: Tensor, log_v: Tensor) -> Tensor:
        alpha = torch.clamp(self.theta, min=1)
        generator = (-log_u) ** alpha + (-log_v) ** alpha
        return -(generator ** (1 / alpha))
