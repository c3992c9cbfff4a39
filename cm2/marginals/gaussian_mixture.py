r"""Gaussian mixtures with diagonal covariance: the marginal distribution of one modality's embedding.

.. math:: f(z) = \sum_k \pi_k \prod_j N(z_j; \mu_{kj}, \sigma_{kj}^2)

A distribution of vectors has no univariate distribution function to pass to a copula. The Rosenblatt transform, the chain of
conditional distribution functions, replaces it: it maps the embedding to independent uniforms, and its Jacobian determinant is f.

References:
    Rosenblatt (1952), Remarks on a multivariate transformation, Annals of Mathematical Statistics 23
    Figurnov, Mohamed, Mnih (2018), Implicit reparameterization gradients, NeurIPS
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.distributions import Distribution, constraints
from torch.nn import functional as F

from cm2.marginals.rosenblatt import chain, implicit_reparameterise, invert
from cm2.numerics.elementary import log1mexp, log_expm1
from cm2.numerics.gamma import log_gamma_tails
from cm2.numerics.normal import log_ndtr

_LOG_SQRT_TAU = 0.5 * math.log(2 * math.pi)


class GaussianMixture(nn.Module):
    r"""Learnable :math:`\sum_k \pi_k N(\mu_k, \operatorname{diag} \sigma_k^2)` on :math:`R^d`; calling it returns the distribution.

    Args:
        components: number of components, K.
        dim: number of coordinates, d.
        minimum_scale: floor of every :math:`\sigma_{kj}`, in the units of z. Without a floor the likelihood of a mixture is
            unbounded: it diverges when a component collapses onto a single point.

    Raises:
        ValueError: a size below 1 or a floor that is not positive.

    Example:
        >>> mixture = GaussianMixture(components=3, dim=8)
        >>> mixture().rsample((5,)).shape
        torch.Size([5, 8])
    """

    def __init__(self, components: int, dim: int, *, minimum_scale: float = 1e-3) -> None:
        super().__init__()
        if components < 1 or dim < 1:
            raise ValueError(f"GaussianMixture: expected components >= 1 and dim >= 1, got {components} and {dim}")
        if not minimum_scale > 0:
            raise ValueError(f"GaussianMixture: minimum_scale must be positive, got {minimum_scale}; leave it out for 1e-3")
        self.components, self.dim, self.minimum_scale = components, dim, minimum_scale
        self.logits = nn.Parameter(torch.zeros(components))
        # random: components that start equal receive equal gradients and stay equal
        self.mean = nn.Parameter(torch.randn(components, dim))
        # softplus inverse of 1
        self.raw_scale = nn.Parameter(torch.full((components, dim), math.log(math.expm1(1.0))))

    @classmethod
    def from_parameters(cls, weights: Tensor, mean: Tensor, scale: Tensor, *, minimum_scale: float = 1e-3) -> GaussianMixture:
        """A mixture with these weights ``(K,)``, means ``(K, d)`` and standard deviations ``(K, d)``.

        Raises:
            ValueError: shapes that disagree, weights that are not positive or do not sum to 1, a scale at or below the floor.
        """
        weights, mean, scale = (torch.as_tensor(x) for x in (weights, mean, scale))
        if mean.ndim != 2 or scale.shape != mean.shape or weights.shape != mean.shape[:1]:
            shapes = [tuple(x.shape) for x in (weights, mean, scale)]
            raise ValueError(f"from_parameters: expected weights (K,), mean (K, d) and scale (K, d), got {shapes}")
        if not bool((weights > 0).all()) or abs(float(weights.sum()) - 1) > 1e-4:
            raise ValueError(f"from_parameters: weights must be positive and sum to 1, got {weights.tolist()}")
        if not bool((scale > minimum_scale).all()):
            smallest = float(scale.min())
            raise ValueError(f"from_parameters: scale {smallest} is not above minimum_scale {minimum_scale}; lower the floor")
        mixture = cls(*mean.shape, minimum_scale=minimum_scale).to(mean)
        mixture._set(weights, mean, scale)
        return mixture

    def initialise(self, z: Tensor, seed: int = 0) -> None:
        """Sets means, scales and weights from k-means++ and Lloyd's iterations on a first batch, which makes the components differ.

        Each cluster's variance is shrunk by one pseudo-observation with the variance of the whole batch.

        Args:
            z: ``(n, d)`` embeddings, n >= K, on any device.
            seed: random seed of k-means++.

        Raises:
            ValueError: a wrong shape, values that are not finite, or fewer distinct rows than components.
        """
        points = z.detach().double().cpu()
        if points.ndim != 2 or points.shape[1] != self.dim:
            raise ValueError(f"initialise: expected embeddings (n, {self.dim}), got {tuple(points.shape)}")
        if not bool(points.isfinite().all()):
            raise ValueError("initialise: an embedding is not finite; pass only rows of stays that have the modality")
        distinct = len(points.unique(dim=0))
        if distinct < self.components:
            raise ValueError(f"initialise: {distinct} distinct embeddings for {self.components} components; pass a larger first batch")
        labels = torch.from_numpy(KMeans(self.components, n_init=4, random_state=seed).fit(points.numpy()).labels_).long()
        member = F.one_hot(labels, self.components).to(points)
        count = member.sum(0)
        mean = member.T @ points / count[:, None]
        within = member.T @ (points - mean[labels]).square() + points.var(0, correction=0)
        # twice the floor: at the floor itself the raw scale is minus infinity
        scale = (within / (count[:, None] + 1)).sqrt().clamp(min=2 * self.minimum_scale)
        self._set(count / count.sum(), mean, scale)

    def forward(self, log_weights: Tensor | None = None, validate_args: bool | None = None) -> GaussianMixtureDistribution:
        """The distribution; ``log_weights`` ``(..., K)`` replace the learnt ones (per stay, or from a table of label weights)."""
        scale = self.minimum_scale + F.softplus(self.raw_scale)
        log_weights = self.logits.log_softmax(-1) if log_weights is None else log_weights
        return GaussianMixtureDistribution(log_weights, self.mean, scale, validate_args=validate_args)

    def extra_repr(self) -> str:
        return f"components={self.components}, dim={self.dim}, minimum_scale={self.minimum_scale}"

    @torch.no_grad()
    def _set(self, weights: Tensor, mean: Tensor, scale: Tensor) -> None:
        self.logits.copy_(weights.log())
        self.mean.copy_(mean)
        self.raw_scale.copy_(log_expm1(scale - self.minimum_scale))


class GaussianMixtureDistribution(Distribution):
    r"""The distribution :math:`\sum_k \pi_k N(\mu_k, \operatorname{diag} \sigma_k^2)`, or a batch of them.

    Args:
        log_weights: ``(*batch, K)``, logarithms of the weights, normalised.
        mean: ``(*batch, K, d)`` or ``(K, d)``.
        scale: the shape of ``mean``, standard deviations.
        validate_args: check the parameters and every argument (torch's default); if False, nothing waits for a device.

    Raises:
        ValueError: parameters whose shapes disagree, weights that do not sum to 1, a scale that is not positive.
    """

    arg_constraints: ClassVar[dict] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, log_weights: Tensor, mean: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.log_weights, self._mean, self.scale = log_weights, mean, scale
        self.checked = Distribution._validate_args if validate_args is None else validate_args
        if log_weights.shape[-1:] != mean.shape[-2:-1] or scale.shape != mean.shape:
            shapes = [tuple(x.shape) for x in (log_weights, mean, scale)]
            raise ValueError(f"Gaussian mixture: expected log_weights (..., K), mean and scale (..., K, d), got {shapes}")
        batch = torch.broadcast_shapes(log_weights.shape[:-1], mean.shape[:-2])
        super().__init__(batch, mean.shape[-1:], validate_args=False)
        if self.checked:
            self._check_parameters()

    @property
    def mean(self) -> Tensor:
        """Means of the components ``(..., K, d)``."""
        return self._mean

    def log_prob(self, z: Tensor) -> Tensor:
        """log f(z): ``(..., d)`` -> ``(...)``."""
        return (self.log_weights + self.component_log_prob(z)).logsumexp(-1)

    def component_log_prob(self, z: Tensor) -> Tensor:
        r""":math:`\log N(z; \mu_k, \sigma_k^2)`: ``(..., d)`` -> ``(..., K)``."""
        return self._log_normal(self.standardise(z))

    def component_tails(self, z: Tensor) -> tuple[Tensor, Tensor]:
        r"""log of :math:`v_k` and of :math:`1 - v_k`, uniform if z comes from component k: ``(..., d)`` -> two ``(..., K)``.

        :math:`v_k = Q(d, T_k)` with :math:`T_k = -\sum_j \log \Phi((z_j - \mu_{kj}) / \sigma_{kj})`: the paper's
        :math:`\prod_j \Phi` transformed by its distribution function.
        """
        return self._gamma_tails(self.standardise(z))

    def component_terms(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`component_log_prob` and both `component_tails` in one pass over the coordinates, three ``(..., K)``."""
        x = self.standardise(z)
        return self._log_normal(x), *self._gamma_tails(x)

    def log_cdf(self, z: Tensor) -> Tensor:
        r"""log of :math:`F(z) = \Pr(Z \le z) = \sum_k \pi_k \prod_j \Phi((z_j - \mu_{kj}) / \sigma_{kj})`, as the paper prints it."""
        return (self.log_weights + log_ndtr(self.standardise(z)).sum(-1)).logsumexp(-1)

    def cdf_terms(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`log_prob`, log F and log(1 - F) in one pass over the coordinates, three ``(...)``, both tails of F accurate."""
        x = self.standardise(z)
        log_component = log_ndtr(x).sum(-1)
        log_f = (self.log_weights + log_component).logsumexp(-1)
        log1m_f = (self.log_weights + log1mexp(log_component)).logsumexp(-1)
        lower = log_f < log1m_f
        # the larger one from the smaller, as in `rosenblatt_terms`
        small = torch.where(lower, log_f, log1m_f)
        large = log1mexp(small)
        log_prob = (self.log_weights + self._log_normal(x)).logsumexp(-1)
        return log_prob, torch.where(lower, small, large), torch.where(lower, large, small)

    def cdf(self, z: Tensor) -> Tensor:
        """Joint distribution function F(z), ``(..., d)`` -> ``(...)``; F(Z) is not uniform but of order e^-d."""
        return self.log_cdf(z).exp()

    def rosenblatt(self, z: Tensor) -> Tensor:
        r""":math:`u_j = F(z_j \mid z_1 \dots z_{j-1})`: ``(..., d)`` -> ``(..., d)`` in [0, 1], independent and uniform if z follows f."""
        return self.rosenblatt_tails(z)[0].exp()

    def rosenblatt_tails(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """log u and log(1 - u) of the Rosenblatt transform, each ``(..., d)``, both tails accurate."""
        return self.rosenblatt_terms(z)[1:]

    def rosenblatt_terms(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`log_prob` ``(...)`` and both `rosenblatt_tails` ``(..., d)`` in one pass over the coordinates."""
        log_u, log1m_u, _, log_density, *_ = chain(self, z)
        log_prob = (self.log_weights + log_density.sum(-1)).logsumexp(-1)
        lower = log_u < log1m_u
        # the larger one from the smaller: computed as a sum, its logarithm near 0 would be mostly rounding error
        small = torch.where(lower, log_u, log1m_u)
        large = log1mexp(small)
        return log_prob, torch.where(lower, small, large), torch.where(lower, large, small)

    def inverse_rosenblatt(self, u: Tensor) -> Tensor:
        """The z whose Rosenblatt transform is ``u``, ``(..., d)`` in (0, 1); implicit gradients to u and every parameter.

        Raises:
            ValueError: a wrong last dimension or values outside (0, 1), when arguments are checked.
        """
        if self.checked:
            self._check_value(u, "u")
            if not bool(((u > 0) & (u < 1)).all()):
                raise ValueError(f"inverse_rosenblatt: u must lie in (0, 1), got {float(u.min())} to {float(u.max())}; pass the log tails")
        return self.inverse_rosenblatt_tails(u.log(), torch.log1p(-u))

    def inverse_rosenblatt_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tensor:
        """`inverse_rosenblatt` of log u and log(1 - u): one coordinate after another, each with a fixed number of root-finding steps."""
        with torch.no_grad():
            z = invert(self, log_u, log1m_u)
        return implicit_reparameterise(self, z, log_u, log1m_u)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws ``(*sample_shape, *batch, d)``: a component, then its Gaussian; gradients reach means, scales and weights.

        The gradient is that of the inverse Rosenblatt transform at the draw, with its uniforms held fixed; it does not depend on how
        the draw was made.
        """
        with torch.no_grad():
            shape = torch.Size(sample_shape) + self.batch_shape
            labels = draw_labels(self.log_weights.expand(*self.batch_shape, -1), torch.Size(sample_shape).numel())
            noise = torch.randn(*shape, *self.event_shape, dtype=self.scale.dtype, device=self.scale.device)
            z = self.from_component(noise, labels.view(shape))
        return implicit_reparameterise(self, z)

    def from_component(self, x: Tensor, labels: Tensor) -> Tensor:
        r""":math:`\mu_k + \sigma_k x` of the labelled component: x ``(..., d)`` and labels ``(...)`` -> ``(..., d)``."""
        index = labels[..., None, None].expand(*labels.shape, 1, *self.event_shape)

        def pick(parameter: Tensor) -> Tensor:
            return parameter.expand(*labels.shape, *parameter.shape[-2:]).gather(-2, index).squeeze(-2)

        return pick(self.mean) + pick(self.scale) * x

    def standardise(self, z: Tensor) -> Tensor:
        r""":math:`(z_j - \mu_{kj}) / \sigma_{kj}`: ``(..., d)`` -> ``(..., K, d)``."""
        if self.checked:
            self._check_value(z, "z")
        return (z[..., None, :] - self.mean) / self.scale

    def _log_normal(self, x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1) - self.scale.log().sum(-1) - x.shape[-1] * _LOG_SQRT_TAU

    def _gamma_tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return log_gamma_tails(x.shape[-1], -log_ndtr(x).sum(-1))

    def _check_parameters(self) -> None:
        if not bool((self.scale > 0).all()):
            raise ValueError(f"Gaussian mixture: scale must be positive, got {float(self.scale.min())}")
        total = self.log_weights.logsumexp(-1)
        if not bool((total.abs() < 1e-3).all()):
            raise ValueError("Gaussian mixture: log_weights must be logarithms of weights that sum to 1; pass them through log_softmax")

    def _check_value(self, z: Tensor, name: str) -> None:
        if z.shape[-1:] != self.event_shape:
            raise ValueError(f"{name}: expected shape (..., {self.event_shape[0]}), got {tuple(z.shape)}")
        if bool(z.isnan().any()):
            raise ValueError(f"{name}: holds NaN; leave the stays that lack the modality out")


def draw_labels(logits: Tensor, draws: int) -> Tensor:
    """Categorical draws ``(draws, ...)`` from unnormalised log probabilities ``(..., K)``, by inversion of the distribution function.

    Unlike `torch.multinomial`, it never waits for the device.
    """
    cumulated = logits.detach().double().softmax(-1).cumsum(-1)
    rows = cumulated.reshape(-1, cumulated.shape[-1])
    uniform = torch.rand(rows.shape[0], draws, dtype=rows.dtype, device=rows.device) * rows[:, -1:]
    # clamped: a uniform rounded up to the total would give a label K
    labels = torch.searchsorted(rows, uniform, right=True).clamp_(max=rows.shape[-1] - 1)
    return labels.T.reshape(draws, *logits.shape[:-1])
