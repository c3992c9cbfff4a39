"""The link with one uniform for each modality and component."""

from __future__ import annotations

from torch import Tensor

from cm2.joint.links.base import Parts, split_energy
from cm2.joint.links.labelled import Labelled, pick, product
from cm2.numerics.elementary import log1mexp
from cm2.numerics.normal import normal_quantile


class Component(Labelled):
    r"""A latent label per stay and modality; given the labels, the copula couples the component-wise uniforms.

    .. math::
        f(z) = \sum_{k_1 \dots k_M} \pi_{k_1 \dots k_M} \prod_m N(z_m; \mu_{mk_m}, \Sigma_{mk_m}) \; c(v_{1k_1}, \dots, v_{Mk_M}), \qquad
        v_{mk} = Q(d, T_{mk}), \quad T_{mk} = -\sum_j \log \Phi(x_{mkj}), \quad x_{mk} = L_{mk}^{-1}(z_m - \mu_{mk})

    Given component k, T is a sum of d unit exponentials, so v is uniform: the paper's single-parameter copula, made exact. Draws
    are parallel in d, with pathwise gradients to means, scales, the copula's parameters and the conditioning embeddings; the labels
    are discrete and have no gradient.
    """

    name = "component"

    def parts(self, z: Tensor) -> Parts:
        """Log density of each component and both tails of its v, three ``(..., M, K)``."""
        return self.mixture.component_terms(z)

    def log_copula(self, uniforms: Parts, present: Tensor | None) -> Tensor:
        """The copula at the uniforms of every tuple, ``(..., K^M)``."""
        log_v, log1m_v = (product(tail) for tail in uniforms)
        mask = None if present is None else present[..., None, :].expand(*log_v.shape[:-1], present.shape[-1])
        return self.copula.log_prob_tails(log_v, log1m_v, mask)

    def conditional(self, z: Tensor, present: Tensor, n_draws: int) -> Tensor:
        """Labels first, then the uniforms given the observed ones, then d exponentials with that uniform as the tail of their sum."""
        parts = self.parts(z)
        labels = self.draw(parts, present, n_draws)
        observed = present.expand(labels.shape)
        log_v, log1m_v = (pick(tail, labels) for tail in parts[1:])
        log_v, log1m_v = (tail.squeeze(0) for tail in self.copula.conditional_sample_tails(log_v, log1m_v, observed))
        energy = split_energy(log_v, log1m_v, observed, z.shape[-1])
        return self.mixture.from_component(normal_quantile(-energy, log1mexp(-energy)), labels)
