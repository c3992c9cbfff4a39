r"""What a link is: a joint density of several embeddings from their mixtures and a copula, and draws of the missing ones.

Shapes: embeddings ``(..., M, d)``, masks ``(..., M)``, K components in every mixture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from cm2.config.names import enter
from cm2.copulas.tails import Tails, uniform_tails
from cm2.marginals import GaussianMixtureDistribution
from cm2.numerics.elementary import LOG_HALF
from cm2.numerics.gamma import inverse_log_gamma_tails
from cm2.numerics.normal import normal_quantile


class TailCopula(Protocol):
    """Interface of a copula to a link: density, conditional draws and means, in terms of log tails or normal scores ``(..., M)``."""

    def log_prob_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor | None = None) -> Tensor: ...

    def conditional_sample_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor, n_draws: int = 1) -> Tails: ...

    def log_prob_scores(self, x: Tensor, present: Tensor | None = None) -> Tensor: ...

    def conditional_sample_scores(self, x: Tensor, present: Tensor) -> Tensor: ...

    def conditional_mean_scores(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]: ...


class PerDimension:
    """One M-variate copula for each coordinate or direction of the embedding, stacked along the last axis but one."""

    def __init__(self, copulas: list[TailCopula]) -> None:
        self.copulas = copulas

    def log_prob_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor | None = None) -> Tensor:
        """``(..., d, M)`` -> ``(..., d)``."""
        masks = self._masks(present, log_u)
        rows = zip(self.copulas, log_u.unbind(-2), log1m_u.unbind(-2), masks, strict=True)
        return torch.stack([copula.log_prob_tails(low, high, mask) for copula, low, high, mask in rows], -1)

    def conditional_sample_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor, n_draws: int = 1) -> Tails:
        """``(..., d, M)`` -> two ``(n_draws, ..., d, M)``."""
        rows = zip(self.copulas, log_u.unbind(-2), log1m_u.unbind(-2), present.unbind(-2), strict=True)
        pairs = [copula.conditional_sample_tails(low, high, mask, n_draws) for copula, low, high, mask in rows]
        return torch.stack([low for low, _ in pairs], -2), torch.stack([high for _, high in pairs], -2)

    def log_prob_scores(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """``(..., d, M)`` -> ``(..., d)``."""
        rows = zip(self.copulas, x.unbind(-2), self._masks(present, x), strict=True)
        return torch.stack([copula.log_prob_scores(scores, mask) for copula, scores, mask in rows], -1)

    def conditional_sample_scores(self, x: Tensor, present: Tensor) -> Tensor:
        """``(..., d, M)`` -> ``(..., d, M)``."""
        rows = zip(self.copulas, x.unbind(-2), present.unbind(-2), strict=True)
        return torch.stack([copula.conditional_sample_scores(scores, mask) for copula, scores, mask in rows], -2)

    def conditional_mean_scores(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """``(..., d, M)`` -> two ``(..., d, M)``."""
        rows = zip(self.copulas, x.unbind(-2), present.unbind(-2), strict=True)
        pairs = [copula.conditional_mean_scores(scores, mask) for copula, scores, mask in rows]
        return torch.stack([mean for mean, _ in pairs], -2), torch.stack([error for _, error in pairs], -2)

    def _masks(self, present: Tensor | None, like: Tensor) -> tuple[Tensor, ...] | list[None]:
        return [None] * len(self.copulas) if present is None else present.expand(like.shape).unbind(-2)


class WithoutSome:
    """A copula whose coordinates of some modalities are independent of everything.

    Args:
        copula: of all modalities.
        coupled: bool ``(M,)``, False for modalities without dependence.
    """

    def __init__(self, copula: TailCopula, coupled: Tensor) -> None:
        self.copula, self.coupled = copula, coupled

    def log_prob_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor | None = None) -> Tensor:
        """Of the coupled modalities."""
        return self.copula.log_prob_tails(log_u, log1m_u, self._mask(present, log_u))

    def conditional_sample_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor, n_draws: int = 1) -> Tails:
        """Coupled ones given the coupled ones, the others alone."""
        low, high = self.copula.conditional_sample_tails(log_u, log1m_u, self._mask(present, log_u), n_draws)
        alone_low, alone_high = uniform_tails(low.shape, low)

        def choose(drawn: Tensor, given: Tensor, alone: Tensor) -> Tensor:
            return torch.where(present, given, torch.where(self.coupled, drawn, alone))

        return choose(low, log_u, alone_low), choose(high, log1m_u, alone_high)

    def log_prob_scores(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Of the coupled modalities."""
        return self.copula.log_prob_scores(x, self._mask(present, x))

    def conditional_sample_scores(self, x: Tensor, present: Tensor) -> Tensor:
        """Coupled ones given the coupled ones, the others alone."""
        drawn = self.copula.conditional_sample_scores(x, self._mask(present, x))
        return torch.where(present, x, torch.where(self.coupled, drawn, torch.randn_like(drawn)))

    def conditional_mean_scores(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Coupled ones given the coupled ones; 0 for the others."""
        mean, error = self.copula.conditional_mean_scores(x, self._mask(present, x))
        return torch.where(present, x, torch.where(self.coupled, mean, 0.0)), torch.where(present | ~self.coupled, 0.0, error)

    def _mask(self, present: Tensor | None, like: Tensor) -> Tensor:
        return self.coupled.expand(like.shape) if present is None else present & self.coupled


Parts = tuple[Tensor, ...]
ALL_LINKS: dict[str, type[Link]] = {}
"""Links by name; a class that sets ``name`` enters itself."""


class Link(ABC):
    """Joint distribution of M embeddings from their mixtures and a copula.

    Args:
        copula: copula on :math:`(0, 1)^M`.
        mixture: the M marginal distributions as one batch, ``batch_shape`` ``(..., M)``.
        excess: ``(K, ..., K)``, log of the table of label weights over the product of its margins; None: independent labels.
        directions: ``(M, d, r)``, orthonormal columns, of links that have directions.
    """

    name: str
    exact: ClassVar[bool] = True
    """Whether it is a density whose margins are the mixtures."""
    directed: ClassVar[bool] = False
    """Whether it has directions."""
    types: ClassVar[tuple[str, ...]] = ("independent",)
    """What it can do with the mixtures' labels: ``independent``, a ``joint`` table, ``none``."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        enter(ALL_LINKS, cls, "link")

    def __init__(
        self,
        copula: TailCopula,
        mixture: GaussianMixtureDistribution,
        excess: Tensor | None = None,
        directions: Tensor | None = None,
    ) -> None:
        self.copula, self.mixture, self.excess = copula, mixture, excess
        self.directions = mixture.mean[..., :0] if directions is None else directions

    @classmethod
    def of(cls, types: str) -> type[Link]:
        """The class for labels of this type."""
        return cls

    @classmethod
    def several(cls, dim: int, directions: int) -> int:
        """How many copulas side by side it takes for embeddings of `dim` coordinates: 0 means one copula, without a batch."""
        return 0

    def terms(self, z: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """log f_m ``(..., M)`` and the dependence term ``(...)``, log f_O minus the sum of log f_m over the observed modalities O.

        ``log f_m`` of missing modalities is 0; their rows of ``z`` are finite placeholders without influence.
        """
        return self.tie(self.parts(z), present)

    def mean_scores(self, z: Tensor) -> Tensor:
        """Standardised embeddings ``(..., M, d)``, N(0, I) under the margins, in which directions and correlations are looked for.

        Here the normal scores of the Rosenblatt transform.
        """
        return normal_quantile(*self.mixture.rosenblatt_tails(z))

    @abstractmethod
    def parts(self, z: Tensor) -> Parts:
        """Contributions per modality, tensors ``(..., M)`` or ``(..., M, width)``: column m depends on row m of z only."""

    @abstractmethod
    def tie(self, parts: Parts, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """`terms` from the parts, whose columns may come from different stays."""

    @abstractmethod
    def conditional(self, z: Tensor, present: Tensor, n_draws: int) -> Tensor:
        """Draws missing rows given the observed ones, ``(n_draws, ..., M, d)``; the observed rows of the result are unspecified."""

    def conditional_mean(self, z: Tensor, present: Tensor, n_draws: int) -> tuple[Tensor, Tensor]:
        """Mean of the missing rows given the observed ones and its error, each ``(..., M, d)``: from draws, with their standard error."""
        draws = self.conditional(z, present, n_draws)
        return draws.mean(0), draws.std(0) / n_draws**0.5


def observed(marginal: Tensor, present: Tensor | None) -> Tensor:
    """log f_m ``(..., M)``, 0 where the modality is missing."""
    return marginal if present is None else torch.where(present, marginal, 0.0)


def split_energy(log_v: Tensor, log1m_v: Tensor, present: Tensor, dim: int) -> Tensor:
    """d unit exponentials ``(..., d)`` whose sum T has upper tail probability v: T = Q^-1(d, v), split by a flat Dirichlet distribution."""
    # observed modalities are overwritten by the caller: a median keeps the inversion and its gradient finite there
    total = inverse_log_gamma_tails(dim, torch.where(present, LOG_HALF, log_v), torch.where(present, LOG_HALF, log1m_v))
    parts = torch.empty(*total.shape, dim, dtype=total.dtype, device=total.device).exponential_()
    return total[..., None] * parts / parts.sum(-1, keepdim=True)
