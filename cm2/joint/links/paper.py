"""The paper's formula as printed."""

from __future__ import annotations

from torch import Tensor

from cm2.errors import InputError
from cm2.joint.links.base import ALL_LINKS, Link, Parts, observed


class Paper(Link):
    r"""The paper's equation 7 as printed: :math:`c(F_1(z_1), \dots, F_M(z_M)) \prod_m f_m(z_m)`, F the joint distribution function.

    With diagonal covariances :math:`F_m(z) = \sum_k \pi_{mk} \prod_j \Phi((z_j - \mu_{mkj}) / \sigma_{mkj})`, in closed form. For d = 1
    this is Sklar's theorem and the same as `Scalar`. For d > 1 it is not a density: :math:`F_m(Z_m)` is not uniform (of order
    :math:`e^{-d}` for one component, up to 1 for several), so the formula does in general not integrate to 1, and a copula of the joint
    distribution functions of vectors is in general not a distribution function (Genest, Quesada Molina, Rodriguez Lallena 1995: only
    independence always is one).
    Missing modalities are dropped by taking the copula's margin over the observed ones. Conditional draws do not exist.
    """

    name = "paper"
    exact = False

    def parts(self, z: Tensor) -> Parts:
        """log f_m and both tails of F_m, three ``(..., M)``."""
        return self.mixture.cdf_terms(z)

    def tie(self, parts: Parts, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """The copula at the joint distribution functions."""
        marginal, log_u, log1m_u = parts
        return observed(marginal, present), self.copula.log_prob_tails(log_u, log1m_u, present)

    def conditional(self, z: Tensor, present: Tensor, n_draws: int) -> Tensor:
        """Raises ValueError: no distribution to draw from."""
        raise InputError(
            'link="paper" is no law of several embeddings, so none can be drawn from it; impute with how="marginal", or use an exact link: '
            + ", ".join(name for name, link in ALL_LINKS.items() if link.exact)
        )
