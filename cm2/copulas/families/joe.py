r"""The Joe copula."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Size, Tensor, nn
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.families.archimedean import ArchimedeanCopula, ArchimedeanDistribution, excess_over_one, smallest_excess
from cm2.copulas.law_dependence import check_tau, invert
from cm2.copulas.module import parameter
from cm2.copulas.tails import Tails
from cm2.numerics.context import Context
from cm2.numerics.elementary import LOG_HALF, exp_neg_exp_tails, log1mexp, log1pexp, log_neg_log
from cm2.numerics.roots import monotone_root

Level = Callable[[Tensor], tuple[Tensor, Tensor]]

_PAIR_STEPS = 7  # reach the last digit for alpha from 1 + 1e-12 to 50, u and p with tails down to e^-690
_STEPS = 16  # for more than one conditioning coordinate, where the slope need not be monotone
_NOWHERE = -1e15  # for log t = -inf of the empty set: acts like -inf, being far below all other values, but has finite gradients


class _Log1pTimesExp(torch.autograd.Function):
    @staticmethod
    def forward(a: Tensor, y: Tensor) -> Tensor:
        return torch.logaddexp(torch.log(a) + y, torch.zeros_like(y))

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1], output)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor, Tensor]:
        y, value = ctx.saved_tensors
        return grad * torch.exp(y - value).clamp_max(torch.finfo(y.dtype).max), -grad * torch.expm1(-value)


def log1p_times_exp(a: Tensor, y: Tensor) -> Tensor:
    r""":math:`\log(1 + ae^y)` for :math:`a \ge 0` and any real y, with the derivative in a also at :math:`a = 0`."""
    return _Log1pTimesExp.apply(*torch.broadcast_tensors(a, y))


class JoeDistribution(ArchimedeanDistribution):
    r""":math:`C(u) = 1 - \{1 - \prod_j(1 - (1-u_j)^\alpha)\}^{1/\alpha}`, :math:`\alpha \ge 1`; :math:`\psi(t) = 1-(1-e^{-t})^{1/\alpha}`.

    State: :math:`s = \log t`, which determines both :math:`z = e^{-t} = \prod_j r_j` with :math:`r_j = 1 - (1-u_j)^\alpha` and
    :math:`1 - z` to the last digit in every corner; joining adds :math:`t_j = -\log r_j`. With :math:`\theta = 1/\alpha`,
    :math:`\varepsilon = 1-\theta` and the odds :math:`x = z/(1-z)`,

    .. math:: |\psi^{(n)}(t)| = \theta(1-z)^\theta\,x\,P_n(x), \quad P_n(x) = \sum_{k=0}^{n-1} S(n, k+1)\prod_{i=1}^k(i-\theta)\,x^k
        = 1 + \varepsilon\,Q_n(x),

    S the Stirling numbers of the second kind (Hofert, Mächler, McNeil 2012, section 3.2.6); every term is positive and summed in
    logarithms, and :math:`\alpha = 1` is independence exactly:

    .. math:: \log c(u_O) = (n-1)\log\alpha + (\alpha-1)\sum_{j\in O}\log(1-u_j) - \varepsilon\log(1-z) + \log P_n(x).

    Joining a coordinate with factor r divides :math:`1/(1-z)` by :math:`e^g = 1 + x(1-r)`, and :math:`x` by :math:`e^D = e^g/r`; minus the
    logarithm of the conditional CDF is therefore, without cancellation,

    .. math:: -\log r + \varepsilon g + \log P_n(x) - \log P_n(xe^{-D}).

    It is solved for :math:`D`, in which its slope is between :math:`\varepsilon` and n; for n = 1 it is convex. Kendall's τ is
    :math:`1 + \frac2{2-\alpha}\{\digamma(2) - \digamma(2/\alpha+1)\}`, in the form of `joe_tau`; tail dependence
    :math:`(0, 2 - 2^{1/\alpha})` (Joe 2014, section 4.7). The frailty has the Sibuya distribution, drawn by the method of Hofert 2011.

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
        """Kendall's τ, shape of the batch; see `joe_tau`."""
        return joe_tau(self.excess / self.alpha)

    @property
    def tail_dependence(self) -> tuple[Tensor, Tensor]:
        """(0, 2 - 2^(1/α))."""
        return torch.zeros_like(self.alpha), -2 * torch.expm1(self.excess / self.alpha * LOG_HALF)

    def marginalise(self, present: Tensor) -> CopulaDistribution:
        """The Joe copula of the coordinates in `present`, a bool mask (dim,)."""
        law = super().marginalise(present)
        return JoeDistribution(self.alpha, law.dim, self._validate_args, self.excess) if law.dim > 1 else law

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.alpha, self.excess

    def _rebuild(self, tensors: Sequence[Tensor]) -> CopulaDistribution:
        return JoeDistribution(tensors[0], self.dim, self._validate_args, tensors[1])

    def _log_density(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor | None) -> Tensor:
        log_t = log_neg_log(*_factor(log_u, log1m_u, self.alpha.unsqueeze(-1)))
        if mask is not None:
            log_t, log1m_u = torch.where(mask, log_t, _NOWHERE), torch.where(mask, log1m_u, 0.0)
        count = self.dim if mask is None else mask.sum(-1)
        log_z, log1m_z = exp_neg_exp_tails(torch.logsumexp(log_t, -1))
        slopes = (count - 1) * torch.log1p(self.excess) + self.excess * (log1m_u.sum(-1) - log1m_z / self.alpha)
        return slopes + self._log_polynomial(log_z - log1m_z, count)

    def _log_density_at(self, u: Tensor) -> Tensor:
        r"""Two-dimensional formula for floats u that cannot overflow: with :math:`a \ge b` the two :math:`(1-u_j)^\alpha`,
        :math:`\sigma = 1 + b/a - b` and :math:`1 - z = a\sigma`,
        :math:`\log c = (\alpha-1)\sum_j\log(1-u_j) + (\theta-2)\log(a\sigma) + \log(a\sigma + \alpha - 1)`.
        """
        if self.dim > 2:
            return super()._log_density_at(u)
        log_1, log_2 = torch.log(1 - u[..., 0]), torch.log(1 - u[..., 1])
        most = torch.maximum(log_1, log_2) * self.alpha
        both = log_1 + log_2
        ratio = torch.exp(both * self.alpha - 2 * most)
        scale = torch.exp(most)
        total = 1 + ratio * (1 - scale)
        return self.excess * both + (1 / self.alpha - 2) * (most + torch.log(total)) + torch.log(scale * total + self.excess)

    def _log_polynomial(self, log_odds: Tensor, count: int | Tensor) -> Tensor:
        """log P_n(x) at log x for n = count, one integer or a tensor."""
        terms = self._coefficients(count) + _powers(self.dim, log_odds) * log_odds.unsqueeze(-1)
        return log1p_times_exp(self.excess / self.alpha, torch.logsumexp(terms, -1))

    def _coefficients(self, count: int | Tensor) -> Tensor:
        """Logarithms of the coefficients of Q_n, k = 1..dim-1, along a new last dimension."""
        steps = torch.log(_powers(self.dim, self.alpha)[:-1] + (self.excess / self.alpha).unsqueeze(-1))
        return _log_stirling(self.dim, self.alpha.dtype, self.alpha.device)[count] + torch.nn.functional.pad(steps.cumsum(-1), (1, 0))

    def _empty(self, like: Tensor) -> Tensor:
        return torch.full_like(like, _NOWHERE)

    def _join(self, state: Tensor, log_u: Tensor, log1m_u: Tensor) -> Tensor:
        return torch.logaddexp(state, log_neg_log(*_factor(log_u, log1m_u, self.alpha)))

    def _cdf(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor) -> Tensor:
        return -torch.expm1(exp_neg_exp_tails(self._fold(log_u, log1m_u, mask))[1] / self.alpha)

    def _log_ratio(self, state: Tensor, log_v: Tensor, log1m_v: Tensor, count: int) -> Tensor:
        log_z, log1m_z = exp_neg_exp_tails(state)
        log_r, log1m_r = _factor(log_v, log1m_v, self.alpha)
        fall = log1pexp(log_z - log1m_z + log1m_r)
        value = log_r - self.excess / self.alpha * fall
        if count == 1:
            return value
        after = log_z - log1m_z + log_r - fall
        return value + self._log_polynomial(after, count) - self._log_polynomial(log_z - log1m_z, count)

    def _h_at(self, u: Tensor) -> Tensor:
        first, second = (torch.log1p(-u) * self.alpha.unsqueeze(-1)).unbind(-1)
        fall = log1pexp(first - second + torch.log(-torch.expm1(second)))
        return -torch.expm1(first) * torch.exp(-self.excess / self.alpha * fall)

    def _h_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        """From log(-log h) = log(t + εg), which is accurate whether h or 1 - h has underflowed."""
        log_r, log1m_r = _factor(log_u, log1m_u, self.alpha.unsqueeze(-1))
        (log_r, given), (log1m_r, given1m) = log_r.unbind(-1), log1m_r.unbind(-1)
        log_t = log_neg_log(log_r, log1m_r)
        return exp_neg_exp_tails(log_t + log1p_times_exp(self.excess / self.alpha, _log_softplus(log1m_r + given - given1m) - log_t))

    def _quantile(self, state: Tensor, count: Tensor, log_p: Tensor, log1m_p: Tensor) -> Tails:
        log_z, log1m_z = exp_neg_exp_tails(state)
        odds, log_level = log_z - log1m_z, log_neg_log(log_p, log1m_p)
        level, epsilon = torch.exp(log_level), self.excess / self.alpha
        # upper bounds of D: the level over the initial slope of -log CDF, and D at r = p, since the conditional CDF is at most r
        upper = torch.minimum(level / torch.exp(log1m_z + log1p_times_exp(epsilon, odds)), level + log1pexp(odds + log1m_p))
        function = self._level(odds, level, None if self.dim == 2 else count)
        fall = monotone_root(function, level / count, upper, iterations=_PAIR_STEPS if self.dim == 2 else _STEPS, start=upper)
        log_r, log1m_r = _fallen(odds, fall.clamp_min(torch.finfo(fall.dtype).tiny))
        if self.dim == 2:  # for a level so small that the fall may underflow, its first order
            linear = log_level - log1p_times_exp(epsilon, odds)
            small = torch.maximum(log_level, linear + odds) < math.log(torch.finfo(level.dtype).tiny) / 2
            log_r, log1m_r = torch.where(small, -torch.exp(linear), log_r), torch.where(small, linear, log1m_r)
        return _from_factor(log_r, log1m_r, self.alpha)

    def _level(self, odds: Tensor, level: Tensor, count: Tensor | None) -> Level:
        """`level` plus the log conditional CDF after the log odds have fallen by D, and its slope in D; `count` None: n = 1."""
        epsilon, base = self.excess / self.alpha, log1pexp(odds)
        offset = 0.0 if count is None else self._log_polynomial(odds, count)

        def function(fall: Tensor) -> tuple[Tensor, Tensor]:
            log_s = logsigmoid(fall - odds)
            share = torch.exp(log_s)
            rest = -torch.expm1(-fall) * share
            t = torch.where(rest < 0.5, -torch.log1p(-rest.clamp_max(0.5)), fall - base - log_s)
            value = level - epsilon * fall - t / self.alpha
            slope = -epsilon - share / self.alpha
            if count is None:
                return value, slope
            after = odds - fall
            terms = self._coefficients(count) + _powers(self.dim, after) * after.unsqueeze(-1)
            polynomial = log1p_times_exp(epsilon, torch.logsumexp(terms, -1))
            power = (torch.softmax(terms, -1) * _powers(self.dim, after)).sum(-1)
            return value - offset + polynomial, slope + torch.expm1(-polynomial) * power

        return function

    def _frailty_tails(self, shape: Size) -> Tails:
        r"""E_j / V with V by inversion of :math:`P(V > n) = \Gamma(n+1-\theta)/\{\Gamma(n+1)\Gamma(1-\theta)\}`: this is between
        :math:`n^{-\theta}` and :math:`(n+1)^{-\theta}` over :math:`\Gamma(1-\theta)`, which leaves two integers to choose from."""
        epsilon = (self.excess / self.alpha).expand(shape[:-1])
        constant, log_level = torch.lgamma(epsilon), -torch.empty_like(epsilon).exponential_()
        log_root = -self.alpha * (log_level + constant)
        low = torch.exp(log_root.clamp_max(20)).floor().clamp_min(1)
        beyond = torch.lgamma(low + epsilon) - torch.lgamma(low + 1) - constant >= log_level
        log_v = torch.where(log_root < 20, torch.log(low + beyond), log_root)
        log_e = torch.log(torch.empty(shape, dtype=log_v.dtype, device=log_v.device).exponential_())
        return _from_factor(*exp_neg_exp_tails(log_e - log_v.unsqueeze(-1)), self.alpha.unsqueeze(-1))


def _factor(log_u: Tensor, log1m_u: Tensor, alpha: Tensor) -> Tails:
    """Tails (log r, log(1 - r)) of r = 1 - (1 - u)^alpha."""
    log_neg = log_neg_log(log1m_u, log_u) + torch.log(alpha)
    return exp_neg_exp_tails(log_neg)[1], alpha * log1m_u


def _from_factor(log_r: Tensor, log1m_r: Tensor, alpha: Tensor) -> Tails:
    """Tails of u from those of r = 1 - (1 - u)^alpha."""
    return exp_neg_exp_tails(log_neg_log(log1m_r, log_r) - torch.log(alpha))[1], log1m_r / alpha


def _fallen(odds: Tensor, fall: Tensor) -> Tails:
    """Tails of the factor r by which z is multiplied when its log odds fall by D: 1 - r = (1 - e^-D) / (1 + x e^-D)."""
    log_s = logsigmoid(fall - odds)
    log1m_r = log1mexp(-fall) + log_s
    return torch.where(log1m_r < LOG_HALF, log1mexp(log1m_r.clamp_max(LOG_HALF)), log1pexp(odds) - fall + log_s), log1m_r


def _log_softplus(x: Tensor) -> Tensor:
    low = x < -37.0
    return torch.where(low, x, torch.log(log1pexp(torch.where(low, 0.0, x))))


def _powers(dim: int, like: Tensor) -> Tensor:
    return torch.arange(1, dim, dtype=like.dtype, device=like.device)


@lru_cache
def _log_stirling(dim: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """log S(n, k + 1) for n = 0..dim and k = 1..dim-1; where S is 0, a number that acts like -inf but has finite gradients."""
    rows = [[1] + [0] * dim]
    for _ in range(dim):
        last = rows[-1]
        rows.append([0] + [k * last[k] + last[k - 1] for k in range(1, dim + 1)])
    logs = [[math.log(each) if each else _NOWHERE for each in row[2:]] for row in rows]
    return torch.tensor(logs, dtype=dtype, device=device)


_HEAD = 6  # terms of the series of Kendall's tau that are summed directly


def _tail_coefficients(order: int = 18) -> list[float]:
    """c_m = sum over j >= J of (j - 1) / (j^(m+2) (j + 1)), by the Hurwitz zeta function and partial fractions."""
    start = _HEAD + 2
    partial, found = 1 / start, []
    for m in range(order):
        whole = torch.special.zeta(torch.tensor(m + 2.0, dtype=torch.float64), start).item()
        partial = whole - partial  # sum of 1 / (j^(m+2) (j + 1))
        found.append(whole - 2 * partial)
    return found


_TAIL = _tail_coefficients()


def joe_tau(epsilon: Tensor) -> Tensor:
    r"""Kendall's τ of the Joe copula from :math:`\varepsilon = 1 - 1/\alpha` in [0, 1).

    From the series of the digamma function, with :math:`y = 1 - 2\varepsilon`,
    :math:`\tau = 2\varepsilon\sum_{j\ge2}\frac{j-1}{j(j+1)(j+y)}`: positive terms, no pole at :math:`\alpha = 2` (y = 0), no cancellation
    near independence. The terms beyond the first few are summed as a power series in y.
    """
    y = 1 - 2 * epsilon
    value = torch.full_like(y, _TAIL[-1])
    for coefficient in reversed(_TAIL[:-1]):
        value = coefficient - y * value
    for j in range(2, _HEAD + 2):
        value = value + (j - 1) / (j * (j + 1)) / (j + y)
    return 2 * epsilon * value


class Joe(ArchimedeanCopula):
    r"""Learnable Joe copula, :math:`\alpha = 1 + e^a` with :math:`a` real: a step of the optimiser changes :math:`\alpha - 1` by a factor.

    Args:
        dim: number of coordinates.
        alpha: parameter in [1, inf), may have batch dimensions; default 1.25. Exactly 1 is stored as the smallest positive excess, from
            which training does not move it.

    Raises:
        ValueError: alpha outside [1, inf).
    """

    name = "joe"

    def __init__(self, dim: int, alpha: float | Tensor = 1.25) -> None:
        super().__init__(dim)
        alpha = parameter(alpha, "joe alpha", 1.0, torch.inf, "[1, inf)")
        self.log_excess = nn.Parameter(torch.log(alpha - 1 + smallest_excess(alpha.dtype)))

    @staticmethod
    def from_kendall_tau(tau: float | Tensor, dim: int) -> dict[str, Tensor]:
        """α for τ in [0, 1) by Newton's method, raises ValueError outside; τ/(1 - τ)/(α - 1) decreases from 0.58 to 1/2."""
        tau = check_tau(tau, "joe", 0.0, closed=True)
        odds = tau.detach() / (1 - tau.detach())
        return {"alpha": 1 + invert(lambda excess: joe_tau(excess / (1 + excess)), tau, odds / 0.59, odds / 0.49)}

    @property
    def alpha(self) -> Tensor:
        """α >= 1, shape of the batch."""
        return 1 + torch.exp(self.log_excess)

    def forward(self, validate_args: bool | None = None) -> CopulaDistribution:
        """The distribution at the current α."""
        return JoeDistribution(self.alpha, self.dim, validate_args, torch.exp(self.log_excess))
