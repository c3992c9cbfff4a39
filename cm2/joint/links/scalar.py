"""The link with one uniform for each modality."""

from __future__ import annotations

from torch import Tensor

from cm2.joint.links.base import Link, Parts, observed, split_energy
from cm2.numerics.elementary import log1mexp
from cm2.numerics.gamma import log_gamma_tails


class Scalar(Link):
    r"""One uniform per modality without latent labels: :math:`v_m = Q(d, -\sum_j \log u_{mj})`, u the Rosenblatt transform.

    The density is :math:`c(v_1, \dots, v_M) \prod_m f_m(z_m)`. Draws are sequential in d; their gradients reach every parameter,
    the weights included, and the conditioning embeddings.
    """

    name = "scalar"

    def parts(self, z: Tensor) -> Parts:
        """log f_m and both tails of v_m, three ``(..., M)``."""
        return self._uniforms(z)

    def tie(self, parts: Parts, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """The copula at one uniform per modality."""
        marginal, log_v, log1m_v = parts
        return observed(marginal, present), self.copula.log_prob_tails(log_v, log1m_v, present)

    def conditional(self, z: Tensor, present: Tensor, n_draws: int) -> Tensor:
        """Uniforms given the observed ones, d exponentials with that sum, then the inverse Rosenblatt transform."""
        _, log_v, log1m_v = self._uniforms(z)
        log_v, log1m_v = self.copula.conditional_sample_tails(log_v, log1m_v, present, n_draws)
        energy = split_energy(log_v, log1m_v, present, z.shape[-1])
        return self.mixture.inverse_rosenblatt_tails(-energy, log1mexp(-energy))

    def _uniforms(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        marginal, log_u, _ = self.mixture.rosenblatt_terms(z)
        return marginal, *log_gamma_tails(z.shape[-1], -log_u.sum(-1))
