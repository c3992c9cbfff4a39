r"""Gaussian mixtures: the marginal distribution of one modality's embedding.

.. math:: f(z) = \sum_k \pi_k N(z; \mu_k, \Sigma_k), \qquad \Sigma_k = L_k L_k^\top

The covariances are diagonal, or full with Cholesky factors L. Given component k, :math:`x_k = L_k^{-1}(z - \mu_k)` is :math:`N(0, I)`.

A distribution of vectors has no univariate distribution function to pass to a copula. The Rosenblatt transform, the chain of
conditional distribution functions, replaces it: it maps the embedding to independent uniforms, and its Jacobian determinant is f.

References:
    Rosenblatt (1952), Remarks on a multivariate transformation, Annals of Mathematical Statistics 23
    Figurnov, Mohamed, Mnih (2018), Implicit reparameterization gradients, NeurIPS
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.covariance import ledoit_wolf
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Estimator
from torch import Tensor, nn
from torch.distributions import Distribution, constraints
from torch.nn import functional as F

from cm2.marginals.rosenblatt import chain, implicit_reparameterise, invert
from cm2.numerics.elementary import log1mexp, log_expm1
from cm2.numerics.gamma import log_gamma_tails
from cm2.numerics.normal import log_ndtr

COVARIANCES = ("diagonal", "full")
_LOG_SQRT_TAU = 0.5 * math.log(2 * math.pi)


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
            raise ValueError(f"GaussianMixture: expected components >= 1 and dim >= 1, got {components} and {dim}")
        if not minimum_scale > 0:
            raise ValueError(f"GaussianMixture: minimum_scale must be positive, got {minimum_scale}; leave it out for 1e-3")
        if covariance not in COVARIANCES:
            raise ValueError(f"GaussianMixture: unknown covariance {covariance!r}; choose {' or '.join(COVARIANCES)}")
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
            raise ValueError(f"from_parameters: expected weights (K,), mean (K, d) and scale (K, d) or (K, d, d), got {shapes}")
        if not bool((weights > 0).all()) or abs(float(weights.sum()) - 1) > 1e-4:
            raise ValueError(f"from_parameters: weights must be positive and sum to 1, got {weights.tolist()}")
        diagonal = scale.diagonal(dim1=-2, dim2=-1) if full else scale
        if not bool((diagonal > minimum_scale).all()):
            smallest = float(diagonal.min())
            raise ValueError(f"from_parameters: scale {smallest} is not above minimum_scale {minimum_scale}; lower the floor")
        mixture = cls(*mean.shape, minimum_scale=minimum_scale, covariance="full" if full else "diagonal").to(mean)
        mixture._set(weights, mean, scale)
        return mixture

    def initialise(self, z: Tensor, seed: int = 0) -> None:
        """Sets means, covariances and weights from k-means++ and Lloyd's iterations on a first batch, which makes them differ.

        Each cluster's variances are shrunk by one pseudo-observation with the variances of the whole batch; full covariances also towards
        a multiple of the identity, by Ledoit and Wolf (2004).

        Args:
            z: ``(n, d)`` embeddings, n >= K, on any device.
            seed: random seed of k-means++.

        Raises:
            ValueError: a wrong shape, values that are not finite, or fewer distinct rows than components.
        """
        points = self._points(z, "initialise")
        labels = torch.from_numpy(KMeans(self.components, n_init=4, random_state=seed).fit(points.numpy()).labels_).long()
        member = F.one_hot(labels, self.components).to(points)
        count = member.sum(0)
        mean = member.T @ points / count[:, None]
        residuals, total = points - mean[labels], points.var(0, correction=0)
        if self.covariance == "full":
            each = [_pooled(residuals[labels == k], total) for k in range(self.components)]
            return self._set(count / count.sum(), mean, self._factor(torch.stack(each)))
        within = member.T @ residuals.square() + total
        # twice the floor: at the floor itself the raw scale is minus infinity
        scale = (within / (count[:, None] + 1)).sqrt().clamp(min=2 * self.minimum_scale)
        return self._set(count / count.sum(), mean, scale)

    def fit(self, z: Tensor, *, shrinkage: float = 0.02, iterations: int = 100) -> None:
        r"""Maximum likelihood by expectation and maximisation, from the current parameters.

        Full covariances become :math:`(1 - s) \Sigma_k + s \operatorname{diag} \Sigma_k` at the end: an estimate from about as many
        embeddings as coordinates is near a singular one.

        Args:
            z: ``(n, d)`` embeddings, on any device.
            shrinkage: s in [0, 1], for full covariances.
            iterations: at most this many steps; fewer once the log-likelihood per embedding gains less than 1e-3.

        Raises:
            ValueError: a wrong shape, values that are not finite, fewer distinct rows than components, a constant coordinate, or a
                component that has collapsed onto a single embedding.
        """
        if not 0 <= shrinkage <= 1:
            raise ValueError(f"fit: shrinkage must lie in [0, 1], got {shrinkage}")
        points = self._points(z, "fit")
        if constant := (points.std(0, correction=0) == 0).nonzero().flatten().tolist():
            raise ValueError(
                f"fit: coordinate {constant[0]} of the embeddings is constant, so a covariance degenerates; normalise by batch"
            )
        found = _expectation_maximisation(self, points.numpy(), iterations)
        weights, mean, covariance = (torch.from_numpy(x) for x in (found.weights_, found.means_, found.covariances_))
        if bool((small := weights * len(points) < 2).any()):
            k = int(small.nonzero()[0])
            raise ValueError(
                f"fit: component {k} has collapsed onto a single embedding ({float(weights[k] * len(points)):.2g} of {len(points)}); "
                "use fewer components or a larger minimum_scale"
            )
        if self.covariance == "full":
            return self._set(weights, mean, torch.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * _only_diagonal(covariance)))
        return self._set(weights, mean, covariance.sqrt())

    def _points(self, z: Tensor, caller: str) -> Tensor:
        """Embeddings as ``(n, d)`` float64 on the CPU, checked."""
        points = z.detach().double().cpu()
        if points.ndim != 2 or points.shape[1] != self.dim:
            raise ValueError(f"{caller}: expected embeddings (n, {self.dim}), got {tuple(points.shape)}")
        if not bool(points.isfinite().all()):
            raise ValueError(f"{caller}: an embedding is not finite; pass only rows of stays that have the modality")
        distinct = len(points.unique(dim=0))
        if distinct < self.components:
            raise ValueError(f"{caller}: {distinct} distinct embeddings for {self.components} components; pass a larger first batch")
        return points

    def _factor(self, covariance: Tensor) -> Tensor:
        """Cholesky factors ``(K, d, d)``, their diagonals above the floor."""
        floor = (2 * self.minimum_scale) ** 2 * torch.eye(self.dim, dtype=covariance.dtype)
        return torch.linalg.cholesky(covariance + floor)

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


class GaussianMixtureDistribution(Distribution):
    r"""The distribution :math:`\sum_k \pi_k N(\mu_k, \Sigma_k)`, or a batch of such distributions.

    Args:
        log_weights: ``(*batch, K)``, logarithms of the weights, normalised.
        mean: ``(*batch, K, d)`` or ``(K, d)``.
        scale: standard deviations, the shape of ``mean``, or Cholesky factors of the covariances, ``(*batch, K, d, d)`` or ``(K, d, d)``.
        validate_args: check the parameters and every argument (the default of torch); off, nothing waits for a device.

    Raises:
        ValueError: parameters whose shapes disagree, weights that do not sum to 1, a scale that is not positive.
    """

    arg_constraints: ClassVar[dict] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, log_weights: Tensor, mean: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        full = scale.ndim == mean.ndim + 1
        self.log_weights, self._mean, self.scale_tril = log_weights, mean, scale if full else None
        self.scale = scale.diagonal(dim1=-2, dim2=-1) if full else scale
        self.checked = Distribution._validate_args if validate_args is None else validate_args
        if log_weights.shape[-1:] != mean.shape[-2:-1] or self.scale.shape != mean.shape:
            shapes = [tuple(x.shape) for x in (log_weights, mean, scale)]
            raise ValueError(
                f"Gaussian mixture: expected log_weights (..., K), mean (..., K, d), scale (..., K, d) or (..., K, d, d), got {shapes}"
            )
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
        r""":math:`\log N(z; \mu_k, \Sigma_k)`: ``(..., d)`` -> ``(..., K)``."""
        return self._log_normal(self.standardise(z))

    def component_tails(self, z: Tensor) -> tuple[Tensor, Tensor]:
        r"""log of :math:`v_k` and of :math:`1 - v_k`, uniform if z comes from component k: ``(..., d)`` -> two ``(..., K)``.

        :math:`v_k = Q(d, T_k)` with :math:`T_k = -\sum_j \log \Phi(x_{kj})`, the distribution function, and not the value, of the
        paper's :math:`\prod_j \Phi`.
        """
        return self._gamma_tails(self.standardise(z))

    def component_terms(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`component_log_prob` and both `component_tails` in one pass over the coordinates, three ``(..., K)``."""
        x = self.standardise(z)
        return self._log_normal(x), *self._gamma_tails(x)

    def log_cdf(self, z: Tensor) -> Tensor:
        r"""log of :math:`F(z) = \Pr(Z \le z) = \sum_k \pi_k \prod_j \Phi((z_j - \mu_{kj}) / \sigma_{kj})`, as the paper prints it."""
        self._refuse_full()
        return (self.log_weights + log_ndtr(self.standardise(z)).sum(-1)).logsumexp(-1)

    def cdf_terms(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`log_prob`, `log_cdf` and log of 1 - F in one pass over the coordinates, three ``(...)``: neither tail of F is lost."""
        self._refuse_full()
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
        r""":math:`\mu_k + L_k x` of the labelled component: x ``(..., d)`` and labels ``(...)`` -> ``(..., d)``."""
        index = labels[..., None, None].expand(*labels.shape, 1, *self.event_shape)

        def pick(values: Tensor) -> Tensor:
            return values.expand(*labels.shape, *values.shape[-2:]).gather(-2, index).squeeze(-2)

        if self.scale_tril is None:
            return pick(self.mean) + pick(self.scale) * x
        # every component's product, of which one is kept: a factor for each point would take d times the memory
        return pick(self.mean + (self.scale_tril @ x[..., None, :, None]).squeeze(-1))

    def standardise(self, z: Tensor) -> Tensor:
        r""":math:`x_k = L_k^{-1}(z - \mu_k)`, N(0, I) given component k: ``(..., d)`` -> ``(..., K, d)``."""
        if self.checked:
            self._check_value(z, "z")
        centred = z[..., None, :] - self.mean
        return centred / self.scale if self.scale_tril is None else _solve(self.scale_tril, centred)

    def _log_normal(self, x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1) - self.scale.log().sum(-1) - x.shape[-1] * _LOG_SQRT_TAU

    def _gamma_tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return log_gamma_tails(x.shape[-1], -log_ndtr(x).sum(-1))

    def _refuse_full(self) -> None:
        if self.scale_tril is not None:
            raise ValueError('the joint distribution function has no closed form with full covariances; use covariance="diagonal"')

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


def _solve(factor: Tensor, vectors: Tensor) -> Tensor:
    """L^-1 v: factors ``(*batch, d, d)`` and vectors ``(..., *batch, d)`` -> ``(..., *batch, d)``, one solve for each factor."""
    shape, batch = vectors.shape, factor.ndim - 2
    columns = vectors.reshape(-1, *shape[vectors.ndim - batch - 1 :]).movedim(0, -1)
    return torch.linalg.solve_triangular(factor, columns, upper=False).movedim(-1, 0).reshape(shape)


def _pooled(residuals: Tensor, total: Tensor) -> Tensor:
    """Covariance of a cluster's residuals ``(n, d)``, shrunk, and by one pseudo-observation with the variances `total` ``(d,)``."""
    covariance, _ = ledoit_wolf(residuals.numpy(), assume_centered=True)
    return (len(residuals) * torch.from_numpy(covariance) + torch.diag(total)) / (len(residuals) + 1)


def _only_diagonal(matrix: Tensor) -> Tensor:
    return torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1))


@torch.no_grad()
def _expectation_maximisation(mixture: GaussianMixture, points: np.ndarray, iterations: int) -> Estimator:
    """scikit-learn's mixture fitted from the parameters of ours; its warning that the steps were used up says nothing new here."""
    law, full = mixture(validate_args=False), mixture.covariance == "full"
    start = {"weights_init": law.log_weights.exp(), "means_init": law.mean}
    start = {name: value.double().cpu().numpy() for name, value in start.items()}
    start["weights_init"] /= start["weights_init"].sum()
    if law.scale_tril is None:
        precisions = law.scale.double().cpu().square().reciprocal().numpy()
    else:
        precisions = torch.cholesky_inverse(law.scale_tril.double().cpu()).numpy()
    floor = (2 * mixture.minimum_scale) ** 2
    estimator = Estimator(
        mixture.components,
        covariance_type="full" if full else "diag",
        reg_covar=floor,
        max_iter=iterations,
        precisions_init=precisions,
        **start,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(points)
