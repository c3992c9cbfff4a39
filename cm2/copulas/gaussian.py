r"""The Gaussian copula."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Size, Tensor, nn

from cm2.copulas.base import Copula, CopulaDistribution, Tails, open_unit_interval, parameter, to_unit_interval
from cm2.copulas.dependence import check_tau
from cm2.copulas.independence import IndependenceDistribution
from cm2.copulas.normal_probability import bivariate_normal_cdf, multivariate_normal_cdf
from cm2.numerics.normal import normal_cdf, normal_quantile, normal_quantile_at, normal_tails


class GaussianDistribution(CopulaDistribution):
    r""":math:`C(u) = \Phi_R(\Phi^{-1}(u_1), \ldots, \Phi^{-1}(u_d))` with correlation matrix :math:`R = LL^\top`.

    With :math:`z_j = \Phi^{-1}(u_j)`,

    .. math:: \log c(u) = -\sum_i \log L_{ii} - \tfrac12\left(\lVert L^{-1}z\rVert^2 - \lVert z\rVert^2\right).

    In two dimensions :math:`L_{21} = \rho` and :math:`L_{22} = \sqrt{(1-\rho)(1+\rho)}`, and the exponent is
    :math:`-\frac12\{((z_2 - \rho z_1)/L_{22})^2 - z_2^2\}`: no inverse of a matrix. The margin over the present coordinates :math:`m` is
    the same law with :math:`R \circ mm^\top + \mathrm{diag}(1-m)` and :math:`z \circ m`. Kendall's τ is :math:`\frac2\pi\arcsin\rho`, both
    tail coefficients are 0 (Joe 2014, section 4.3). Conditional draws use Matheron's rule, :math:`x + R_{\cdot O}R_{OO}^{-1}(z_O - x_O)`
    with :math:`x \sim N(0, R)`.

    Args:
        cholesky: lower triangular, positive diagonal, rows of norm 1, (*batch, dim, dim).
        validate_args: see `CopulaDistribution`.
    """

    def __init__(self, cholesky: Tensor, validate_args: bool | None = None) -> None:
        self.cholesky = cholesky
        super().__init__(cholesky.shape[-1], cholesky.shape[:-2], validate_args)

    @property
    def correlation(self) -> Tensor:
        """The correlation matrix, (*batch, dim, dim)."""
        return self.cholesky @ self.cholesky.mT

    @property
    def kendall_tau(self) -> Tensor:
        """2/π arcsin ρ: (*batch) in two dimensions, (*batch, dim, dim) in more."""
        rho = self.cholesky[..., 1, 0] if self.dim == 2 else torch.tril(self.correlation, -1)
        tau = 2 / torch.pi * torch.asin(rho)
        return tau if self.dim == 2 else tau + tau.mT + torch.eye(self.dim, dtype=tau.dtype, device=tau.device)

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
        """The Gaussian copula of the present coordinates, `present` bool (dim,)."""
        kept = self._check_subset(present)
        if len(kept) == 1:
            return IndependenceDistribution(1, self.cholesky, self.batch_shape, self._validate_args)
        matrix = self.correlation[..., kept, :][..., kept]
        return GaussianDistribution(torch.linalg.cholesky_ex(matrix).L, self._validate_args)

    def sample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        """Draws, (*sample_shape, *batch, dim)."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        """Draws Φ(Lε), (*sample_shape, *batch, dim), differentiable in the correlations."""
        noise = torch.randn(self._extended_shape(Size(sample_shape)), dtype=self.cholesky.dtype, device=self.cholesky.device)
        return to_unit_interval(*normal_tails(_times(self.cholesky, noise)))

    def _like(self) -> Tensor:
        return self.cholesky

    def _tensors(self) -> tuple[Tensor, ...]:
        return (self.cholesky,)

    def _rebuild(self, tensors: Sequence[Tensor]) -> CopulaDistribution:
        return GaussianDistribution(tensors[0], self._validate_args)

    def _likelihood(self, u: Tensor) -> Callable[[CopulaDistribution], Tensor]:
        r"""The scores' second moments S are sufficient: :math:`-\frac n2\{\log|R| + \mathrm{tr}((R^{-1} - I)S)\}`."""
        z = normal_quantile_at(u)
        moments, n = z.mT @ z, len(u)

        def total(law: CopulaDistribution) -> Tensor:
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
        """Log density from the normal scores of the coordinates."""
        if self.dim == 2:
            first, second = z.unbind(-1)
            rho, scale = self.cholesky[..., 1, 0], self.cholesky[..., 1, 1]
            residual = (second - rho * first) / scale
            return (second * second - residual * residual) * 0.5 - torch.log(scale)
        factor = self.cholesky if mask is None else self._masked_cholesky(mask)
        z = z if mask is None else torch.where(mask, z, 0.0)
        white = _solve_lower(factor, z)
        return (z.square().sum(-1) - white.square().sum(-1)) / 2 - torch.log(factor.diagonal(dim1=-2, dim2=-1)).sum(-1)

    def _masked_cholesky(self, mask: Tensor) -> Tensor:
        identity = torch.eye(self.dim, dtype=torch.bool, device=mask.device)
        both = (mask.unsqueeze(-1) & mask.unsqueeze(-2)) | identity
        return torch.linalg.cholesky_ex(torch.where(both, self.correlation, 0.0)).L

    def _cdf(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor) -> Tensor:
        z = normal_quantile(log_u, log1m_u)
        if self.dim > 2:
            return multivariate_normal_cdf(torch.where(mask, z, torch.inf), self.cholesky)
        u, v = torch.where(mask, torch.exp(log_u), 1.0).unbind(-1)
        first, second = z.unbind(-1)
        pair = bivariate_normal_cdf(first, second, self.cholesky[..., 1, 0], self.cholesky[..., 1, 1])
        return torch.where(mask.all(-1), pair, u * v)

    def _h_at(self, u: Tensor) -> Tensor:
        first, second = normal_quantile_at(u).unbind(-1)
        return normal_cdf((first - self.cholesky[..., 1, 0] * second) / self.cholesky[..., 1, 1])

    def _h_inverse_at(self, pair: Tensor) -> Tensor:
        p, given = normal_quantile_at(pair).unbind(-1)
        return open_unit_interval(normal_cdf(self.cholesky[..., 1, 1] * p + self.cholesky[..., 1, 0] * given))

    def _h_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        first, second = normal_quantile(log_u, log1m_u).unbind(-1)
        return normal_tails((first - self.cholesky[..., 1, 0] * second) / self.cholesky[..., 1, 1])

    def _h_quantile(self, p: Tails, given: Tails) -> Tails:
        rho, scale = self.cholesky[..., 1, 0], self.cholesky[..., 1, 1]
        return normal_tails(scale * normal_quantile(*p) + rho * normal_quantile(*given))

    def _conditional_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor) -> Tails:
        noise = torch.randn(log_u.shape, dtype=log_u.dtype, device=log_u.device)
        x = _times(self.cholesky, noise)
        given = torch.where(present, normal_quantile(log_u, log1m_u) - x, 0.0)
        weights = torch.cholesky_solve(given.unsqueeze(-1), self._masked_cholesky(present))
        return normal_tails(x + _times(self.correlation, weights.squeeze(-1)))


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Matrix times vector, (..., dim): one product for all points where they share the matrix."""
    return vector @ matrix.mT if matrix.dim() == 2 else (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def _solve_lower(factor: Tensor, z: Tensor) -> Tensor:
    """L^-1 z by forward substitution, (..., dim); a loop over the few coordinates is cheaper than one small solve per point."""
    white: list[Tensor] = []
    for i, column in enumerate(z.unbind(-1)):
        row = factor[..., i, :]
        rest = column - sum((row[..., j] * white[j] for j in range(i)), start=torch.zeros_like(column))
        white.append(rest / row[..., i])
    return torch.stack(white, -1)


class Gaussian(Copula):
    r"""Learnable Gaussian copula. Row i of the Cholesky factor is :math:`(a_{i1}, \ldots, a_{i,i-1}, 1)` divided by its norm, the
    :math:`a_{ij}` real: every matrix so formed is a correlation matrix, and every positive definite one is reached exactly once.

    Args:
        dim: number of coordinates.
        rho: correlation in (-1, 1), dim 2 only; may carry batch dimensions.
        correlation: positive definite correlation matrix (*batch, dim, dim); without either every correlation starts at 0.1.

    Raises:
        ValueError: rho outside (-1, 1), a matrix that is no correlation matrix, or both or the wrong one given.
    """

    name: ClassVar[str] = "gaussian"

    def __init__(self, dim: int, rho: float | Tensor | None = None, correlation: Tensor | None = None) -> None:
        super().__init__(dim)
        if rho is not None and (correlation is not None or dim != 2):
            raise ValueError(f"rho is the parameter of dim 2 and stands alone; for dim {dim} give correlation, a matrix ({dim}, {dim})")
        if rho is not None:
            rho = parameter(rho, "rho", -1.0, 1.0, "(-1, 1)")
            raw = (rho / torch.sqrt((1 - rho) * (1 + rho))).unsqueeze(-1)
        else:
            matrix = 0.1 + 0.9 * torch.eye(dim) if correlation is None else _correlation(correlation, dim)
            factor = torch.linalg.cholesky(matrix)
            rows, columns = torch.tril_indices(dim, dim, -1)
            raw = factor[..., rows, columns] / factor.diagonal(dim1=-2, dim2=-1)[..., rows]
        self.raw = nn.Parameter(raw)
        self.shown = ("rho",) if dim == 2 else ("correlation",)

    @staticmethod
    def kendall_tau_range(dim: int) -> tuple[float, float]:
        """(-1, 1)."""
        return -1.0, 1.0

    @staticmethod
    def from_kendall_tau(tau: Tensor, dim: int) -> dict[str, Tensor]:
        """ρ = sin(πτ/2): of the pair, or of the matrix (*batch, dim, dim) of taus for dim above 2 (a scalar: the same for all pairs).

        Raises:
            ValueError: tau outside (-1, 1).
        """
        if dim == 2:
            return {"rho": torch.sin(torch.pi / 2 * check_tau(tau, "gaussian", -1.0))}
        one = torch.eye(dim, dtype=torch.bool, device=tau.device if isinstance(tau, Tensor) else None)
        inside = check_tau(torch.where(one, 0.0, torch.as_tensor(tau)), "gaussian", -1.0)
        return {"correlation": torch.where(one, 1.0, torch.sin(torch.pi / 2 * inside))}

    @property
    def cholesky(self) -> Tensor:
        """Cholesky factor of the correlation matrix, (*batch, dim, dim)."""
        one, zero = torch.ones_like(self.raw[..., :1]), torch.zeros_like(self.raw[..., :1])
        rows = []
        for i in range(self.dim):
            start = i * (i - 1) // 2
            row = torch.cat([self.raw[..., start : start + i], one, *([zero] * (self.dim - i - 1))], -1)
            rows.append(row / torch.linalg.vector_norm(row, dim=-1, keepdim=True))
        return torch.stack(rows, -2)

    @property
    def rho(self) -> Tensor:
        """The correlation of the pair (dim 2), shape of the batch."""
        if self.dim != 2:
            raise AttributeError(f"rho is defined for dim 2, this copula has dim {self.dim}; read correlation")
        return self.cholesky[..., 1, 0]

    @property
    def correlation(self) -> Tensor:
        """The correlation matrix, (*batch, dim, dim)."""
        return self.cholesky @ self.cholesky.mT

    def forward(self, validate_args: bool | None = None) -> CopulaDistribution:
        """The law at the current correlations."""
        return GaussianDistribution(self.cholesky, validate_args)


def _correlation(value: Tensor, dim: int) -> Tensor:
    matrix = torch.as_tensor(value)
    matrix = matrix.detach() if matrix.is_floating_point() else matrix.to(torch.get_default_dtype())
    if matrix.shape[-2:] != (dim, dim):
        raise ValueError(f"correlation has shape {tuple(matrix.shape)}; give a matrix ({dim}, {dim})")
    tolerance = 1e-5 if matrix.dtype == torch.float32 else 1e-10
    unit = (matrix.diagonal(dim1=-2, dim2=-1) - 1).abs().max() <= tolerance
    if not (unit and (matrix - matrix.mT).abs().max() <= tolerance and torch.linalg.eigvalsh(matrix).min() > 0):
        raise ValueError(
            "correlation must be symmetric and positive definite with a unit diagonal and entries in (-1, 1); rescale or repair it"
        )
    return matrix
