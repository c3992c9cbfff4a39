r"""The independence copula, :math:`C(u) = \prod_j u_j`."""

from collections.abc import Sequence

import torch
from torch import Size, Tensor

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.module import Copula
from cm2.copulas.tails import Tails, open_unit_interval, uniform_tails


class IndependenceDistribution(CopulaDistribution):
    r""":math:`C(u) = \prod_j u_j`, density 1 (Nelsen 2006, section 2.2). Kendall's τ and both tail coefficients are 0.

    Args:
        dim: number of coordinates (1: the uniform distribution).
        like: a tensor with the dtype and device of the draws.
        batch_shape: batch shape of the distribution.
        validate_args: see `CopulaDistribution`.
    """

    def __init__(self, dim: int, like: Tensor | None = None, batch_shape: Size | None = None, validate_args: bool | None = None) -> None:
        self.like = torch.zeros(()) if like is None else like.detach()
        super().__init__(dim, batch_shape or Size(), validate_args)

    @property
    def kendall_tau(self) -> Tensor:
        """0, shape of the batch."""
        return self.like.new_zeros(self.batch_shape)

    @property
    def spearman_rho(self) -> Tensor:
        """0, shape of the batch."""
        return self.kendall_tau

    @property
    def tail_dependence(self) -> tuple[Tensor, Tensor]:
        """(0, 0)."""
        return self.kendall_tau, self.kendall_tau

    def marginalise(self, present: Tensor) -> CopulaDistribution:
        """The independence copula of the coordinates in `present`, a bool mask (dim,)."""
        return IndependenceDistribution(len(self._check_subset(present)), self.like, self.batch_shape, self._validate_args)

    def _draw(self, sample_shape: Size) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return open_unit_interval(torch.rand(shape, dtype=self.like.dtype, device=self.like.device))

    def _like(self) -> Tensor:
        return self.like

    def _batched(self, batch_shape: Size) -> CopulaDistribution:
        return IndependenceDistribution(self.dim, self.like, batch_shape, self._validate_args)

    def _log_margin_at(self, u: Tensor, mask: Tensor | None) -> Tensor:
        return self._log_density(torch.log(u), None, mask)

    def _log_density(self, log_u: Tensor, log1m_u: Tensor | None, mask: Tensor | None) -> Tensor:
        # a zero that is part of the graph: a loss of this density alone can then be differentiated
        zero = torch.where(torch.ones_like(log_u, dtype=torch.bool), 0.0, log_u).sum(-1)
        return zero.expand(torch.broadcast_shapes(zero.shape, self.batch_shape))

    def _cdf(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor) -> Tensor:
        return torch.exp(torch.where(mask, log_u, 0.0).sum(-1)).expand(torch.broadcast_shapes(log_u.shape[:-1], self.batch_shape))

    def _tensors(self) -> tuple[Tensor, ...]:
        return ()

    def _rebuild(self, tensors: Sequence[Tensor]) -> CopulaDistribution:
        return self

    def _h_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        return log_u[..., 0], log1m_u[..., 0]

    def rosenblatt_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        """The point itself."""
        return log_u, log1m_u

    def _h_quantile(self, p: Tails, given: Tails) -> Tails:
        return p

    def conditional_mean_scores(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """0, exactly."""
        return torch.where(present, x, 0.0), torch.zeros_like(x)

    def _conditional_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor) -> Tails:
        return uniform_tails(log_u.shape, log_u)


class Independence(Copula):
    """The independence copula: nothing to learn."""

    name = "independence"
    contains = ()
    like: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.register_buffer("like", torch.zeros(()), persistent=False)

    @staticmethod
    def kendall_tau_range(dim: int) -> tuple[float, float]:
        """(0, 0)."""
        return 0.0, 0.0

    def forward(self, validate_args: bool | None = None) -> CopulaDistribution:
        """The independence copula as a distribution."""
        return IndependenceDistribution(self.dim, self.like, validate_args=validate_args)
