r"""The distribution of a Gaussian mixture: densities, uniforms, draws.

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
from torch import Tensor
from torch.distributions import Distribution, constraints

from cm2.errors import InputError
from cm2.marginals.rosenblatt import chain, implicit_reparameterise, invert
from cm2.numerics.elementary import log1mexp
from cm2.numerics.gamma import log_gamma_tails
from cm2.numerics.normal import log_ndtr

_LOG_SQRT_TAU = 0.5 * math.log(2 * math.pi)


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
            raise InputError(
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

    def component_scores(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """`component_log_prob` ``(..., K)`` and the standardised embedding of each component, N(0, I) given it, ``(..., K, d)``."""
        x = self.standardise(z)
        return self._log_normal(x), x

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
        """Joint distribution function F(z), ``(..., d)`` -> ``(...)``; for d > 1 F(Z) is not uniform (of order e^-d if K = 1)."""
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
                raise InputError(f"inverse_rosenblatt: u must lie in (0, 1), got {float(u.min())} to {float(u.max())}; pass the log tails")
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
            raise InputError('the joint distribution function has no closed form with full covariances; use covariance="diagonal"')

    def _check_parameters(self) -> None:
        if not bool((self.scale > 0).all()):
            raise InputError(f"Gaussian mixture: scale must be positive, got {float(self.scale.min())}")
        total = self.log_weights.logsumexp(-1)
        if not bool((total.abs() < 1e-3).all()):
            raise InputError("Gaussian mixture: log_weights must be logarithms of weights that sum to 1; pass them through log_softmax")

    def _check_value(self, z: Tensor, name: str) -> None:
        if z.shape[-1:] != self.event_shape:
            raise InputError(f"{name}: expected shape (..., {self.event_shape[0]}), got {tuple(z.shape)}")
        if bool(z.isnan().any()):
            raise InputError(f"{name}: holds NaN; leave the stays that lack the modality out")


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
