r"""How the embeddings of several modalities are tied by one copula: three exact links, and the paper's formula as printed.

Each of the three gives a density on :math:`R^{M \times d}` that integrates to 1 and whose margins are exactly the mixtures
:math:`f_m`, for every copula and any number of modalities. A link answers two questions, both under a mask of the modalities present
in each stay: the density (`terms`), and draws of the absent embeddings given the present ones (`conditional`).

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
    """What a link needs of a copula: a density and conditional draws, both through log tails ``(..., M)``."""

    def log_prob_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor | None = None) -> Tensor: ...

    def conditional_sample_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor, n_draws: int = 1) -> Tails: ...


class PerDimension:
    """One bivariate (or M-variate) copula for every coordinate of the embedding, side by side on the last but one axis."""

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
    """A joint law of M embeddings from their mixtures and a copula.

    Args:
        copula: law on :math:`(0, 1)^M`.
        mixture: the M marginal laws as one batch, ``batch_shape`` ``(..., M)``.
        excess: ``(K, ..., K)``, log of the table of label weights over the product of its margins; None: independent labels.
    """

    def __init__(self, copula: TailCopula, mixture: GaussianMixtureDistribution, excess: Tensor | None = None) -> None:
        self.copula, self.mixture, self.excess = copula, mixture, excess

    def terms(self, z: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """log f_m ``(..., M)`` and the dependence term log f_O - sum of log f_m over the present ``(...)``.

        ``log f_m`` of absent modalities is 0; their rows of ``z`` are finite placeholders without influence.
        """
        return self.tie(self.parts(z), present)

    @abstractmethod
    def parts(self, z: Tensor) -> Parts:
        """What each modality contributes by itself: tensors ``(..., M)`` or ``(..., M, width)``, each column from that row of z alone."""

    @abstractmethod
    def tie(self, parts: Parts, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """`terms` from the parts, whose columns may come from different stays."""

    @abstractmethod
    def conditional(self, z: Tensor, present: Tensor, n_draws: int) -> Tensor:
        """``(n_draws, ..., M, d)``: absent rows drawn given the present ones; what stands in the present rows is unspecified."""


class Component(Link):
    r"""Each stay has a latent label per modality; given the labels the copula ties the component-wise uniforms.

    .. math::
        f(z) = \sum_{k_1 \dots k_M} \pi_{k_1 \dots k_M} \prod_m N(z_m; \mu_{mk_m}, \Sigma_{mk_m}) \; c(v_{1k_1}, \dots, v_{Mk_M}), \qquad
        v_{mk} = Q(d, T_{mk}), \quad T_{mk} = -\sum_j \log \Phi\Bigl(\frac{z_{mj} - \mu_{mkj}}{\sigma_{mkj}}\Bigr)

    Given component k, T is a sum of d unit exponentials, so v is uniform: the paper's single-parameter copula, made exact. Draws
    are parallel in d, and their gradients reach means, scales, the copula's parameters and the given embeddings pathwise; the
    labels are discrete and carry none.
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
        """log f_m ``(..., M)``, and per tuple of labels its log weight given z, ``(..., K^M)``.

        Weights are posterior probabilities of the labels, of order one: the densities themselves, of order d, have been divided
        out before anything is added up.
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
    the weights included, and the given embeddings.
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

    The copula is shared by the coordinates, or there is one for each. Gradients of draws as for `Scalar`.
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
        inside = torch.where(mask, LOG_HALF, log_u), torch.where(mask, LOG_HALF, log1m_u)
        return self.mixture.inverse_rosenblatt_tails(*(tail.mT for tail in inside))


class Paper(Link):
    r"""The paper's equation 7 as printed: :math:`c(F_1(z_1), \dots, F_M(z_M)) \prod_m f_m(z_m)`, F the joint distribution function.

    With diagonal covariances :math:`F_m(z) = \sum_k \pi_{mk} \prod_j \Phi((z_j - \mu_{mkj}) / \sigma_{mkj})`, in closed form. For d = 1
    this is Sklar's theorem and the same as `Scalar`. For d > 1 it is no density: :math:`F_m(Z_m)` is not uniform but of order
    :math:`e^{-d}`, so the formula does not integrate to 1, and a copula of the joint distribution functions of vectors is in general no
    distribution function at all (Genest, Quesada Molina, Rodriguez Lallena 1995: only independence always is).
    With modalities absent the copula's own margin over the others is taken. Draws given other modalities do not exist.
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
"""The exact ones."""
ALL_LINKS: dict[str, type[Link]] = {**LINKS, "paper": Paper}


def _product(values: Tensor) -> Tensor:
    """``(..., M, K)`` -> ``(..., K^M, M)``: the values of every tuple of labels, the last modality's label running fastest."""
    *batch, modalities, components = values.shape
    columns = []
    for m, column in enumerate(values.unbind(-2)):
        before, after = components**m, components ** (modalities - 1 - m)
        columns.append(column[..., None, :, None].expand(*batch, before, components, after).reshape(*batch, -1))
    return torch.stack(columns, -1)


def _split(log_v: Tensor, log1m_v: Tensor, present: Tensor, dim: int) -> Tensor:
    """d unit exponentials ``(..., d)`` with v the upper tail of their sum: T = Q^-1(d, v), shared out by a flat Dirichlet law."""
    total = inverse_log_gamma_tails(dim, torch.where(present, LOG_HALF, log_v), torch.where(present, LOG_HALF, log1m_v))
    parts = torch.empty(*total.shape, dim, dtype=total.dtype, device=total.device).exponential_()
    return total[..., None] * parts / parts.sum(-1, keepdim=True)


def _only(tails: Tails) -> Tails:
    return tails[0].squeeze(0), tails[1].squeeze(0)
