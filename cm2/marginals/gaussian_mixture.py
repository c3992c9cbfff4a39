r"""Gaussian mixtures: the marginal distribution of one modality's embedding.

.. math:: f(z) = \sum_k \pi_k N(z; \mu_k, \Sigma_k), \qquad \Sigma_k = L_k L_k^\top

The covariances are diagonal, or full with Cholesky factors L. Given component k, :math:`x_k = L_k^{-1}(z - \mu_k)` is :math:`N(0, I)`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cm2.errors import InputError
from cm2.marginals.distribution import GaussianMixtureDistribution
from cm2.marginals.estimation import from_clusters, from_likelihood
from cm2.numerics.elementary import log_expm1

COVARIANCES = ("diagonal", "full")


class GaussianMixture(nn.Module):
    r"""Learnable :math:`\sum_k \pi_k N(\mu_k, \Sigma_k)` on :math:`R^d`; calling it returns the distribution.

    Args:
        components: number of components, K.
        dim: number of coordinates, d.
        minimum_scale: floor of the diagonal of every Cholesky factor, the standard deviation of a coordinate given those before it, in
            the units of z. Without a floor the likelihood of a mixture is unbounded: it diverges when a component collapses onto a
            single point.
        covariance: ``"diagonal"``, or ``"full"``: positive definite by construction, :math:`d(d+1)/2` numbers for each component.

    Raises:
        ValueError: a size below 1, a floor that is not positive, or an unknown covariance.

    Example:
        >>> mixture = GaussianMixture(components=3, dim=8)
        >>> mixture().rsample((5,)).shape
        torch.Size([5, 8])
    """

    def __init__(self, components: int, dim: int, *, minimum_scale: float = 1e-3, covariance: str = "diagonal") -> None:
        super().__init__()
        if components < 1 or dim < 1:
            raise InputError(f"GaussianMixture: expected components >= 1 and dim >= 1, got {components} and {dim}")
        if not minimum_scale > 0:
            raise InputError(f"GaussianMixture: minimum_scale must be positive, got {minimum_scale}; leave it out for 1e-3")
        if covariance not in COVARIANCES:
            raise InputError(f"GaussianMixture: unknown covariance {covariance!r}; choose {' or '.join(COVARIANCES)}")
        self.components, self.dim, self.minimum_scale, self.covariance = components, dim, minimum_scale, covariance
        self.logits = nn.Parameter(torch.zeros(components))
        # random: components that start equal receive equal gradients and stay equal
        self.mean = nn.Parameter(torch.randn(components, dim))
        # softplus inverse of 1
        self.raw_scale = nn.Parameter(torch.full((components, dim), math.log(math.expm1(1.0))))
        self.lower = nn.Parameter(torch.zeros(components, dim, dim)) if covariance == "full" else None

    @classmethod
    def from_parameters(cls, weights: Tensor, mean: Tensor, scale: Tensor, *, minimum_scale: float = 1e-3) -> GaussianMixture:
        """A mixture with the given weights ``(K,)``, means ``(K, d)`` and standard deviations ``(K, d)`` or Cholesky factors ``(K, d, d)``.

        Raises:
            ValueError: shapes that disagree, weights that are not positive or do not sum to 1, a scale at or below the floor.
        """
        weights, mean, scale = (torch.as_tensor(x) for x in (weights, mean, scale))
        full = scale.ndim == 3
        if mean.ndim != 2 or scale.shape != (*mean.shape, *mean.shape[1:] * full) or weights.shape != mean.shape[:1]:
            shapes = [tuple(x.shape) for x in (weights, mean, scale)]
            raise InputError(f"from_parameters: expected weights (K,), mean (K, d) and scale (K, d) or (K, d, d), got {shapes}")
        if not bool((weights > 0).all()) or abs(float(weights.sum()) - 1) > 1e-4:
            raise InputError(f"from_parameters: weights must be positive and sum to 1, got {weights.tolist()}")
        diagonal = scale.diagonal(dim1=-2, dim2=-1) if full else scale
        if not bool((diagonal > minimum_scale).all()):
            smallest = float(diagonal.min())
            raise InputError(f"from_parameters: scale {smallest} is not above minimum_scale {minimum_scale}; lower the floor")
        mixture = cls(*mean.shape, minimum_scale=minimum_scale, covariance="full" if full else "diagonal").to(mean)
        mixture._set(weights, mean, scale)
        return mixture

    def initialise(self, z: Tensor, seed: int = 0) -> None:
        """Sets the parameters from k-means on a first batch, which makes the components differ; see `estimation.from_clusters`.

        Args:
            z: ``(n, d)`` embeddings, n >= K, on any device.
            seed: of the random choice of starting centres.

        Raises:
            ValueError: a wrong shape, values that are not finite, or fewer distinct rows than components.
        """
        self._set(*from_clusters(self._points(z, "initialise"), self.components, self._floor, self.lower is not None, seed))

    def fit(self, z: Tensor, *, shrinkage: float = 0.0, iterations: int = 100) -> None:
        """Maximum likelihood by expectation and maximisation, from the current parameters; see `estimation.from_likelihood`.

        Args:
            z: ``(n, d)`` embeddings, on any device.
            shrinkage: of full covariances towards their diagonals, in [0, 1].
            iterations: at most this many steps; fewer once the log-likelihood per embedding gains less than 1e-3.

        Raises:
            ValueError: a wrong shape, values that are not finite, fewer distinct rows than components, a constant coordinate, a
                component that has collapsed onto a single embedding, or one with fewer embeddings than coordinates and a full covariance
                that is not shrunk.
        """
        if not 0 <= shrinkage <= 1:
            raise InputError(f"fit: shrinkage must lie in [0, 1], got {shrinkage}")
        law = self(validate_args=False)
        start = law.log_weights.exp(), law.mean, law.scale if law.scale_tril is None else law.scale_tril
        self._set(*from_likelihood(self._points(z, "fit"), start, self._floor, shrinkage, iterations))

    @property
    def _floor(self) -> float:
        """Twice the floor of a scale: at the floor itself the raw scale is minus infinity."""
        return 2 * self.minimum_scale

    def _points(self, z: Tensor, caller: str) -> Tensor:
        """Embeddings as ``(n, d)`` float64 on the CPU, checked."""
        points = z.detach().double().cpu()
        if points.ndim != 2 or points.shape[1] != self.dim:
            raise InputError(f"{caller}: expected embeddings (n, {self.dim}), got {tuple(points.shape)}")
        if not bool(points.isfinite().all()):
            raise InputError(f"{caller}: an embedding is not finite; pass only rows of stays that have the modality")
        distinct = len(points.unique(dim=0))
        if distinct < self.components:
            raise InputError(f"{caller}: {distinct} distinct embeddings for {self.components} components; pass a larger first batch")
        return points

    def forward(self, log_weights: Tensor | None = None, validate_args: bool | None = None) -> GaussianMixtureDistribution:
        """The distribution; ``log_weights`` ``(..., K)`` replace the learnt ones (per stay, or from a table of label weights)."""
        scale = self.minimum_scale + F.softplus(self.raw_scale)
        if self.lower is not None:
            scale = self.lower.tril(-1) + torch.diag_embed(scale)
        log_weights = self.logits.log_softmax(-1) if log_weights is None else log_weights
        return GaussianMixtureDistribution(log_weights, self.mean, scale, validate_args=validate_args)

    def extra_repr(self) -> str:
        covariance = "" if self.lower is None else f", covariance={self.covariance!r}"
        return f"components={self.components}, dim={self.dim}, minimum_scale={self.minimum_scale}{covariance}"

    @torch.no_grad()
    def _set(self, weights: Tensor, mean: Tensor, scale: Tensor) -> None:
        self.logits.copy_(weights.log())
        self.mean.copy_(mean)
        diagonal = scale.diagonal(dim1=-2, dim2=-1) if scale.ndim == 3 else scale
        self.raw_scale.copy_(log_expm1(diagonal - self.minimum_scale))
        if self.lower is not None:
            self.lower.copy_(scale.tril(-1))
