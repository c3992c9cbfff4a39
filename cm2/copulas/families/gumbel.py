r"""The Gumbel copula."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Size, Tensor, nn
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.families.archimedean import ArchimedeanCopula, ArchimedeanDistribution, excess_over_one, smallest_excess
from cm2.copulas.law_dependence import check_tau
from cm2.copulas.module import parameter
from cm2.copulas.tails import Tails
from cm2.numerics.elementary import exp_neg_exp_tails, log_exp_plus, log_expm1, log_neg_log
from cm2.numerics.roots import monotone_root

Level = Callable[[Tensor], tuple[Tensor, Tensor]]

_STEPS = 12  # for alpha from 1 + 1e-6 to 50, -log C from 1e-26 to 1e6, p from e^-1000 to 1 - 1e-9, 8 to 12 reach the last digit
_PAIR_STEPS = 4  # over the same range they leave 4e-8 or less, which the final Newton step squares; that step carries the gradient
_NOWHERE = -1e15  # for log(-log C) = -inf of the empty set: acts like -inf, being far below all other values, but has finite gradients


class GumbelDistribution(ArchimedeanDistribution):
    r""":math:`C(u) = \exp\{-(\sum_j (-\log u_j)^\alpha)^{1/\alpha}\}`, :math:`\alpha \ge 1`; :math:`\psi(t) = \exp(-t^{1/\alpha})`.

    State: :math:`s = \log(-\log C)`; with :math:`x_j = \log(-\log u_j)` joining gives
    :math:`s = \frac1\alpha\log\sum_j e^{\alpha x_j}`. With :math:`\theta = 1/\alpha`,

    .. math:: |\psi^{(n)}(t)| = \psi(t)\,t^{-n} P_n(t^\theta), \quad P_n(x) = \sum_{k=1}^n a_{nk}x^k, \quad
        a_{n+1,k} = \theta a_{n,k-1} + (n - \theta k)a_{nk},

    the polynomial of Hofert, Mächler, McNeil 2012 (section 3.2.5); the recurrence (differentiate once more) has positive terms only. It
    computes the :math:`\alpha^ka_{nk}`, which stay below :math:`n!`, and :math:`P_n` is summed by Horner's rule in logarithms. In two
    dimensions

    .. math:: \log c = -e^s - \sum_j \log u_j + (\alpha-1)(x_1 + x_2) + (1-2\alpha)s + \log(e^s + \alpha - 1).

    The conditional quantile has no closed form. It is solved for :math:`\delta = s' - s`, on
    :math:`0 \le \delta \le \min\{\log(1 - e^{-s}\log p), -\log p/(n(\alpha-1))\}`, both bounds from :math:`P_n(x')/P_n(x) \le (x'/x)^n`.
    Kendall's τ is :math:`1 - 1/\alpha`, tail dependence :math:`(0, 2 - 2^{1/\alpha})` (Nelsen 2006, examples 5.4 and 5.22); the frailty is
    positive stable, drawn by the method of Kanter 1975.

    Args:
        alpha: the parameter, shape of the batch.
        dim: number of coordinates.
        validate_args: see `CopulaDistribution`.
        excess: :math:`\alpha - 1`, if known more precisely than from the rounded alpha; only its value, the gradient flows through alpha.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"alpha": constraints.greater_than_eq(1.0)}

    def __init__(self, alpha: Tensor, dim: int, validate_args: bool | None = None, excess: Tensor | None = None) -> None:
        self.excess = excess_over_one(alpha, excess)
        super().__init__(alpha, dim, validate_args)

    @property
    def kendall_tau(self) -> Tensor:
        """1 - 1/α, shape of the batch."""
        return self.excess / self.alpha

    @property
    def tail_dependence(self) -> tuple[Tensor, Tensor]:
        """(0, 2 - 2^(1/α))."""
        return torch.zeros_like(self.alpha), 2 - torch.exp2(1 / self.alpha)

    def marginalise(self, present: Tensor) -> CopulaDistribution:
        """The Gumbel copula of the coordinates in `present`, a bool mask (dim,)."""
        law = super().marginalise(present)
        return GumbelDistribution(self.alpha, law.dim, self._validate_args, self.excess) if law.dim > 1 else law

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.alpha, self.excess

    def _rebuild(self, tensors: Sequence[Tensor]) -> CopulaDistribution:
        return GumbelDistribution(tensors[0], self.dim, self._validate_args, tensors[1])

    def _log_margin_at(self, u: Tensor, mask: Tensor | None) -> Tensor:
        return self._log_density(torch.log(u), None, mask)

    def _log_density(self, log_u: Tensor, log1m_u: Tensor | None, mask: Tensor | None) -> Tensor:
        x = log_neg_log(log_u, log1m_u)
        if self.dim == 2:
            return self._log_pair_density(log_u, x)
        if mask is not None:
            log_u, x = torch.where(mask, log_u, 0.0), torch.where(mask, x, 0.0)
        alpha = self.alpha.unsqueeze(-1)
        weighted = alpha * x if mask is None else torch.where(mask, alpha * x, _NOWHERE)
        s = torch.logsumexp(weighted, -1) / self.alpha
        count = self.dim if mask is None else mask.sum(-1)
        slopes = count * torch.log(self.alpha) + self.excess * x.sum(-1) - log_u.sum(-1)
        return slopes - torch.exp(s) - count * self.alpha * s + self._log_polynomial(s, count)

    def _log_pair_density(self, log_u: Tensor, x: Tensor) -> Tensor:
        x1, x2 = x.unbind(-1)
        s = torch.logaddexp(self.alpha * x1, self.alpha * x2) / self.alpha
        return self.excess * (x1 + x2 - 2 * s) - s + log_exp_plus(s, self.excess) - torch.exp(s) - log_u.sum(-1)

    def _log_density_at(self, u: Tensor) -> Tensor:
        r"""Two-dimensional formula for floats u that cannot overflow: with :math:`t = -\log u`, :math:`r = t_{min}/t_{max}`,
        :math:`\ell = \log(1 + r^\alpha)` and :math:`w = -\log C = t_{max}e^{\ell/\alpha}`,
        :math:`\log c = t_1 + t_2 - w + (\alpha-1)(\log r - 2\ell/\alpha) + \log\{1 + (\alpha-1)/w\}`.
        """
        if self.dim > 2:
            return super()._log_density_at(u)
        log_1, log_2 = torch.log(u[..., 0]), torch.log(u[..., 1])
        most = torch.minimum(log_1, log_2)
        log_ratio = torch.maximum(log_1, log_2).div_(most).log_()
        shift = ((log_ratio * self.alpha).exp_() + 1).log_().div_(self.alpha)
        log_cdf = torch.exp(shift) * most
        value = (log_ratio - 2 * shift).mul_(self.excess).add_((1 - self.excess / log_cdf).log_())
        return value.add_(log_cdf).sub_(log_1).sub_(log_2)

    def _log_h(self, log_u: Tensor, log1m_u: Tensor) -> Tensor:
        """log h = -(e^s - e^(x_2)) - (α - 1) δ with the rise δ = s - x_2, where no term cancels as h goes to 1."""
        first, second = log_neg_log(log_u, log1m_u).unbind(-1)
        rise = -logsigmoid((second - first) * self.alpha) / self.alpha
        small, base = rise < 1, torch.exp(second)
        growth = torch.where(small, base * torch.expm1(rise.clamp_max(1.0)), torch.exp(second + rise) - base)
        return -growth - self.excess * rise

    def _coefficients(self, count: int | Tensor, shape: Size) -> list[Tensor]:
        """α^k a_nk for k = 1, 2, ... and n = count >= 1, one integer or a tensor of shape `shape`; 0 for k > n."""
        rest, zero = self.excess / self.alpha, torch.zeros_like(self.alpha)
        row = [torch.ones_like(self.alpha)]
        rows = [row]
        for n in range(1, self.dim if isinstance(count, Tensor) else count):
            scaled = [(n - k + k * rest) * each for k, each in enumerate(row, 1)]
            row = [below + each for below, each in zip([zero, *row], [*scaled, zero], strict=True)]
            rows.append(row)
        if isinstance(count, int):
            return row
        shape = torch.broadcast_shapes(shape, self.batch_shape)
        table = torch.stack([torch.stack([*each, *[zero] * (self.dim - len(each))], -1) for each in rows], -2)
        index = (count - 1).expand(shape)[..., None, None].expand(*shape, 1, self.dim)
        return list(table.expand(*shape, self.dim, self.dim).gather(-2, index).squeeze(-2).unbind(-1))

    def _log_polynomial(self, s: Tensor, count: int | Tensor) -> Tensor:
        """log P_n(e^s) for n = count."""
        return self._horner(self._coefficients(count, s.shape), s, count)[-1]

    def _horner(self, coefficients: list[Tensor], s: Tensor, count: int | Tensor) -> list[Tensor]:
        """Logarithms of the partial sums of P_n(e^s) by Horner's rule, P_n itself the last."""
        x = s - torch.log(self.alpha)
        sums = [x]
        for k in range(len(coefficients) - 1, 0, -1):
            joined = x + log_exp_plus(sums[-1], coefficients[k - 1])
            sums.append(joined if isinstance(count, int) else torch.where(k < count, joined, x))
        return sums

    def _empty(self, like: Tensor) -> Tensor:
        return torch.full_like(like, _NOWHERE)

    def _join(self, state: Tensor, log_u: Tensor, log1m_u: Tensor) -> Tensor:
        return torch.logaddexp(self.alpha * state, self.alpha * log_neg_log(log_u, log1m_u)) / self.alpha

    def _cdf(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor) -> Tensor:
        return torch.exp(-torch.exp(self._fold(log_u, log1m_u, mask)))

    def _log_ratio(self, state: Tensor, log_v: Tensor, log1m_v: Tensor, count: int) -> Tensor:
        after = self._join(state, log_v, log1m_v)
        smooth = torch.exp(state) - torch.exp(after) - count * self.alpha * (after - state)
        return smooth + self._log_polynomial(after, count) - self._log_polynomial(state, count)

    def _quantile(self, state: Tensor, count: Tensor, log_p: Tensor, log1m_p: Tensor) -> Tails:
        if self.dim == 2:
            return self._tails_after(state, self._pair_rise(state, log_p))
        log_level = torch.log(-log_p)
        whole = torch.logaddexp(log_level - state, torch.zeros_like(state))
        upper = torch.minimum(whole, -log_p / (count * self.excess))
        # start at the upper end, where the level is nearly always concave: Newton's method then descends to the root inside the bracket
        level = self._level(state, count, log_p)
        return self._tails_after(state, monotone_root(level, torch.zeros_like(upper), upper, iterations=_STEPS, start=upper))

    def _tails_after(self, state: Tensor, delta: Tensor) -> Tails:
        """Tails of the coordinate that raises the state by delta."""
        # a delta that rounds to 0 has no logarithm
        return exp_neg_exp_tails(state + log_expm1(self.alpha * delta.clamp_min(torch.finfo(state.dtype).tiny)) / self.alpha)

    def _pair_rise(self, state: Tensor, log_p: Tensor) -> Tensor:
        """Solves e^s (e^δ - 1) + (α - 1) δ = -log p, convex in δ, by Halley's method from the smaller of two upper bounds."""
        scale = torch.exp(state)

        def level(delta: Tensor) -> Tails:
            rise = torch.exp(state + delta) * -torch.expm1(-delta)  # e^δ alone overflows for u close to 1
            return rise + self.excess * delta + log_p, rise + scale + self.excess

        with torch.no_grad():
            whole = torch.logaddexp(torch.log(-log_p) - state, torch.zeros_like(state))
            delta = torch.minimum(whole, -log_p / (scale + self.excess))
            for _ in range(_PAIR_STEPS):
                value, slope = level(delta)
                delta = delta - 2 * value * slope / (2 * slope * slope - value * (slope - self.excess))
        # one Newton step with gradient: its derivative is that of the implicit function
        value, slope = level(delta)
        return delta - value / slope.detach()

    def _level(self, state: Tensor, count: Tensor, log_p: Tensor) -> Level:
        """Logarithm of the conditional CDF minus log p, and its slope in delta, at the state increased by delta."""
        coefficients, scale, rate = self._coefficients(count, state.shape), torch.exp(state), count * self.alpha
        offset = self._horner(coefficients, state, count)[-1] + log_p

        def level(delta: Tensor) -> tuple[Tensor, Tensor]:
            sums, rise = self._horner(coefficients, state + delta, count), torch.exp(state + delta) * -torch.expm1(-delta)
            power = torch.ones_like(delta)  # slope of log P_n: the mean of k, weighted by the terms
            for k, (inner, outer) in zip(range(self.dim - 1, 0, -1), pairwise(sums), strict=True):
                power = torch.where(k < count, 1 + power * torch.exp(inner - outer + sums[0]), 1.0)
            return sums[-1] - offset - rise - rate * delta, power - rise - scale - rate

        return level

    def _frailty_tails(self, shape: Size) -> Tails:
        """E_j / V with V positive stable of index 1/α, all in logarithms."""
        alpha = self.alpha.unsqueeze(-1)
        draw = lambda size: torch.empty(size, dtype=alpha.dtype, device=alpha.device)
        angle = torch.pi * draw(shape[:-1]).uniform_().clamp_min(torch.finfo(alpha.dtype).tiny)
        rest = torch.sin(self.excess / self.alpha * angle) / draw(shape[:-1]).exponential_()
        log_v = torch.log(torch.sin(angle / self.alpha)) - self.alpha * torch.log(torch.sin(angle)) + torch.xlogy(self.excess, rest)
        x = (torch.log(draw(shape).exponential_()) - log_v.unsqueeze(-1)) / alpha
        return exp_neg_exp_tails(x)


class Gumbel(ArchimedeanCopula):
    r"""Learnable Gumbel copula, :math:`\alpha = 1 + e^a` with :math:`a` real: one step of the optimiser changes :math:`\alpha - 1` by a
    factor.

    Args:
        dim: number of coordinates.
        alpha: parameter in [1, inf), may have batch dimensions; default 1.15. Exactly 1 is stored as the smallest positive excess, from
            which training does not move it.

    Raises:
        ValueError: alpha outside [1, inf).
    """

    name = "gumbel"

    def __init__(self, dim: int, alpha: float | Tensor = 1.15) -> None:
        super().__init__(dim)
        alpha = parameter(alpha, "gumbel alpha", 1.0, torch.inf, "[1, inf)")
        self.log_excess = nn.Parameter(torch.log(alpha - 1 + smallest_excess(alpha.dtype)))

    @staticmethod
    def from_kendall_tau(tau: float | Tensor, dim: int) -> dict[str, Tensor]:
        """α = 1/(1 - τ) for τ in [0, 1); raises ValueError outside."""
        return {"alpha": 1 / (1 - check_tau(tau, "gumbel", 0.0, closed=True))}

    @property
    def alpha(self) -> Tensor:
        """α >= 1, shape of the batch."""
        return 1 + torch.exp(self.log_excess)

    def forward(self, validate_args: bool | None = None) -> CopulaDistribution:
        """The distribution at the current α."""
        return GumbelDistribution(self.alpha, self.dim, validate_args, torch.exp(self.log_excess))
