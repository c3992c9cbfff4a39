r"""Base classes of the elliptical copulas: unconstrained correlation matrices and algebra of their Cholesky factors."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Size, Tensor, nn
from torch.distributions import constraints

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.law_dependence import check_tau
from cm2.copulas.module import Copula, parameter
from cm2.copulas.parameters import require_tensors
from cm2.errors import InputError


class EllipticalDistribution(CopulaDistribution):
    r"""The copula of a vector with an elliptical distribution and correlation matrix :math:`R = LL^\top`.

    Kendall's τ of a pair is :math:`\frac2\pi\arcsin\rho` for every elliptical distribution without an atom (Lindskog et al. 2003).

    Args:
        cholesky: lower triangular, positive diagonal, rows of norm 1, (*batch, dim, dim).
        batch_shape: batch shape of the distribution; by default that of the factor.
        validate_args: see `CopulaDistribution`.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"cholesky": constraints.corr_cholesky}

    def __init__(self, cholesky: Tensor, batch_shape: Size | None = None, validate_args: bool | None = None) -> None:
        require_tensors(type(self).__name__, cholesky=cholesky)
        self.cholesky = cholesky
        super().__init__(cholesky.shape[-1], cholesky.shape[:-2] if batch_shape is None else batch_shape, validate_args)

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

    def cdf_with_error(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """`cdf` and its standard error, each (...): from :mod:`cm2.numerics.orthants`; 0 in two dimensions.

        Raises:
            ValueError: as `cdf`.
        """
        if self._validate_args:
            self._touches_boundary(u, None)
        inner, zero = u < 1, (u <= 0).any(-1)
        safe = torch.where((u > 0) & inner, u, 0.5)
        value, error = self._cdf_and_error(torch.log(safe), torch.log1p(-safe), inner)
        return torch.where(zero, 0.0, value), torch.where(zero, 0.0, error)

    def _cdf(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor) -> Tensor:
        return self._cdf_and_error(log_u, log1m_u, mask)[0]

    @abstractmethod
    def _cdf_and_error(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """CDF of the margin over `mask`, which may be empty, and its standard error."""

    def _like(self) -> Tensor:
        return self.cholesky

    def _sub_cholesky(self, kept: list[int]) -> Tensor:
        """Factor of the margin over the coordinates `kept`."""
        # unlike cholesky, cholesky_ex does not wait for the device to check for errors
        return torch.linalg.cholesky_ex(self.correlation[..., kept, :][..., kept]).L

    def _masked_cholesky(self, mask: Tensor) -> Tensor:
        """One factor per point, in which the coordinates outside the mask are independent of all others."""
        identity = torch.eye(self.dim, dtype=torch.bool, device=mask.device)
        both = (mask.unsqueeze(-1) & mask.unsqueeze(-2)) | identity
        return torch.linalg.cholesky_ex(torch.where(both, self.correlation, 0.0)).L


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Matrix times vector, (..., dim): a single product if all points share the matrix."""
    return vector @ matrix.mT if matrix.dim() == 2 else (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def solve_lower(factor: Tensor, z: Tensor) -> Tensor:
    """L^-1 z by forward substitution, (..., dim); a loop over the few coordinates is cheaper than a small solve per point."""
    white: list[Tensor] = []
    for i, column in enumerate(z.unbind(-1)):
        row = factor[..., i, :]
        rest = column - sum((row[..., j] * white[j] for j in range(i)), start=torch.zeros_like(column))
        white.append(rest / row[..., i])
    return torch.stack(white, -1)


_LARGEST = 1e3
"""Largest raw correlation in a fit; in two dimensions 1 - ρ is then 5e-7."""


class EllipticalCopula(Copula):
    r"""A copula with a learnable correlation matrix. Row i of the Cholesky factor is :math:`(a_{i1}, \ldots, a_{i,i-1}, 1)` divided by its
    norm, with real :math:`a_{ij}`: each such matrix is a correlation matrix, and every positive definite one is obtained exactly once.

    Args:
        dim: number of coordinates.
        rho: correlation in (-1, 1), dim 2 only; may have batch dimensions.
        correlation: positive definite correlation matrix (*batch, dim, dim); by default every correlation starts at 0.1.

    Raises:
        ValueError: rho outside (-1, 1) or for another dim than 2, a matrix that is not a correlation matrix, or both arguments.
    """

    limits: ClassVar[Mapping[str, tuple[float, float]]] = {"raw": (-_LARGEST, _LARGEST)}

    def __init__(self, dim: int, rho: float | Tensor | None = None, correlation: Tensor | None = None) -> None:
        super().__init__(dim)
        if rho is not None and (correlation is not None or dim != 2):
            raise InputError(f"rho is for dim 2 and excludes correlation; for dim {dim} give correlation, a matrix ({dim}, {dim})")
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
    def from_kendall_tau(tau: float | Tensor, dim: int) -> dict[str, Tensor]:
        """ρ = sin(πτ/2) for the pair, or for a matrix (*batch, dim, dim) of taus if dim is above 2 (a scalar: the same for all pairs).

        Raises:
            ValueError: tau outside (-1, 1).
        """
        if dim == 2:
            return {"rho": torch.sin(torch.pi / 2 * check_tau(tau, "gaussian or student", -1.0))}
        one = torch.eye(dim, dtype=torch.bool, device=tau.device if isinstance(tau, Tensor) else None)
        inside = check_tau(torch.where(one, 0.0, torch.as_tensor(tau)), "gaussian or student", -1.0)
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


def _correlation(value: Tensor, dim: int) -> Tensor:
    """A correlation matrix as a floating tensor, after its checks."""
    matrix = torch.as_tensor(value)
    matrix = matrix.detach() if matrix.is_floating_point() else matrix.to(torch.get_default_dtype())
    if matrix.shape[-2:] != (dim, dim):
        raise InputError(f"correlation has shape {tuple(matrix.shape)}; give a matrix ({dim}, {dim})")
    tolerance = 1e-5 if matrix.dtype == torch.float32 else 1e-10
    unit = (matrix.diagonal(dim1=-2, dim2=-1) - 1).abs().max() <= tolerance
    if not (unit and (matrix - matrix.mT).abs().max() <= tolerance):
        raise InputError("correlation must be symmetric with a unit diagonal, and free of NaN; divide by the standard deviations first")
    least = torch.linalg.eigvalsh(matrix).min().item()
    if least <= 0 or torch.linalg.cholesky_ex(matrix).info.any():
        raise InputError(
            f"correlation is not positive definite, its smallest eigenvalue is {least:.3g}; drop a coordinate that the others determine, "
            "or shrink the matrix towards the identity"
        )
    return matrix
