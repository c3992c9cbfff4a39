"""The link that couples coordinate by coordinate."""

from __future__ import annotations

import torch
from torch import Tensor

from cm2.joint.links.base import Link, Parts, observed
from cm2.numerics.elementary import LOG_HALF


class Dimension(Link):
    r"""Dependence coordinate by coordinate: :math:`\prod_j c(u_{1j}, \dots, u_{Mj}) \prod_m f_m(z_m)`, u the Rosenblatt transforms.

    The coordinates share one copula or have one each. Gradients of draws as for `Scalar`.
    """

    name = "dimension"

    @classmethod
    def several(cls, dim: int, directions: int) -> int:
        """One for each coordinate."""
        return dim

    def parts(self, z: Tensor) -> Parts:
        """log f_m ``(..., M)`` and both tails of the Rosenblatt transform ``(..., M, d)``."""
        return self.mixture.rosenblatt_terms(z)

    def tie(self, parts: Parts, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """The sum over coordinates of the log copula density."""
        marginal, log_u, log1m_u = parts
        mask = None if present is None else present[..., None, :].expand(log_u.mT.shape)
        return observed(marginal, present), self.copula.log_prob_tails(log_u.mT, log1m_u.mT, mask).sum(-1)

    def conditional(self, z: Tensor, present: Tensor, n_draws: int) -> Tensor:
        """Each coordinate's uniforms given the observed ones, then the inverse Rosenblatt transform."""
        log_u, log1m_u = self.mixture.rosenblatt_tails(z)
        mask = present[..., None, :].expand(log_u.mT.shape)
        log_u, log1m_u = self.copula.conditional_sample_tails(log_u.mT, log1m_u.mT, mask, n_draws)
        # observed coordinates are overwritten by the caller: a median keeps the inversion and its gradient finite there
        inside = torch.where(mask, LOG_HALF, log_u), torch.where(mask, LOG_HALF, log1m_u)
        return self.mixture.inverse_rosenblatt_tails(*(tail.mT for tail in inside))
