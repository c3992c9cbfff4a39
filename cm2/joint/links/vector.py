r"""The link that couples directions of the embeddings: a vector copula.

References:
    Fan, Henry (2023), Vector copulas, Journal of Econometrics 234
    Hotelling (1936), Relations between two sets of variates, Biometrika 28
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cm2.joint.links.base import Link, Parts, TailCopula, observed
from cm2.joint.links.labelled import Labelled, product
from cm2.numerics.elementary import LOG_HALF
from cm2.numerics.normal import normal_quantile, normal_tails


class Vector(Labelled):
    r"""r copulas along r directions of each modality, given latent labels.

    .. math::
        f(z) = \sum_{k_1 \dots k_M} \pi_{k_1 \dots k_M} \prod_m N(z_m; \mu_{mk_m}, \Sigma_{mk_m})
            \prod_{j=1}^r c_j(\Phi(w_{1k_1j}), \dots, \Phi(w_{Mk_Mj})), \qquad w_{mk} = Q_m^\top L_{mk}^{-1} (z_m - \mu_{mk})

    Given component k, :math:`L_k^{-1}(z - \mu_k)` is :math:`N(0, I)`, and so are its coordinates along any orthonormal columns
    :math:`Q_m`: the uniforms are uniform and independent, the density integrates to 1 and its margins are the mixtures, for all
    directions, copulas and numbers of modalities. With Gaussian copulas it is canonical correlation analysis (Hotelling 1936) as a
    likelihood, and the cross-covariances are free of rank r.

    Draws are parallel in d, with pathwise gradients to means, covariances, directions, the copulas' parameters and the conditioning
    embeddings; the labels are discrete and have no gradient.
    """

    name = "vector"
    directed = True
    types = ("independent", "joint", "none")

    @classmethod
    def of(cls, types: str) -> type[Link]:
        """Without labels it is `VectorOfRosenblatt`."""
        return VectorOfRosenblatt if types == "none" else cls

    @classmethod
    def several(cls, dim: int, directions: int) -> int:
        """One for each direction."""
        return directions

    def parts(self, z: Tensor) -> Parts:
        """Log density of each component ``(..., M, K)`` and its scores along the directions ``(..., M, K, r)``."""
        log_normal, x = self.mixture.component_scores(z)
        return log_normal, x @ self.directions

    def log_copula(self, uniforms: Parts, present: Tensor | None) -> Tensor:
        """The sum over directions at the scores of every tuple, ``(..., K^M)``."""
        (scores,) = uniforms
        # (..., M, K, r) -> (..., K^M, r, M)
        tuples = product(scores.movedim(-1, -3)).transpose(-2, -3)
        mask = None if present is None else present[..., None, None, :].expand(tuples.shape)
        return self.copula.log_prob_scores(tuples, mask).sum(-1)

    def conditional(self, z: Tensor, present: Tensor, n_draws: int) -> Tensor:
        """Labels first, then the scores along the directions given the observed ones; coordinates off the directions are noise."""
        parts = self.parts(z)
        labels = self.draw(parts, present, n_draws)
        scores = parts[1].expand(*labels.shape, *parts[1].shape[-2:])
        index = labels[..., None, None].expand(*labels.shape, 1, scores.shape[-1])
        w = _draw(self.copula, scores.gather(-2, index).squeeze(-2), present)
        return self.mixture.from_component(_embed(w, self.directions), labels)

    def conditional_mean(self, z: Tensor, present: Tensor, n_draws: int) -> tuple[Tensor, Tensor]:
        r"""In closed form for Gaussian copulas, else by quadrature over each direction; the error is that of the quadrature.

        :math:`E[z_m \mid z_O] = \sum_k p(k \mid z_O) \{\mu_{mk_m} + L_{mk_m} Q_m E[w_m \mid w_O, k]\}`: a coordinate off the directions has
        mean 0 given the labels.
        """
        parts = self.parts(z)
        posterior = self.grid(parts, present)[1].softmax(-1)
        tuples = product(parts[1].movedim(-1, -3)).transpose(-2, -3)
        mean, error = self.copula.conditional_mean_scores(tuples, present[..., None, None, :].expand(tuples.shape))
        share, moment, spread = self._by_label(posterior, mean, error, parts[0].shape[-2:])
        factor = self.mixture.scale_tril
        along = moment @ self.directions.mT  # (..., M, K, d)
        moved = along * self.mixture.scale if factor is None else (factor @ along[..., None]).squeeze(-1)
        bound = spread @ self.directions.mT.abs()
        bound = bound * self.mixture.scale if factor is None else (factor.abs() @ bound[..., None]).squeeze(-1)
        return (share[..., None] * self.mixture.mean + moved).sum(-2), bound.sum(-2)

    def _by_label(self, posterior: Tensor, mean: Tensor, error: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Per modality and label: the probability ``(..., M, K)``, and the probability times mean and error of w ``(..., M, K, r)``."""
        modalities, components = sizes
        labels = self.label(torch.arange(posterior.shape[-1], device=posterior.device), modalities, components)
        # (K^M, M, K); one_hot would look at values
        member = (labels[..., None] == torch.arange(components, device=posterior.device)).to(posterior)
        share = torch.einsum("...t,tmk->...mk", posterior, member)
        moment, spread = (torch.einsum("...t,...trm,tmk->...mkr", posterior, each, member) for each in (mean, error))
        return share, moment, spread


class VectorOfRosenblatt(Link):
    r"""The same without labels: :math:`w_m = Q_m^\top \Phi^{-1}(u_m)`, u the Rosenblatt transform.

    With r = d and :math:`Q_m = I` it is `Dimension`. Draws are sequential in d; their gradients reach every parameter, the weights
    included, and the conditioning embeddings.
    """

    def parts(self, z: Tensor) -> Parts:
        """log f_m ``(..., M)`` and the scores along the directions ``(..., M, r)``."""
        marginal, log_u, log1m_u = self.mixture.rosenblatt_terms(z)
        x = normal_quantile(log_u, log1m_u)
        return marginal, (x[..., None, :] @ self.directions).squeeze(-2)

    def tie(self, parts: Parts, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """The sum over directions of the log copula density."""
        marginal, scores = parts
        mask = None if present is None else present[..., None, :].expand(scores.mT.shape)
        return observed(marginal, present), self.copula.log_prob_scores(scores.mT, mask).sum(-1)

    def conditional(self, z: Tensor, present: Tensor, n_draws: int) -> Tensor:
        """Scores along the directions given the observed ones, noise off them, then the inverse Rosenblatt transform."""
        _, scores = self.parts(z)
        scores = scores.expand(n_draws, *scores.shape)
        w = _draw(self.copula, scores, present)
        log_u, log1m_u = normal_tails(_embed(w, self.directions))
        # observed coordinates are overwritten by the caller: a median keeps the inversion and its gradient finite there
        inside = (torch.where(present[..., None], LOG_HALF, tail) for tail in (log_u, log1m_u))
        return self.mixture.inverse_rosenblatt_tails(*inside)


def _draw(copula: TailCopula, scores: Tensor, present: Tensor) -> Tensor:
    """Scores along the directions ``(..., M, r)``, those of missing modalities drawn given the others."""
    by_direction = scores.mT
    return copula.conditional_sample_scores(by_direction, present[..., None, :].expand(by_direction.shape)).mT


def _embed(w: Tensor, directions: Tensor) -> Tensor:
    """Standard normal vectors ``(..., M, d)`` whose coordinates along the directions are w ``(..., M, r)``, the others drawn."""
    noise = torch.randn(*w.shape[:-1], directions.shape[-2], dtype=w.dtype, device=w.device)
    missing = w - (noise[..., None, :] @ directions).squeeze(-2)
    return noise + (missing[..., None, :] @ directions.mT).squeeze(-2)
