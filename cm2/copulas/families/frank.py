r"""The Frank copula."""

from functools import lru_cache
from typing import ClassVar

import torch
from torch import Size, Tensor, nn
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.families.archimedean import ArchimedeanCopula, ArchimedeanDistribution
from cm2.copulas.law_dependence import check_tau, invert, unit_integral
from cm2.copulas.module import parameter
from cm2.copulas.tails import Tails, many
from cm2.errors import InputError
from cm2.numerics.elementary import LOG_HALF, exp_neg_exp_tails, langevin, log1mexp, log1pexp, log_expc, log_neg_log
from cm2.numerics.roots import monotone_root


class FrankDistribution(ArchimedeanDistribution):
    r""":math:`C(u) = -\frac1\alpha\log\{1 - p\prod_j r_j\}`, :math:`p = 1 - e^{-\alpha}`, :math:`r_j = (1 - e^{-\alpha u_j})/p`.

    Any real :math:`\alpha` in two dimensions (the density is smooth through 0, independence), :math:`\alpha > 0` in more;
    :math:`\psi(t) = -\frac1\alpha\log(1 - pe^{-t})`.

    State: :math:`w = -\alpha C`, at first :math:`-\alpha`; joining is :math:`e^{w'} = r_je^w + (1 - r_j)`, all terms positive. With
    :math:`\phi(x) = (1-e^{-x})/x`, smooth and positive for all real x,

    .. math:: r = \frac{u\,\phi(\alpha u)}{\phi(\alpha)}, \qquad 1 - r = e^{-\alpha u}\frac{(1-u)\,\phi(\alpha(1-u))}{\phi(\alpha)}.

    Derivatives of the generator are polylogarithms, :math:`|\psi^{(n)}(t)| = \mathrm{Li}_{1-n}(z)/\alpha` at :math:`z = pe^{-t} = 1 - e^w`,
    and these are rational, :math:`\mathrm{Li}_{-m}(z) = zA_m(z)/(1-z)^{m+1}` with the Eulerian polynomials :math:`A_m`, whose coefficients
    are positive. Hence (Hofert, Mächler, McNeil 2012, section 3.2.4)

    .. math:: \log c(u_O) = \log A_{n-1}(z) - (n-1)\log\phi(\alpha) - nw - \alpha\sum_{j\in O}u_j .

    The conditional CDF :math:`\mathrm{Li}_{1-n}(z')/\mathrm{Li}_{1-n}(z)` is inverted for the logit of :math:`z'`, in which its logarithm
    has a slope between 1 and n; this brackets the root. Draws for negative :math:`\alpha` use symmetry: :math:`(U_1, U_2)` is distributed
    as :math:`(1 - U_1, U_2)` under :math:`-\alpha`. Kendall's τ is :math:`1 - \frac4\alpha(1 - D_1(\alpha))` with Debye's function,
    computed as :math:`\frac4\alpha\int_0^1 (\frac{\alpha s}2\coth\frac{\alpha s}2 - 1)\,ds`; no tail dependence (Nelsen 2006, example 5.3).
    The frailty has the logarithmic series distribution, drawn by the method of Kemp 1981.

    Args:
        alpha: the parameter, shape of the batch.
        dim: number of coordinates.
        validate_args: see `CopulaDistribution`.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"alpha": constraints.real}

    def _ranges(self) -> dict[str, constraints.Constraint]:
        return self.arg_constraints if self.dim == 2 else {"alpha": constraints.nonnegative}

    @property
    def kendall_tau(self) -> Tensor:
        """Kendall's τ, shape of the batch."""
        return _kendall_tau(self.alpha)

    @property
    def spearman_rho(self) -> Tensor:
        r"""Spearman's ρ, :math:`1 - \frac{12}\alpha(D_1 - D_2)` computed as :math:`6\int_0^1 s(2s-1)\{\coth\frac{\alpha s}2 -
        \frac2{\alpha s}\}ds`, shape of the batch.
        """
        half = self.alpha.unsqueeze(-1) / 2
        return unit_integral(lambda s: 6 * s * (2 * s - 1) * langevin(half * s), self.alpha)

    @property
    def tail_dependence(self) -> tuple[Tensor, Tensor]:
        """(0, 0)."""
        return torch.zeros_like(self.alpha), torch.zeros_like(self.alpha)

    def _log_density(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor | None) -> Tensor:
        if self.dim == 2:
            return self._log_pair_density(log_u, log1m_u)
        state = self._fold(log_u, log1m_u, mask)
        u = torch.exp(log_u) if mask is None else torch.where(mask, torch.exp(log_u), 0.0)
        count = self.dim if mask is None else mask.sum(-1)
        value = -(count - 1) * log_expc(self.alpha) - count * state - self.alpha * u.sum(-1)
        return value + torch.log(_eulerian_terms(-torch.expm1(state), count, self.dim)[0])

    def _log_pair_density(self, log_u: Tensor, log1m_u: Tensor) -> Tensor:
        """The density with w written out, e^w = (e^(-αu) v φ(αv) + e^(-αv) (1 - v) φ(α(1 - v))) / φ(α)."""
        u, (log_v, log1m_v) = torch.exp(log_u[..., 0]), (log_u[..., 1], log1m_u[..., 1])
        v, rest = torch.exp(log_v), torch.exp(log1m_v)
        alpha_u, alpha_v = self.alpha * u, self.alpha * v
        total = torch.logaddexp(log_v + log_expc(alpha_v) - alpha_u, log1m_v + log_expc(self.alpha * rest) - alpha_v)
        return log_expc(self.alpha) - 2 * total - alpha_u - alpha_v

    def _log_density_at(self, u: Tensor) -> Tensor:
        r"""Fast formula for many points on the host and one moderate alpha: with :math:`a = e^{-\alpha u}`, :math:`b = e^{-\alpha v}` and
        :math:`D = a + b - ab - e^{-\alpha}` the density is :math:`\alpha(1-e^{-\alpha})\,ab/D^2`; it loses precision only as
        :math:`1/\alpha` grows.
        """
        if self.dim > 2 or not many(u, self.alpha) or u.dtype != torch.float64 or not 0.01 < abs(self.alpha.item()) < 100:
            return super()._log_density_at(u)
        a, b = (u * (self.alpha / LOG_HALF)).exp2_().unbind(-1)
        product = a * b
        root = (a + b).sub_(product).sub_(torch.exp(-self.alpha))
        return product.div_(root.square_()).log_().add_(torch.log(-torch.expm1(-self.alpha) * self.alpha))

    def _h_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        r"""From the odds :math:`h/(1-h) = e^{\alpha(u-v)}\,u\,\phi(\alpha u) / \{(1-u)\,\phi(\alpha(1-u))\}`, exact for any real alpha."""
        (log_first, log_second), log1m_first = log_u.unbind(-1), log1m_u[..., 0]
        u = torch.exp(log_first)
        shape = log_expc(self.alpha * u) - log_expc(self.alpha * torch.exp(log1m_first))
        logit = log_first - log1m_first + self.alpha * (u - torch.exp(log_second)) + shape
        return logsigmoid(logit), logsigmoid(-logit)

    def _h_at(self, u: Tensor) -> Tensor:
        r"""The odds of `_h_tails` without logarithms of u. With :math:`a = |\alpha|`, :math:`e^{\alpha(u-v)}` and
        :math:`e^{a(2u-1)}` are taken together where :math:`\alpha < 0`: either alone would overflow.
        """
        first, second = u.unbind(-1)
        size = self._size()
        ratio = torch.expm1(first * -size) / torch.expm1((first - 1) * size)
        shift = torch.where(self.alpha < 0, first + second - 1, first - second)
        return torch.sigmoid(shift * size + torch.log(ratio))

    def _log_factors(self, log_u: Tensor, log1m_u: Tensor, stacked: bool = False) -> Tails:
        """(log r, log(1 - r)); `stacked` if the last dimension is that of the coordinates."""
        alpha = self.alpha.unsqueeze(-1) if stacked else self.alpha
        u, rest, scale = torch.exp(log_u), torch.exp(log1m_u), log_expc(alpha)
        return log_u + log_expc(alpha * u) - scale, log1m_u + log_expc(alpha * rest) - alpha * u - scale

    def _empty(self, like: Tensor) -> Tensor:
        return torch.zeros_like(like) - self.alpha

    def _join(self, state: Tensor, log_u: Tensor, log1m_u: Tensor) -> Tensor:
        log_r, log1m_r = self._log_factors(log_u, log1m_u)
        return torch.logaddexp(state + log_r, log1m_r)

    def _cdf(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor) -> Tensor:
        r""":math:`C = Q/\phi(y)`, :math:`Q = (1 - e^w)/\alpha = \phi(\alpha)\prod_j r_j` and :math:`y = \alpha C = -\log(1 - \alpha Q)`.

        Accurate, with its derivative, for small alpha and for small C; for larger αQ the fold gives y.
        """
        factors = torch.where(mask, self._log_factors(log_u, log1m_u, stacked=True)[0], 0.0).sum(-1)
        log_q = log_expc(self.alpha) + factors
        log_z = log_q + torch.log(self.alpha.abs())
        low = -log1mexp(log_z.clamp_max(LOG_HALF))
        positive = torch.where(log_z < LOG_HALF, low, -self._fold(log_u, log1m_u, mask))
        return torch.exp(log_q - log_expc(torch.where(self.alpha < 0, -log1pexp(log_z), positive)))

    def _log_ratio(self, state: Tensor, log_v: Tensor, log1m_v: Tensor, count: int) -> Tensor:
        log_r, log1m_r = self._log_factors(log_v, log1m_v)
        after = torch.logaddexp(state + log_r, log1m_r)
        value = log_r + count * (state - after)
        if count == 1:
            return value
        top, bottom = (_eulerian_terms(-torch.expm1(each), count, self.dim)[0] for each in (after, state))
        return value + torch.log(top) - torch.log(bottom)

    def _quantile(self, state: Tensor, count: Tensor, log_p: Tensor, log1m_p: Tensor) -> Tails:
        if self.dim == 2:
            total = torch.logaddexp(log_p, log1m_p + state)
            log_r, log1m_r, negative = log_p - total, log1m_p + state - total, self.alpha < 0
            low, high = torch.where(negative, log1m_r, log_r), torch.where(negative, log_r, log1m_r)
            low, high = _factor_tails(low, high, self._size())
            return torch.where(negative, high, low), torch.where(negative, low, high)
        # a CDF that underflows leaves a state of 0; the conditional distribution reaches its limit long before, so any tiny state will do
        state = state.clamp_max(-torch.finfo(state.dtype).tiny)
        log_z = log1mexp(state)
        delta = _polylogarithm_root(log_z - state, count, log_p, self.dim)
        logit = log_z - state - delta
        return _factor_tails(logsigmoid(logit) - log_z, logsigmoid(-logit) + log1mexp(-delta), self._size())

    def _frailty_tails(self, shape: Size) -> Tails:
        """E_j / V with V from the logarithmic series distribution: V = floor(1 + log U_2 / log(1 - e^(-alpha U_1)))."""
        size = self._size()
        exponent = -size * torch.rand(shape[:-1], dtype=size.dtype, device=size.device)
        ratio = torch.log(torch.empty_like(exponent).exponential_()) - log_neg_log(log1mexp(exponent), exponent)
        log_v = torch.where(ratio < 30, torch.log(torch.floor(1 + torch.exp(ratio.clamp_max(30)))), ratio)
        log_e = torch.log(torch.empty(shape, dtype=size.dtype, device=size.device).exponential_())
        low, high = _factor_tails(*exp_neg_exp_tails(log_e - log_v.unsqueeze(-1)), size.unsqueeze(-1))
        if self.dim > 2:
            return low, high
        first = torch.arange(2, device=size.device) == 0
        turned = first & (self.alpha < 0).unsqueeze(-1)
        return torch.where(turned, high, low), torch.where(turned, low, high)

    def _size(self) -> Tensor:
        """|alpha|, or the smallest positive float instead of 0: the distribution is the same to the last digit."""
        return self.alpha.abs() + torch.finfo(self.alpha.dtype).tiny


def _factor_tails(log_r: Tensor, log1m_r: Tensor, alpha: Tensor) -> Tails:
    r"""Tails of u from those of :math:`r = (1 - e^{-\alpha u})/(1 - e^{-\alpha})`, alpha > 0.

    :math:`\alpha u = -\log(1 - rp)` and :math:`\alpha(1-u) = -\log\{1 - (1-r)pe^{\alpha u}\}`, each in the form that does not cancel.
    """
    log_p, log_alpha = log1mexp(-alpha), torch.log(alpha)
    below = log_r + log_p
    state = torch.where(below < LOG_HALF, log1mexp(below.clamp_max(LOG_HALF)), torch.logaddexp(log1m_r, log_r - alpha))
    above = log1m_r + log_p - state
    rest = torch.where(above < LOG_HALF, log1mexp(above.clamp_max(LOG_HALF)), -alpha - state)
    low, high = log_neg_log(state, below) - log_alpha, log_neg_log(rest, above) - log_alpha
    # a difference of logarithms has only absolute accuracy, too little for the tail log u or log(1 - u) near 0: take it from the other one
    smaller = torch.minimum(low, high)
    larger = log1mexp(smaller)
    return torch.where(low < high, smaller, larger), torch.where(low < high, larger, smaller)


def _eulerian(order: int) -> tuple[tuple[float, ...], ...]:
    """Coefficients of A_0..A_(order-1), each padded to `order`: A(m, k) = (k + 1) A(m-1, k) + (m - k) A(m-1, k-1)."""
    rows = [[1.0] + [0.0] * (order - 1)]
    for m in range(1, order):
        last = [*rows[-1], 0.0]
        rows.append([(k + 1) * last[k] + (m - k) * last[k - 1] if k < m else 0.0 for k in range(order)])
    return tuple(tuple(row) for row in rows)


@lru_cache
def _eulerian_table(order: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # cached per device: a copy from the host in every call would make it wait
    return torch.tensor(_eulerian(order), dtype=dtype, device=device)


def _eulerian_terms(z: Tensor, count: int | Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """A_(count-1)(z) and z A'_(count-1)(z)."""
    table = _eulerian_table(dim, z.dtype, z.device)
    powers = torch.arange(dim, dtype=z.dtype, device=z.device)
    terms = table[count - 1] * z.unsqueeze(-1) ** powers
    return terms.sum(-1), (terms * powers).sum(-1)


def _polylogarithm_root(logit: Tensor, count: Tensor, log_p: Tensor, dim: int) -> Tensor:
    """The decrease of the logit of z by which Li_(1-count)(z) decreases by the factor p."""

    def log_polylogarithm(at: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.sigmoid(at)
        value, slope = _eulerian_terms(z, count, dim)
        return at + torch.log(value) - (count - 1) * logsigmoid(-at), 1 + (count - 1) * z + (1 - z) * slope / value

    start = log_polylogarithm(logit)[0] + log_p

    def level(delta: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = log_polylogarithm(logit - delta)
        return value - start, -slope

    return monotone_root(level, -log_p / count, -log_p, iterations=12)


def _kendall_tau(alpha: Tensor) -> Tensor:
    half = alpha.unsqueeze(-1) / 2
    return unit_integral(lambda s: 2 * s * langevin(half * s), alpha)


class Frank(ArchimedeanCopula):
    r"""Learnable Frank copula. In two dimensions alpha itself is learned and may cross 0; in more :math:`\alpha = e^a` with a real.

    Args:
        dim: number of coordinates.
        alpha: parameter, not 0, and positive for dim above 2; may have batch dimensions; default 0.5.

    Raises:
        ValueError: alpha outside its range.
    """

    name = "frank"

    def __init__(self, dim: int, alpha: float | Tensor = 0.5) -> None:
        super().__init__(dim)
        if dim == 2:
            alpha = parameter(alpha, "frank alpha", -torch.inf, torch.inf, "(-inf, inf)")
            if (alpha == 0).any():
                raise InputError("frank alpha is 0; it must lie in (-inf, 0) or (0, inf): for independence make('independence', dim)")
            self.raw = nn.Parameter(alpha)
        else:
            self.raw = nn.Parameter(torch.log(parameter(alpha, f"frank alpha in dim {dim}", 0.0, torch.inf, "(0, inf)")))

    @staticmethod
    def kendall_tau_range(dim: int) -> tuple[float, float]:
        """(-1, 1) in two dimensions, (0, 1) in more."""
        return (-1.0 if dim == 2 else 0.0), 1.0

    @staticmethod
    def from_kendall_tau(tau: float | Tensor, dim: int) -> dict[str, Tensor]:
        """α at which Kendall's τ is `tau`, in (-1, 1) and not 0, positive for dim above 2; raises ValueError outside.

        By root finding between :math:`9\\tau` and :math:`4/(1-\\tau)`, because τ < α/9 and 1 - τ < 4/α.
        """
        tau = check_tau(tau, "frank", -1.0 if dim == 2 else 0.0)
        size = tau.detach().abs()
        root = invert(_kendall_tau, tau.abs(), 9 * size * (1 - 1e-6), 4 / (1 - size))
        return {"alpha": torch.where(tau < 0, -root, root)}

    @property
    def alpha(self) -> Tensor:
        """α, shape of the batch."""
        return self.raw if self.dim == 2 else torch.exp(self.raw)

    def forward(self, validate_args: bool | None = None) -> CopulaDistribution:
        """The distribution at the current α."""
        return FrankDistribution(self.alpha, self.dim, validate_args)
