r"""Links between one copula and the embeddings of several modalities: three exact ones, and the paper's formula as printed.

Each of the three gives a density on :math:`R^{M \times d}` that integrates to 1 and whose margins are exactly the mixtures
:math:`f_m`, for every copula and any number of modalities. A link provides, under a mask of the modalities observed in each stay, the
density (`terms`) and draws of the missing embeddings given the observed ones (`conditional`).

Shapes: embeddings ``(..., M, d)``, masks ``(..., M)``, K components in every mixture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from cm2.copulas.tails import Tails
from cm2.marginals import GaussianMixtureDistribution, draw_labels
from cm2.numerics.elementary import LOG_HALF, log1mexp
from cm2.numerics.gamma import inverse_log_gamma_tails, log_gamma_tails
from cm2.numerics.normal import normal_quantile


class TailCopula(Protocol):
    """Interface of a copula to a link: density and conditional draws, both in terms of log tails ``(..., M)``."""

    def log_prob_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor | None = None) -> Tensor: ...

    def conditional_sample_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor, n_draws: int = 1) -> Tails: ...


class PerDimension:
    """One M-variate copula per coordinate of the embedding, stacked along the last axis but one."""

    def __init__(self, copulas: list[TailCopula]) -> None:
        self.copulas = copulas

    def log_prob_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor | None = None) -> Tensor:
        """``(..., d, M)`` -> ``(..., d)``."""
        present = None if present is None else present.expand(log_u.shape)
        parts = [
            copula.log_prob_tails(log_u[..., j, :], log1m_u[..., j, :], None if present is None else present[..., j, :])
            for j, copula in enumerate(self.copulas)
        ]
        return torch.stack(parts, -1)

    def conditional_sample_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor, n_draws: int = 1) -> Tails:
        """``(..., d, M)`` -> two ``(n_draws, ..., d, M)``."""
        pairs = [
            copula.conditional_sample_tails(log_u[..., j, :], log1m_u[..., j, :], present[..., j, :], n_draws)
            for j, copula in enumerate(self.copulas)
        ]
        return torch.stack([low for low, _ in pairs], -2), torch.stack([high for _, high in pairs], -2)


Parts = tuple[Tensor, ...]


class Link(ABC):
    """Joint distribution of M embeddings from their mixtures and a copula.

    Args:
        copula: copula on :math:`(0, 1)^M`.
        mixture: the M marginal distributions as one batch, ``batch_shape`` ``(..., M)``.
        excess: ``(K, ..., K)``, log of the table of label weights over the product of its margins; None: independent labels.
    """

    def __init__(self, copula: TailCopula, mixture: GaussianMixtureDistribution, excess: Tensor | None = None) -> None:
        self.copula, self.mixture, self.excess = copula, mixture, excess

    def terms(self, z: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """log f_m ``(..., M)`` and the dependence term ``(...)``, log f_O minus the sum of log f_m over the observed modalities O.

        ``log f_m`` of missing modalities is 0; their rows of ``z`` are finite placeholders without influence.
        """
        return self.tie(self.parts(z), present)

    @abstractmethod
    def parts(self, z: Tensor) -> Parts:
        """Contributions per modality, tensors ``(..., M)`` or ``(..., M, width)``: column m depends on row m of z only."""

    @abstractmethod
    def tie(self, parts: Parts, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """`terms` from the parts, whose columns may come from different stays."""

    @abstractmethod
    def conditional(self, z: Tensor, present: Tensor, n_draws: int) -> Tensor:
        """Draws missing rows given the observed ones, ``(n_draws, ..., M, d)``; the observed rows of the result are unspecified."""


class Component(Link):
    r"""A latent label per stay and modality; given the labels, the copula couples the component-wise uniforms.

    .. math::
        f(z) = \sum_{k_1 \dots k_M} \pi_{k_1 \dots k_M} \prod_m N(z_m; \mu_{mk_m}, \Sigma_{mk_m}) \; c(v_{1k_1}, \dots, v_{Mk_M}), \qquad
        v_{mk} = Q(d, T_{mk}), \quad T_{mk} = -\sum_j \log \Phi\Bigl(\frac{z_{mj} - \mu_{mkj}}{\sigma_{mkj}}\Bigr)

    Given component k, T is a sum of d unit exponentials, so v is uniform: the paper's single-parameter copula, made exact. Draws
    are parallel in d, with pathwise gradients to means, scales, the copula's parameters and the conditioning embeddings; the labels
    are discrete and have no gradient.
    """

    def parts(self, z: Tensor) -> Parts:
        return self.mixture.component_terms(z)

    def tie(self, parts: Parts, present: Tensor | None) -> tuple[Tensor, Tensor]:
        marginal, grid = self._grid(parts, present)
        return marginal, grid.logsumexp(-1)

    def conditional(self, z: Tensor, present: Tensor, n_draws: int) -> Tensor:
        parts = self.parts(z)
        _, log_v, log1m_v = parts
        _, grid = self._grid(parts, present)
        components, modalities = log_v.shape[-1], log_v.shape[-2]
        flat = draw_labels(grid, n_draws)
        labels = torch.stack([flat // components ** (modalities - 1 - m) % components for m in range(modalities)], -1)

        def pick(tail: Tensor) -> Tensor:
            return tail.expand(*labels.shape, components).gather(-1, labels[..., None]).squeeze(-1)

        observed = present.expand(labels.shape)
        log_v, log1m_v = _only(self.copula.conditional_sample_tails(pick(log_v), pick(log1m_v), observed))
        energy = _split(log_v, log1m_v, observed, z.shape[-1])
        return self.mixture.from_component(normal_quantile(-energy, log1mexp(-energy)), labels)

    def _grid(self, parts: Parts, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """log f_m ``(..., M)``, and the log weight of every tuple of labels given z, ``(..., K^M)``.

        The weights are posterior probabilities of the labels, of order one: the log densities, of order d, are subtracted before the
        sum over tuples, to keep its rounding error small.
        """
        log_normal, log_v, log1m_v = parts
        weighted = self.mixture.log_weights + log_normal
        marginal = weighted.logsumexp(-1)
        posterior = weighted - marginal[..., None]
        if present is not None:
            marginal = torch.where(present, marginal, 0.0)
            posterior = torch.where(present[..., None], posterior, self.mixture.log_weights)
        tuples = _product(posterior).sum(-1)
        if self.excess is not None:
            tuples = tuples + self.excess.flatten()
        mask = None if present is None else present[..., None, :].expand(*tuples.shape, present.shape[-1])
        grid = tuples + self.copula.log_prob_tails(_product(log_v), _product(log1m_v), mask)
        return marginal, grid


class Scalar(Link):
    r"""One uniform per modality without latent labels: :math:`v_m = Q(d, -\sum_j \log u_{mj})`, u the Rosenblatt transform.

    The density is :math:`c(v_1, \dots, v_M) \prod_m f_m(z_m)`. Draws are sequential in d; their gradients reach every parameter,
    the weights included, and the conditioning embeddings.
    """

    def parts(self, z: Tensor) -> Parts:
        return self._uniforms(z)

    def tie(self, parts: Parts, present: Tensor | None) -> tuple[Tensor, Tensor]:
        marginal, log_v, log1m_v = parts
        if present is not None:
            marginal = torch.where(present, marginal, 0.0)
        return marginal, self.copula.log_prob_tails(log_v, log1m_v, present)

    def conditional(self, z: Tensor, present: Tensor, n_draws: int) -> Tensor:
        _, log_v, log1m_v = self._uniforms(z)
        log_v, log1m_v = self.copula.conditional_sample_tails(log_v, log1m_v, present, n_draws)
        energy = _split(log_v, log1m_v, present, z.shape[-1])
        return self.mixture.inverse_rosenblatt_tails(-energy, log1mexp(-energy))

    def _uniforms(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        marginal, log_u, _ = self.mixture.rosenblatt_terms(z)
        return marginal, *log_gamma_tails(z.shape[-1], -log_u.sum(-1))


class Dimension(Link):
    r"""Dependence coordinate by coordinate: :math:`\prod_j c(u_{1j}, \dots, u_{Mj}) \prod_m f_m(z_m)`, u the Rosenblatt transforms.

    The coordinates share one copula or have one each. Gradients of draws as for `Scalar`.
    """

    def parts(self, z: Tensor) -> Parts:
        return self.mixture.rosenblatt_terms(z)

    def tie(self, parts: Parts, present: Tensor | None) -> tuple[Tensor, Tensor]:
        marginal, log_u, log1m_u = parts
        if present is not None:
            marginal = torch.where(present, marginal, 0.0)
        mask = None if present is None else present[..., None, :].expand(log_u.mT.shape)
        return marginal, self.copula.log_prob_tails(log_u.mT, log1m_u.mT, mask).sum(-1)

    def conditional(self, z: Tensor, present: Tensor, n_draws: int) -> Tensor:
        log_u, log1m_u = self.mixture.rosenblatt_tails(z)
        mask = present[..., None, :].expand(log_u.mT.shape)
        log_u, log1m_u = self.copula.conditional_sample_tails(log_u.mT, log1m_u.mT, mask, n_draws)
        # observed coordinates are overwritten by the caller: a median keeps the inversion and its gradient finite there
        inside = torch.where(mask, LOG_HALF, log_u), torch.where(mask, LOG_HALF, log1m_u)
        return self.mixture.inverse_rosenblatt_tails(*(tail.mT for tail in inside))


class Paper(Link):
    r"""The paper's equation 7 as printed: :math:`c(F_1(z_1), \dots, F_M(z_M)) \prod_m f_m(z_m)`, F the joint distribution function.

    With diagonal covariances :math:`F_m(z) = \sum_k \pi_{mk} \prod_j \Phi((z_j - \mu_{mkj}) / \sigma_{mkj})`, in closed form. For d = 1
    this is Sklar's theorem and the same as `Scalar`. For d > 1 it is not a density: :math:`F_m(Z_m)` is not uniform but of order
    :math:`e^{-d}`, so the formula does not integrate to 1, and a copula of the joint distribution functions of vectors is in general
    not a distribution function (Genest, Quesada Molina, Rodriguez Lallena 1995: only independence always is one).
    Missing modalities are dropped by taking the copula's margin over the observed ones. Conditional draws do not exist.
    """

    def parts(self, z: Tensor) -> Parts:
        return self.mixture.cdf_terms(z)

    def tie(self, parts: Parts, present: Tensor | None) -> tuple[Tensor, Tensor]:
        marginal, log_u, log1m_u = parts
        if present is not None:
            marginal = torch.where(present, marginal, 0.0)
        return marginal, self.copula.log_prob_tails(log_u, log1m_u, present)

    def conditional(self, z: Tensor, present: Tensor, n_draws: int) -> Tensor:
        raise ValueError(
            'link="paper" is no law of several embeddings, so none can be drawn from it; impute with how="marginal", or use an exact link: '
            + ", ".join(LINKS)
        )


LINKS: dict[str, type[Link]] = {"component": Component, "scalar": Scalar, "dimension": Dimension}
"""The exact links by name."""
ALL_LINKS: dict[str, type[Link]] = {**LINKS, "paper": Paper}


def _product(values: Tensor) -> Tensor:
    """``(..., M, K)`` -> ``(..., K^M, M)``: the values of every tuple of labels, the last modality's label varying fastest."""
    *batch, modalities, components = values.shape
    columns = []
    for m, column in enumerate(values.unbind(-2)):
        before, after = components**m, components ** (modalities - 1 - m)
        columns.append(column[..., None, :, None].expand(*batch, before, components, after).reshape(*batch, -1))
    return torch.stack(columns, -1)


def _split(log_v: Tensor, log1m_v: Tensor, present: Tensor, dim: int) -> Tensor:
    """d unit exponentials ``(..., d)`` whose sum T has upper tail probability v: T = Q^-1(d, v), split by a flat Dirichlet distribution."""
    # observed modalities are overwritten by the caller: a median keeps the inversion and its gradient finite there
    total = inverse_log_gamma_tails(dim, torch.where(present, LOG_HALF, log_v), torch.where(present, LOG_HALF, log1m_v))
    parts = torch.empty(*total.shape, dim, dtype=total.dtype, device=total.device).exponential_()
    return total[..., None] * parts / parts.sum(-1, keepdim=True)


def _only(tails: Tails) -> Tails:
    return tails[0].squeeze(0), tails[1].squeeze(0)
