r"""The Clayton copula."""

from typing import ClassVar

import torch
from torch import Size, Tensor, nn
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.families.archimedean import ArchimedeanCopula, ArchimedeanDistribution
from cm2.copulas.law_dependence import check_tau
from cm2.copulas.module import parameter
from cm2.copulas.tails import Tails, many
from cm2.numerics.context import Context
from cm2.numerics.elementary import LOG_HALF, exp_neg_exp_tails, log1pexp, log_expm1, log_neg_log

_SMALL = 1e-16  # below it e^a - 1 equals a to the last digit


class _Overlap(torch.autograd.Function):
    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        least, most = torch.minimum(a, b), torch.maximum(a, b)
        near = torch.log1p(-torch.expm1(-least.clamp_max(-LOG_HALF)) * torch.expm1(-most))
        far = torch.log1p(torch.exp(least - most) - torch.exp(-most)) - least
        return torch.where(least < -LOG_HALF, near, far)

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, b, overlap = ctx.saved_tensors
        return (grad * torch.expm1(-b - overlap)).sum_to_size(a.shape), (grad * torch.expm1(-a - overlap)).sum_to_size(b.shape)


def overlap(a: Tensor, b: Tensor) -> Tensor:
    r""":math:`g = \log(e^a + e^b - 1) - a - b = \log\{1 - (1-e^{-a})(1-e^{-b})\}` for :math:`a, b \ge 0`, of order :math:`-ab` near 0.

    The second form does not cancel for small arguments, nor the first for large ones; the derivative is
    :math:`\partial g/\partial a = e^{-b-g} - 1`.
    """
    return _Overlap.apply(*torch.broadcast_tensors(a, b))


class ClaytonDistribution(ArchimedeanDistribution):
    r""":math:`C(u) = (\sum_j u_j^{-\alpha} - d + 1)^{-1/\alpha}`, :math:`\alpha > 0`; :math:`\psi(t) = (1+t)^{-1/\alpha}`.

    State: :math:`S = \log(1 + t) = -\alpha\log C`. With :math:`a_j = -\alpha\log u_j`, joining is
    :math:`S' = \log(e^S + e^{a_j} - 1) = S + a_j + g(S, a_j)`, :math:`g` the `overlap`, and with :math:`G` the sum of the :math:`g`

    .. math:: \log c(u_O) = \sum_{k<n}\log(1 + k\alpha) - G/\alpha - nG + (n-1)\,\alpha\sum_{j\in O}\log u_j,

    in which nothing cancels as :math:`\alpha \to 0`, in value or derivative. From :math:`\psi^{(n)}(t) \propto (1+t)^{-(1/\alpha+n)}` the
    conditional CDF is :math:`e^{-(1/\alpha + n)(S'-S)}` with :math:`S' - S = \log\{1 + e^{-S}(e^{a} - 1)\}`, inverted in closed form.
    Kendall's τ is :math:`\alpha/(\alpha+2)`, tail dependence :math:`(2^{-1/\alpha}, 0)` (Nelsen 2006, examples 5.4 and 5.22); the frailty
    is gamma distributed with shape :math:`1/\alpha`.

    Args:
        alpha: the parameter, shape of the batch.
        dim: number of coordinates.
        validate_args: see `CopulaDistribution`.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"alpha": constraints.nonnegative}

    @property
    def kendall_tau(self) -> Tensor:
        """α / (α + 2), shape of the batch."""
        return self.alpha / (self.alpha + 2)

    @property
    def tail_dependence(self) -> tuple[Tensor, Tensor]:
        """(2^(-1/α), 0)."""
        return torch.exp2(-1 / self.alpha), torch.zeros_like(self.alpha)

    def _log_margin_at(self, u: Tensor, mask: Tensor | None) -> Tensor:
        return self._log_density(torch.log(u), None, mask)

    def _log_density(self, log_u: Tensor, log1m_u: Tensor | None, mask: Tensor | None) -> Tensor:
        log_u = log_u if mask is None else torch.where(mask, log_u, 0.0)
        total, count = self._overlaps(log_u), self.dim if mask is None else mask.sum(-1)
        return self._log_constant(count) - total / self.alpha - count * total + (count - 1) * self.alpha * log_u.sum(-1)

    def _overlaps(self, log_u: Tensor) -> Tensor:
        """G, the sum of the overlaps as the coordinates are joined one by one."""
        a = [-self.alpha * column for column in log_u.unbind(-1)]
        state, total = a[0], torch.zeros_like(a[0])
        for each in a[1:]:
            step = overlap(state, each)
            state, total = state + each + step, total + step
        return total

    def _cdf(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor) -> Tensor:
        log_u = torch.where(mask, log_u, 0.0)
        return torch.exp(log_u.sum(-1) - self._overlaps(log_u) / self.alpha)

    def _log_density_at(self, u: Tensor) -> Tensor:
        r"""Fast formula for many points on the host and one moderate alpha, if no power overflows: with :math:`a_j = -\alpha\log u_j`
        :math:`\log c = \log(1+\alpha) + (1 + 1/\alpha)(a_1 + a_2) - (2 + 1/\alpha)\log(e^{a_1} + e^{a_2} - 1)`, in base 2.
        """
        if self.dim > 2 or not many(u, self.alpha) or u.dtype != torch.float64 or not 0.01 < self.alpha.item() < 100:
            return super()._log_density_at(u)
        log_u = torch.log2(u)
        both = torch.ones_like(log_u[0])  # a product with it adds two columns at memory speed, which a strided sum does not
        state = ((log_u * -self.alpha).exp2_() @ both).sub_(1).log2_()
        state = state.mul_(LOG_HALF * (2 + 1 / self.alpha))
        value = state.addmv_(log_u, both * (LOG_HALF * (1 + self.alpha))).add_(torch.log1p(self.alpha))
        return value if value.min() > -torch.inf else super()._log_density_at(u)  # a power that overflowed makes it -inf

    def _log_constant(self, count: int | Tensor) -> Tensor:
        """The sum of log(1 + kα) over k < count, (*batch) or the shape of count."""
        order = torch.arange(self.dim, dtype=self.alpha.dtype, device=self.alpha.device)
        terms = torch.log1p(order * self.alpha.unsqueeze(-1))
        return terms.sum(-1) if isinstance(count, int) else torch.where(order < count.unsqueeze(-1), terms, 0.0).sum(-1)

    def _empty(self, like: Tensor) -> Tensor:
        return torch.zeros_like(like)

    def _join(self, state: Tensor, log_u: Tensor, log1m_u: Tensor) -> Tensor:
        a = -self.alpha * log_u
        return state + a + overlap(state, a)

    def _log_ratio(self, state: Tensor, log_v: Tensor, log1m_v: Tensor, count: int) -> Tensor:
        return (1 / self.alpha + count) * logsigmoid(state - _log_growth(self.alpha, log_v, log1m_v))

    def _h_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        return _tails(_log_growth(self.alpha, log_u[..., 0], log1m_u[..., 0]) + self.alpha * log_u[..., 1], self.alpha / (1 + self.alpha))

    def _h_at(self, u: Tensor) -> Tensor:
        first, second = torch.log(u).unbind(-1)
        return torch.exp(logsigmoid(-self.alpha * second - log_expm1(-self.alpha * first)) * (1 + 1 / self.alpha))

    def _quantile(self, state: Tensor, count: Tensor, log_p: Tensor, log1m_p: Tensor) -> Tails:
        return _tails(state + _log_growth(self.alpha / (1 + count * self.alpha), log_p, log1m_p), self.alpha)

    def _frailty_tails(self, shape: Size) -> Tails:
        inverse = (1 / self.alpha).expand(shape[:-1])
        power = torch.empty_like(inverse).exponential_() * self.alpha  # Gamma(k) is Gamma(k + 1) times U^(1/k): no underflow for small k
        log_v = torch.log(torch._standard_gamma(inverse + 1)) - power
        log_e = torch.log(torch.empty(shape, dtype=log_v.dtype, device=log_v.device).exponential_())
        return _tails(log_e - log_v.unsqueeze(-1), self.alpha.unsqueeze(-1))


def _log_growth(alpha: Tensor, log_v: Tensor, log1m_v: Tensor) -> Tensor:
    """log(v^-alpha - 1), also if log v has underflowed."""
    a = -alpha * log_v
    small = a < _SMALL
    return torch.where(small, torch.log(alpha) + log_neg_log(log_v, log1m_v), log_expm1(torch.where(small, 1.0, a)))


def _tails(log_t: Tensor, alpha: Tensor) -> Tails:
    """Tails of psi(t) = (1 + t)^(-1/alpha)."""
    small = log_t < -37  # there log(1 + t) equals t to the last digit
    log_state = torch.where(small, log_t, torch.log(log1pexp(torch.where(small, 0.0, log_t))))
    return exp_neg_exp_tails(log_state - torch.log(alpha))


class Clayton(ArchimedeanCopula):
    r"""Learnable Clayton copula, :math:`\alpha = e^a` with :math:`a` real: a step of the optimiser changes alpha by a factor.

    Args:
        dim: number of coordinates.
        alpha: parameter in (0, inf), may have batch dimensions; default 0.2.

    Raises:
        ValueError: alpha outside (0, inf).
    """

    name = "clayton"

    def __init__(self, dim: int, alpha: float | Tensor = 0.2) -> None:
        super().__init__(dim)
        self.log_alpha = nn.Parameter(torch.log(parameter(alpha, "clayton alpha", 0.0, torch.inf, "(0, inf)")))

    @staticmethod
    def from_kendall_tau(tau: float | Tensor, dim: int) -> dict[str, Tensor]:
        """α = 2τ/(1 - τ) for τ in (0, 1); raises ValueError outside."""
        tau = check_tau(tau, "clayton", 0.0)
        return {"alpha": 2 * tau / (1 - tau)}

    @property
    def alpha(self) -> Tensor:
        """α > 0, shape of the batch."""
        return torch.exp(self.log_alpha)

    def forward(self, validate_args: bool | None = None) -> CopulaDistribution:
        """The distribution at the current α."""
        return ClaytonDistribution(self.alpha, self.dim, validate_args)
