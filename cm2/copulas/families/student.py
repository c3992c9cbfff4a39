r"""The Student t copula."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Size, Tensor, nn
from torch.distributions import constraints

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.families.elliptical import EllipticalCopula, EllipticalDistribution, solve_lower, times
from cm2.copulas.families.independence import IndependenceDistribution
from cm2.copulas.module import parameter
from cm2.copulas.parameters import require_tensors
from cm2.copulas.tails import Tails, to_unit_interval
from cm2.numerics.bivariate_t import arc, bivariate_t_cdf, conditional_arc, scaled_sinh, unconditional_arc
from cm2.numerics.orthants import multivariate_t_cdf
from cm2.numerics.student_t import arc_log_tails, arc_quantile, arc_quantile_at
from cm2.numerics.student_t_integral import half_step, log_cosh


class StudentDistribution(EllipticalDistribution):
    r""":math:`C(u) = T_{R,\nu}(T_\nu^{-1}(u_1), \ldots, T_\nu^{-1}(u_d))`, the copula of :math:`X = Z\sqrt{\nu/W}`, :math:`Z \sim N(0, R)`,
    :math:`W \sim \chi^2_\nu`.

    With :math:`s_j = T_\nu^{-1}(u_j)/\sqrt\nu`, :math:`R = LL^\top` and
    :math:`K_d = \log\frac{\Gamma(\frac{\nu+d}2)\,\Gamma(\frac\nu2)^{d-1}}{\Gamma(\frac{\nu+1}2)^d}` (Demarta and McNeil 2005, equation 4),

    .. math::
        \log c(u) = K_d - \sum_i \log L_{ii} - \tfrac{\nu+d}2 \log(1 + \lVert L^{-1}s\rVert^2) + \tfrac{\nu+1}2 \sum_j \log(1 + s_j^2).

    In two dimensions :math:`\lVert L^{-1}s\rVert^2 = s_2^2 + ((s_1 - \rho s_2)/\sqrt{(1-\rho)(1+\rho)})^2`, without a matrix inverse. The
    :math:`s_j = \sinh w_j` are represented by w and divided by the largest of them, which prevents overflow in the tails. Margins have the
    same :math:`\nu`. Given n coordinates :math:`s_O` the others are again t, with :math:`\nu + n` degrees of freedom, location
    :math:`R_{\cdot O}R_{OO}^{-1}s_O` and scale matrix times :math:`(1 + s_O^\top R_{OO}^{-1}s_O)` (Ding 2016); in particular

    .. math:: h(u) = T_{\nu+1}\left(\sqrt{\nu+1}\,\frac{s_1 - \rho s_2}{\sqrt{(1-\rho)(1+\rho)(1 + s_2^2)}}\right).

    Kendall's τ is :math:`\frac2\pi\arcsin\rho`; both tail coefficients are
    :math:`2T_{\nu+1}(-\sqrt{(\nu+1)(1-\rho)/(1+\rho)})`. Everything is evaluated in float64.

    Args:
        cholesky: lower triangular, positive diagonal, rows of norm 1, (*batch, dim, dim).
        nu: degrees of freedom, above 0; its shape broadcasts with the batch of the factor.
        validate_args: see `CopulaDistribution`.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        **EllipticalDistribution.arg_constraints,
        "nu": constraints.positive,
    }

    def __init__(self, cholesky: Tensor, nu: Tensor, validate_args: bool | None = None) -> None:
        require_tensors(type(self).__name__, cholesky=cholesky, nu=nu)
        batch = torch.broadcast_shapes(cholesky.shape[:-2], nu.shape)
        self.nu = nu.expand(batch)
        super().__init__(cholesky.expand(*batch, *cholesky.shape[-2:]), batch, validate_args)

    @property
    def tail_dependence(self) -> tuple[Tensor, Tensor]:
        """(lower, upper), equal: (*batch) in two dimensions, (*batch, dim, dim) in more."""
        rho, scale, nu = self._wide()
        if self.dim > 2:
            one = torch.eye(self.dim, dtype=torch.bool, device=nu.device)
            rho, nu = torch.where(one, 0.0, self.correlation.double()), nu[..., None, None]
            scale = torch.sqrt((1 - rho) * (1 + rho))
        value = 2 * torch.exp(arc_log_tails(-torch.asinh((1 - rho) / scale), nu + 1)[0]).to(self.cholesky.dtype)
        value = value if self.dim == 2 else torch.where(one, 1.0, value)
        return value, value

    @property
    def discordant_tail_dependence(self) -> tuple[Tensor, Tensor]:
        """Coefficients in the corners (0, 1) and (1, 0), equal, (*batch): those of -ρ in the others. Only for dim 2."""
        self._require_pair("discordant_tail_dependence")
        turned = self.cholesky * (1 - 2 * torch.tril(torch.ones_like(self.cholesky), -1))
        return StudentDistribution(turned, self.nu, self._validate_args).tail_dependence

    def marginalise(self, present: Tensor) -> CopulaDistribution:
        """The t copula of the coordinates in `present`, a bool mask (dim,), with the same nu."""
        kept = self._check_subset(present)
        if len(kept) == 1:
            return IndependenceDistribution(1, self.cholesky, self.batch_shape, self._validate_args)
        return StudentDistribution(self._sub_cholesky(kept), self.nu, self._validate_args)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws, (*sample_shape, *batch, dim), differentiable in the correlations and in nu (Figurnov, Mohamed, Mnih 2018)."""
        shape, wide = self._extended_shape(Size(sample_shape)), self.cholesky.double()
        noise = times(wide, torch.randn(shape, dtype=wide.dtype, device=wide.device))
        nu = self.nu.double()
        w = arc(noise, -_log_chi(nu.expand(shape[:-1])).unsqueeze(-1))
        return to_unit_interval(*self._narrow(arc_log_tails(w, nu.unsqueeze(-1))))

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.cholesky, self.nu

    def _rebuild(self, tensors: Sequence[Tensor]) -> CopulaDistribution:
        return StudentDistribution(tensors[0], tensors[1], self._validate_args)

    def _wide(self) -> tuple[Tensor, Tensor, Tensor]:
        """(rho, sqrt(1 - rho^2), nu) of the pair in float64."""
        factor = self.cholesky.double()
        return factor[..., 1, 0], factor[..., 1, 1], self.nu.double()

    def _narrow(self, tails: Tails) -> Tails:
        return tails[0].to(self.cholesky.dtype), tails[1].to(self.cholesky.dtype)

    def _scores(self, log_u: Tensor, log1m_u: Tensor) -> Tensor:
        """The scaled quantiles w of all coordinates."""
        return arc_quantile(log_u.double(), log1m_u.double(), self.nu.double().unsqueeze(-1))

    def _log_density(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor | None) -> Tensor:
        if self.dim > 2:
            return self._log_score_density(self._scores(log_u, log1m_u), mask).to(log_u.dtype)
        log_u, log1m_u, nu = log_u.double(), log1m_u.double(), self.nu.double()
        first, second = (arc_quantile(log_u[..., j], log1m_u[..., j], nu) for j in range(2))
        return self._log_pair_density(first, second).to(self.cholesky.dtype)

    def _log_density_at(self, u: Tensor) -> Tensor:
        nu, wide = self.nu.double(), u.double()
        if self.dim > 2:
            return self._log_score_density(arc_quantile_at(wide, nu.unsqueeze(-1)), None).to(u.dtype)
        first, second = (arc_quantile_at(each.contiguous(), nu) for each in wide.unbind(-1))
        return self._log_pair_density(first, second).to(u.dtype)

    def _log_pair_density(self, first: Tensor, second: Tensor) -> Tensor:
        rho, scale, nu = self._wide()
        top = torch.maximum(first.detach().abs(), second.detach().abs())  # a scale that cancels, hence without gradient
        x, y = scaled_sinh(first, top), scaled_sinh(second, top)
        residual = (x - rho * y) / scale
        joint = torch.log(torch.exp(-2 * top) + y * y + residual * residual)
        margins = log_cosh(first) + log_cosh(second)
        return margins * (nu + 1) - (joint + 2 * top) * (nu / 2 + 1) + (log_normalisers(nu, 2)[..., -1] - torch.log(scale))

    def _log_score_density(self, w: Tensor, mask: Tensor | None) -> Tensor:
        """Log density of the margin over `mask` from w, (..., dim)."""
        nu = self.nu.double()
        w = w if mask is None else torch.where(mask, w, 0.0)
        factor = self.cholesky.double() if mask is None else self._masked_cholesky(mask).double()
        top = w.abs().amax(-1).detach()
        white = solve_lower(factor, scaled_sinh(w, top.unsqueeze(-1)))
        joint = torch.log(torch.exp(-2 * top) + white.square().sum(-1)) + 2 * top
        count = torch.full((), self.dim, device=w.device) if mask is None else mask.sum(-1)
        constants = log_normalisers(nu, self.dim).expand(*w.shape[:-1], -1)
        constant = constants.gather(-1, count.expand(w.shape[:-1]).unsqueeze(-1)).squeeze(-1)
        constant = constant - torch.log(factor.diagonal(dim1=-2, dim2=-1)).sum(-1)
        return constant + (nu + 1) * log_cosh(w).sum(-1) - (nu + count) / 2 * joint

    def _cdf_and_error(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        w, nu = self._scores(log_u, log1m_u), self.nu.double()
        if self.dim > 2:
            return self._narrow(multivariate_t_cdf(torch.where(mask, w, torch.inf), self.cholesky.double(), nu))
        u, v = torch.where(mask, torch.exp(log_u.double()), 1.0).unbind(-1)
        rho, scale, _ = self._wide()
        first, second = w.unbind(-1)
        value = torch.where(mask.all(-1), bivariate_t_cdf(u, v, first, second, rho, scale, nu), u * v)
        return self._narrow((value, torch.zeros_like(value)))

    def _h_at(self, u: Tensor) -> Tensor:
        rho, scale, nu = self._wide()
        first, second = (arc_quantile_at(each.double().contiguous(), nu) for each in u.unbind(-1))
        return torch.exp(arc_log_tails(conditional_arc(first, second, rho, scale), nu + 1)[0]).to(u.dtype)

    def _h_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        log_u, log1m_u = log_u.double(), log1m_u.double()
        rho, scale, nu = self._wide()
        first, second = (arc_quantile(log_u[..., j], log1m_u[..., j], nu) for j in range(2))
        return self._narrow(arc_log_tails(conditional_arc(first, second, rho, scale), nu + 1))

    def rosenblatt_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        r"""Coordinate k is :math:`T_{\nu+k}(\sqrt{\nu+k}\,e_k/\sqrt{1 + e_0^2 + \ldots + e_{k-1}^2})` with :math:`e = L^{-1}s`."""
        w, nu = self._scores(log_u, log1m_u), self.nu.double()
        top = w.abs().amax(-1, keepdim=True).detach()
        white = solve_lower(self.cholesky.double(), scaled_sinh(w, top))
        before = torch.exp(-2 * top) + torch.cumsum(white.square(), -1)[..., :-1]
        known = torch.arange(1, self.dim, dtype=nu.dtype, device=nu.device)
        later = arc_log_tails(torch.asinh(white[..., 1:] / torch.sqrt(before)), nu.unsqueeze(-1) + known)
        first = [each[..., :1].double().expand(w[..., :1].shape) for each in (log_u, log1m_u)]
        return self._narrow((torch.cat([first[0], later[0]], -1), torch.cat([first[1], later[1]], -1)))

    def _h_quantile(self, p: Tails, given: Tails) -> Tails:
        rho, scale, nu = self._wide()
        draw = arc_quantile(p[0].double(), p[1].double(), nu + 1)
        second = arc_quantile(given[0].double(), given[1].double(), nu)
        return self._narrow(arc_log_tails(unconditional_arc(draw, second, rho, scale), nu))

    def _conditional_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor) -> Tails:
        nu, factor, matrix = self.nu.double(), self.cholesky.double(), self.correlation.double()
        w = torch.where(present, self._scores(log_u, log1m_u), 0.0)
        top = w.abs().amax(-1, keepdim=True).detach()
        s = torch.where(present, scaled_sinh(w, top), 0.0)
        noise = times(factor, torch.randn(w.shape, dtype=w.dtype, device=w.device))
        known = self._masked_cholesky(present).double()
        solve = lambda b: torch.cholesky_solve(torch.where(present, b, 0.0).unsqueeze(-1), known).squeeze(-1)
        weights = solve(s)
        form = (s * weights).sum(-1, keepdim=True)
        spread = noise - times(matrix, solve(noise))  # Matheron's rule: 0 in the observed coordinates, conditional normal in the others
        count = present.sum(-1)
        log_scale = torch.log(torch.exp(-2 * top) + form) / 2 - _log_chi((nu + count).expand(w.shape[:-1])).unsqueeze(-1)
        x = times(matrix, weights) + spread * torch.exp(log_scale)
        return self._narrow(arc_log_tails(arc(x, top), nu.unsqueeze(-1)))


def log_normalisers(nu: Tensor, dim: int) -> Tensor:
    r"""Constants :math:`K_0, \ldots, K_d` of the density along a new last dimension.

    :math:`K_n = \sum_{j=1}^{n-1}\{r(a + \frac j2) - r(a)\}` with :math:`a = \frac\nu2` and
    :math:`r(a) = \log\Gamma(a+\frac12) - \log\Gamma(a)`; as nu grows it tends to 0 without cancellation.
    """
    nu = nu.unsqueeze(-1)
    j = torch.arange(-1, dim, dtype=nu.dtype, device=nu.device).clamp_min(0)
    steps = half_step((nu + j) / 2)
    return torch.cumsum(torch.log1p(j / nu) / 2 + (steps - steps[..., :1]), -1)


def _log_chi(dof: Tensor) -> Tensor:
    """Half the logarithm of chi-squared draws, differentiable in the degrees of freedom."""
    return torch.log(2 * torch._standard_gamma(dof / 2)) / 2


class Student(EllipticalCopula):
    r"""Learnable t copula; correlations as in `EllipticalCopula`, :math:`\nu = e^a` with a real.

    Args:
        dim: number of coordinates.
        rho: correlation in (-1, 1), dim 2 only; may have batch dimensions.
        correlation: positive definite correlation matrix (*batch, dim, dim); by default every correlation starts at 0.1.
        nu: degrees of freedom in (0, inf), a number or a tensor of the batch's shape.

    Raises:
        ValueError: nu outside (0, inf), or as `EllipticalCopula`.
    """

    name = "student"
    contains = ("gaussian", "independence")  # as nu grows
    # where ranks coincide the likelihood has no maximum as nu falls to 0; above the upper limit the law is Gaussian to many digits
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {**EllipticalCopula.limits, "log_nu": (0.0, math.log(1e6))}

    def __init__(self, dim: int, rho: float | Tensor | None = None, correlation: Tensor | None = None, nu: float | Tensor = 8.0) -> None:
        super().__init__(dim, rho, correlation)
        nu = parameter(nu, "student nu", 0.0, torch.inf, "(0, inf)").to(self.raw.device)
        batch = torch.broadcast_shapes(self.raw.shape[:-1], nu.shape)
        self.log_nu = nn.Parameter(torch.log(nu).to(self.raw.dtype).expand(batch).clone())
        self.shown = (*self.shown, "nu")

    @property
    def nu(self) -> Tensor:
        """ν, shape of the batch."""
        return torch.exp(self.log_nu)

    def forward(self, validate_args: bool | None = None) -> CopulaDistribution:
        """The distribution at the current parameters."""
        return StudentDistribution(self.cholesky, self.nu, validate_args)
