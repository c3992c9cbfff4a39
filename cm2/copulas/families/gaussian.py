r"""The Gaussian copula."""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Size, Tensor

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.families.elliptical import EllipticalCopula, EllipticalDistribution, solve_lower, times
from cm2.copulas.families.independence import IndependenceDistribution
from cm2.copulas.tails import Tails, open_unit_interval, to_unit_interval
from cm2.numerics.bivariate_normal import bivariate_normal_cdf
from cm2.numerics.normal import normal_cdf, normal_quantile, normal_quantile_at, normal_tails
from cm2.numerics.orthants import multivariate_normal_cdf


class GaussianDistribution(EllipticalDistribution):
    r""":math:`C(u) = \Phi_R(\Phi^{-1}(u_1), \ldots, \Phi^{-1}(u_d))` with correlation matrix :math:`R = LL^\top`.

    With :math:`z_j = \Phi^{-1}(u_j)`,

    .. math:: \log c(u) = -\sum_i \log L_{ii} - \tfrac12\left(\lVert L^{-1}z\rVert^2 - \lVert z\rVert^2\right).

    In two dimensions :math:`L_{21} = \rho` and :math:`L_{22} = \sqrt{(1-\rho)(1+\rho)}`, and the exponent is
    :math:`-\frac12\{((z_2 - \rho z_1)/L_{22})^2 - z_2^2\}`, without a matrix inverse. The margin over the observed coordinates, with mask
    :math:`m`, is the same formula with :math:`R \circ mm^\top + \mathrm{diag}(1-m)` and :math:`z \circ m`. Kendall's τ is
    :math:`\frac2\pi\arcsin\rho`, both tail coefficients are 0 (Joe 2014, section 4.3). Conditional draws use Matheron's rule,
    :math:`x + R_{\cdot O}R_{OO}^{-1}(z_O - x_O)` with :math:`x \sim N(0, R)`.

    Args:
        cholesky: lower triangular, positive diagonal, rows of norm 1, (*batch, dim, dim).
        validate_args: see `CopulaDistribution`.
    """

    def __init__(self, cholesky: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(cholesky, None, validate_args)

    @property
    def spearman_rho(self) -> Tensor:
        """6/π arcsin(ρ/2): (*batch) in two dimensions, (*batch, dim, dim) in more."""
        return 6 / torch.pi * torch.asin((self.cholesky[..., 1, 0] if self.dim == 2 else self.correlation) / 2)

    @property
    def tail_dependence(self) -> tuple[Tensor, Tensor]:
        """(0, 0): asymptotically independent for every |ρ| < 1."""
        zero = self.cholesky.new_zeros(self.batch_shape)
        return zero, zero

    def marginalise(self, present: Tensor) -> CopulaDistribution:
        """The Gaussian copula of the coordinates in `present`, a bool mask (dim,)."""
        kept = self._check_subset(present)
        if len(kept) == 1:
            return IndependenceDistribution(1, self.cholesky, self.batch_shape, self._validate_args)
        return GaussianDistribution(self._sub_cholesky(kept), self._validate_args)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws Φ(Lε), (*sample_shape, *batch, dim), differentiable in the correlations."""
        noise = torch.randn(self._extended_shape(Size(sample_shape)), dtype=self.cholesky.dtype, device=self.cholesky.device)
        return to_unit_interval(*normal_tails(times(self.cholesky, noise)))

    def _draw(self, sample_shape: Size) -> Tensor:
        noise = torch.randn(self._extended_shape(sample_shape), dtype=self.cholesky.dtype, device=self.cholesky.device)
        return open_unit_interval(normal_cdf(times(self.cholesky, noise)))

    def _tensors(self) -> tuple[Tensor, ...]:
        return (self.cholesky,)

    def _rebuild(self, tensors: Sequence[Tensor]) -> CopulaDistribution:
        return GaussianDistribution(tensors[0], self._validate_args)

    def _likelihood(self, u: Tensor) -> Callable[[Self], Tensor]:
        r"""The second moments S of the normal scores are sufficient: :math:`-\frac n2\{\log|R| + \mathrm{tr}((R^{-1} - I)S)\}`."""
        z = normal_quantile_at(u)
        moments, n = z.mT @ z, len(u)

        def total(law: Self) -> Tensor:
            factor = law.cholesky
            white = torch.linalg.solve_triangular(factor, moments, upper=False)
            inner = torch.linalg.solve_triangular(factor, white.mT, upper=False)
            return (moments.trace() - inner.trace()) / 2 - n * torch.log(factor.diagonal()).sum()

        return total

    def _log_density(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor | None) -> Tensor:
        return self._log_score_density(normal_quantile(log_u, log1m_u), mask)

    def _log_density_at(self, u: Tensor) -> Tensor:
        return self._log_score_density(normal_quantile_at(u), None)

    def _log_score_density(self, z: Tensor, mask: Tensor | None) -> Tensor:
        """Log density from the normal scores z of the coordinates."""
        if self.dim == 2:
            first, second = z.unbind(-1)
            rho, scale = self.cholesky[..., 1, 0], self.cholesky[..., 1, 1]
            residual = (second - rho * first) / scale
            return (second * second - residual * residual) * 0.5 - torch.log(scale)
        factor = self.cholesky if mask is None else self._masked_cholesky(mask)
        z = z if mask is None else torch.where(mask, z, 0.0)
        white = solve_lower(factor, z)
        return (z.square().sum(-1) - white.square().sum(-1)) / 2 - torch.log(factor.diagonal(dim1=-2, dim2=-1)).sum(-1)

    def _cdf_and_error(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        z = normal_quantile(log_u, log1m_u)
        if self.dim > 2:
            return multivariate_normal_cdf(torch.where(mask, z, torch.inf), self.cholesky)
        u, v = torch.where(mask, torch.exp(log_u), 1.0).unbind(-1)
        first, second = z.unbind(-1)
        pair = bivariate_normal_cdf(first, second, self.cholesky[..., 1, 0], self.cholesky[..., 1, 1])
        value = torch.where(mask.all(-1), pair, u * v)  # the CDF of a single coordinate is u itself; the other factor is 1
        return value, torch.zeros_like(value)

    def _h_at(self, u: Tensor) -> Tensor:
        first, second = normal_quantile_at(u).unbind(-1)
        return normal_cdf((first - self.cholesky[..., 1, 0] * second) / self.cholesky[..., 1, 1])

    def _h_inverse_at(self, pair: Tensor) -> Tensor:
        p, given = normal_quantile_at(pair).unbind(-1)
        return open_unit_interval(normal_cdf(self.cholesky[..., 1, 1] * p + self.cholesky[..., 1, 0] * given))

    def _h_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        first, second = normal_quantile(log_u, log1m_u).unbind(-1)
        return normal_tails((first - self.cholesky[..., 1, 0] * second) / self.cholesky[..., 1, 1])

    def rosenblatt_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        r"""Tails of :math:`\Phi(L^{-1}z)`."""
        return normal_tails(solve_lower(self.cholesky, normal_quantile(log_u, log1m_u)))

    def _h_quantile(self, p: Tails, given: Tails) -> Tails:
        rho, scale = self.cholesky[..., 1, 0], self.cholesky[..., 1, 1]
        return normal_tails(scale * normal_quantile(*p) + rho * normal_quantile(*given))

    def _conditional_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor) -> Tails:
        return normal_tails(self._drawn(normal_quantile(log_u, log1m_u), present))

    def log_prob_scores(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """`log_prob` from the normal scores, (..., dim); without a detour over the tails."""
        if present is None:
            return self._log_score_density(x, None)
        some, read, mask = self._asked(present)
        return torch.where(some, self._log_score_density(torch.where(read, x, 0.0), mask), 0.0)

    def conditional_sample_scores(self, x: Tensor, present: Tensor) -> Tensor:
        """One draw of the missing scores given the observed ones, (..., dim) -> (..., dim)."""
        x, present = self._with_batch(x, present)
        return torch.where(present, x, self._drawn(x, present))

    def conditional_mean_scores(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`R_{\cdot O} R_{OO}^{-1} x_O`, exactly; and zeros."""
        x, present = self._with_batch(x, present)
        return torch.where(present, x, self._regressed(torch.where(present, x, 0.0), present)), torch.zeros_like(x)

    def _with_batch(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Both with the parameters' batch dimensions."""
        shape = torch.broadcast_shapes(x.shape, present.shape, (*self.batch_shape, self.dim))
        return x.expand(shape), present.expand(shape)

    def _drawn(self, x: Tensor, present: Tensor) -> Tensor:
        """Matheron's rule."""
        noise = times(self.cholesky, torch.randn(x.shape, dtype=x.dtype, device=x.device))
        return noise + self._regressed(torch.where(present, x - noise, 0.0), present)

    def _regressed(self, given: Tensor, present: Tensor) -> Tensor:
        """R R_OO^-1 of observed scores, 0 elsewhere, (..., dim)."""
        weights = torch.cholesky_solve(given.unsqueeze(-1), self._masked_cholesky(present)).squeeze(-1)
        return times(self.correlation, weights)


class Gaussian(EllipticalCopula):
    """Learnable Gaussian copula; parameters and errors as `EllipticalCopula`."""

    name = "gaussian"

    def forward(self, validate_args: bool | None = None) -> CopulaDistribution:
        """The distribution at the current correlations."""
        return GaussianDistribution(self.cholesky, validate_args)
