"""Margins of a vine that are not vines themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.tails import Tails
from cm2.numerics.elementary import LOG_HALF

_NO_H = "a pair of a vine that is connected through coordinates left out has no h; it has log_prob, cdf and conditional_sample"


class VineMargin(CopulaDistribution):
    """The copula of some coordinates of a vine, with the others integrated out (for errors see `VineDistribution`).

    Args:
        vine: the distribution of the whole vine.
        kept: coordinates of the margin, two or more, increasing.
        validate_args: see `CopulaDistribution`.
    """

    def __init__(self, vine: CopulaDistribution, kept: Sequence[int], validate_args: bool | None = None) -> None:
        self.vine, self.kept = vine, tuple(kept)
        super().__init__(len(self.kept), vine.batch_shape, validate_args)

    @property
    def kendall_tau(self) -> Tensor:
        """The submatrix of the whole vine's; a single value in two dimensions."""
        return self._part(self.vine.kendall_tau)

    @property
    def spearman_rho(self) -> Tensor:
        """The submatrix of the whole vine's; a single value in two dimensions."""
        return self._part(self.vine.spearman_rho)

    @property
    def tail_dependence(self) -> tuple[Tensor, Tensor]:
        """(lower, upper): the submatrices of the whole vine's."""
        lower, upper = self.vine.tail_dependence
        return self._part(lower), self._part(upper)

    def marginalise(self, present: Tensor) -> CopulaDistribution:
        """The copula of the coordinates in `present`, bool (dim,)."""
        chosen = [self.kept[j] for j in self._check_subset(present)]
        return self.vine.marginalise(torch.tensor([v in chosen for v in range(self.vine.dim)]))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws, (*sample_shape, *batch, dim)."""
        return self.vine.sample(sample_shape)[..., self.kept]

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws, (*sample_shape, *batch, dim), differentiable like those of the vine."""
        return self.vine.rsample(sample_shape)[..., self.kept]

    def conditional_sample_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor, n_draws: int = 1) -> Tails:
        """Draws of the missing coordinates given the observed ones, by the vine; shapes as in the base class."""
        low, high = self.vine.conditional_sample_tails(*self._whole(log_u, log1m_u), self._whole_mask(present, log_u), n_draws)
        return low[..., self.kept], high[..., self.kept]

    def _like(self) -> Tensor:
        return self.vine._like()

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.vine._tensors()

    def _rebuild(self, tensors: Sequence[Tensor]) -> CopulaDistribution:
        return VineMargin(self.vine._rebuild(tensors), self.kept, self._validate_args)

    def _log_density(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor | None) -> Tensor:
        return self.vine.log_prob_tails(*self._whole(log_u, log1m_u), self._whole_mask(mask, log_u))

    def _cdf(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor) -> Tensor:
        return self.vine._cdf(*self._whole(log_u, log1m_u), self._whole_mask(mask, log_u))

    def _h_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        raise TypeError(_NO_H)

    def _h_quantile(self, p: Tails, given: Tails) -> Tails:
        raise TypeError(_NO_H)

    def _conditional_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor) -> Tails:
        low, high = self.vine._conditional_tails(*self._whole(log_u, log1m_u), self._whole_mask(present, log_u))
        return low[..., self.kept], high[..., self.kept]

    def _part(self, matrix: Tensor) -> Tensor:
        part = matrix[..., self.kept, :][..., self.kept]
        return part[..., 0, 1] if self.dim == 2 else part

    def _whole(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        """The points, with 1/2 as a placeholder in the coordinates that are left out."""
        half = torch.full_like(log_u[..., 0], LOG_HALF)
        place = {v: j for j, v in enumerate(self.kept)}
        fill = lambda tail: torch.stack([tail[..., place[v]] if v in place else half for v in range(self.vine.dim)], -1)
        return fill(log_u), fill(log1m_u)

    def _whole_mask(self, mask: Tensor | None, log_u: Tensor) -> Tensor:
        here = torch.ones_like(log_u, dtype=torch.bool) if mask is None else mask
        no = torch.zeros_like(here[..., 0])
        place = {v: j for j, v in enumerate(self.kept)}
        return torch.stack([here[..., place[v]] if v in place else no for v in range(self.vine.dim)], -1)
