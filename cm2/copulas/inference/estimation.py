"""Parameter estimation: maximum likelihood and inversion of Kendall's tau, with standard errors."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from cm2.config.names import choose
from cm2.copulas.inference.likelihood import (
    Fittable,
    LogLikelihood,
    covariance_of,
    limits_of,
    natural_parameters,
    rank_covariance_of,
    raw_of,
    set_raw,
    standard_errors_of,
)
from cm2.copulas.sample_dependence import kendall_terms, mid_ranks, pairs_of
from cm2.errors import InputError
from cm2.numerics.maximise import hessian_of, maximise, maximise_scalar

METHODS = ("maximum_likelihood", "kendall_tau")
_ENOUGH, _SHARE = 16_384, 16  # from this sample size on, the start is the fit to every sixteenth point
_NEAR_ONE, _NEAR_ZERO = 1 - 1e-5, 1e-9  # the search for a single parameter is restricted to these values of tau


@dataclass(frozen=True)
class Fit:
    r"""Report of a fit; the estimate is also set in the module.

    Attributes:
        name: family.
        method: "maximum_likelihood" or "kendall_tau".
        n: number of points.
        n_parameters: number of free parameters.
        log_likelihood: log-likelihood of the sample at the estimate.
        parameters: natural parameters by name, floats or tensors.
        standard_errors: standard errors by name, from the observed information, or for "kendall_tau" by the delta method from the error
            of the sample's tau. NaN at the boundary and if the information is singular.
        converged: whether the iteration converged.
        at_boundary: whether the estimate is at the end of its range, for example for a family of positive dependence on negatively
            dependent data: the family is then the wrong one, or the sample is independent.
        evaluations: passes over the sample.
    """

    name: str
    method: str
    n: int
    n_parameters: int
    log_likelihood: float
    parameters: dict[str, float | Tensor]
    standard_errors: dict[str, float | Tensor]
    converged: bool = True
    at_boundary: bool = False
    evaluations: int = 0

    @property
    def doubtful(self) -> bool:
        """Whether the estimate is no maximum inside its range: the search did not converge, or ended at a boundary."""
        return self.at_boundary or not self.converged

    @property
    def aic(self) -> float:
        """Akaike's criterion, 2k - 2 log L; smaller is better."""
        return 2 * self.n_parameters - 2 * self.log_likelihood

    @property
    def bic(self) -> float:
        """Schwarz's criterion, k log n - 2 log L; smaller is better."""
        return self.n_parameters * math.log(self.n) - 2 * self.log_likelihood


@torch.enable_grad()  # the score is needed even if the caller has disabled gradients
def fit(copula: Fittable, u: Tensor, method: str = "maximum_likelihood", standard_errors: bool = True, ranks: bool = False) -> Fit:
    r"""Estimates a copula's parameters from a sample and sets them in the module.

    Maximum likelihood: one parameter by the root of the score, started at Kendall's tau; several by BFGS, started at Kendall's tau if it
    determines them, else at the current values (a vine: at its sequential estimate, pair by pair). Large samples are first fitted on
    every sixteenth point; with the start and the curvature from that fit, three or four passes over the whole sample remain. The inverse
    of the observed information is transformed to the natural parameters by the delta method. All computations are in float64, whatever
    the module's dtype.

    Kendall's tau: the family's map inverted at the sample's tau (a matrix of them for correlations; for exchangeable families in more
    dimensions, the mean over the pairs). Parameters that tau does not determine, such as degrees of freedom, are not changed.

    Args:
        copula: the module; its parameters are overwritten. They must have no batch dimension: fit batches one by one.
        u: sample of uniforms, (n, dim), in (0, 1); for data use `pseudo_observations`.
        method: one of `METHODS`.
        standard_errors: False to skip them (NaN); for k parameters they cost 2k passes if k > 1.
        ranks: whether u are ranks of data with unknown margins. The estimate is the same; its standard errors include the error of the
            ranks (Genest, Ghoudi, Rivest 1995), at the cost of another 2k passes. Those by "kendall_tau" need no correction.

    Raises:
        ValueError: unknown method; parameters with batch dimensions; a sample of the wrong shape, too small, with NaN, with values outside
            (0, 1) or a constant column; "kendall_tau" for a family whose parameters tau does not determine.
    """
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}; {choose(method, METHODS)}")
    if copula(validate_args=False).batch_shape:
        raise InputError(f"the {copula.name} copula has parameters of batch shape {tuple(copula().batch_shape)}; fit them one by one")
    u = check_sample(u, copula.dim, sum(each.numel() for each in copula.parameters()))
    work = copy.deepcopy(copula).double()
    report = _by_likelihood(work, u, standard_errors, ranks) if method == "maximum_likelihood" else _by_tau(work, u, standard_errors)
    with torch.no_grad():
        for own, found in zip(copula.parameters(), work.parameters(), strict=True):
            own.copy_(found)
    return report


def pseudo_observations(x: Tensor) -> Tensor:
    """Ranks over n + 1, column by column, (n, dim) in float64: turns a sample with any margins into one of the copula (Genest et al. 1995).

    Tied values get the mean of their ranks, so that the order of the rows does not matter; many ties (a discrete column) bias a fit.

    Raises:
        ValueError: not a matrix (n, dim), or NaN.
    """
    if x.dim() != 2:
        raise InputError(f"x has shape {tuple(x.shape)}; give a sample (n, dim)")
    if x.isnan().any():
        raise InputError("x holds NaN; drop or impute those rows first")
    return torch.stack([mid_ranks(column) for column in x.unbind(-1)], -1) / (len(x) + 1)


def check_sample(u: Tensor, dim: int | None, n_parameters: int) -> Tensor:
    """Checks a sample of uniforms (n, dim) and returns it in float64.

    Raises:
        ValueError: the wrong shape, too few rows, NaN, values outside (0, 1), or a constant column.
    """
    if u.dim() != 2 or u.shape[1] < 2 or (dim is not None and u.shape[1] != dim):
        raise InputError(f"u has shape {tuple(u.shape)}; give a sample (n, {'dim' if dim is None else dim}), one row per point")
    least = max(5, n_parameters + 2)
    if len(u) < least:
        raise InputError(f"u has {len(u)} rows; a fit of {n_parameters} parameters needs at least {least}")
    low, high = (each.tolist() for each in torch.aminmax(u, dim=0))
    for column, (least, most) in enumerate(zip(low, high, strict=True)):
        if math.isnan(least):
            raise InputError(f"column {column} of u holds NaN; drop those rows first")
        if least <= 0 or most >= 1:
            raise InputError(
                f"column {column} of u holds {least if least <= 0 else most:g}, outside (0, 1); map data to uniforms by pseudo_observations"
            )
        if least == most:
            raise InputError(f"column {column} of u is constant ({least:g}); it has no dependence to fit, leave it out")
    return u.detach().double()


def _by_likelihood(copula: Fittable, u: Tensor, standard_errors: bool, ranks: bool) -> Fit:
    count = sum(each.numel() for each in copula.parameters())
    if count == 0:
        with torch.no_grad():
            return _report(copula, "maximum_likelihood", len(u), copula(validate_args=False).log_prob(u).sum().item(), None)
    places = _start(copula, u)
    few = u[::_SHARE] if len(u) >= _ENOUGH else None
    if count == 1 and places is not None:
        return _scalar(copula, u, few, places, standard_errors and ranks)
    return _vector(copula, u, few, standard_errors, ranks)


def _start(copula: Fittable, u: Tensor) -> tuple[float, float, float] | None:
    """Sets the parameters that Kendall's tau determines; returns `_raw_places`, or None for several parameters or no map from tau."""
    family, dim = type(copula), copula.dim
    if not _has_map(family, dim):
        copula._start_at(u)
        return None
    few = u[:: max(1, len(u) // 2000)]  # precise enough for a start
    try:
        tau = _fitting_tau(copula, kendall_terms(few).mean(0)).clamp(*_tau_ends(family, dim))
        _set(copula, copula.from_kendall_tau(tau, dim))
    except ValueError:  # no member of the family has these taus, e.g. a matrix that is not positive definite: start as is
        return None
    return _raw_places(family, dim) if sum(each.numel() for each in copula.parameters()) == 1 else None


@lru_cache
def _has_map(family: type[Fittable], dim: int) -> bool:
    try:
        return bool(family.from_kendall_tau(torch.tensor(0.2, dtype=torch.float64), dim))
    except ValueError:
        return False


@lru_cache
def _raw_places(family: type[Fittable], dim: int) -> tuple[float, float, float]:
    """Raw parameter of a one-parameter family at the lower end of the range of tau, at 0.2, and at the upper end."""
    low, high = _tau_ends(family, dim)
    values = [family.from_kendall_tau(torch.tensor(tau, dtype=torch.float64), dim) for tau in (low, 0.2, high)]
    lower, inner, upper = (raw_of(family(dim, **each))[0].item() for each in values)
    return lower, inner, upper


def _tau_ends(family: type[Fittable], dim: int) -> tuple[float, float]:
    lower, upper = family.kendall_tau_range(dim)
    return max(lower, -_NEAR_ONE) if lower < 0 else _NEAR_ZERO, min(upper, _NEAR_ONE)


def _fitting_tau(copula: Fittable, tau: Tensor) -> Tensor:
    """The matrix of the pairs' taus if the family has one parameter per pair, else their mean."""
    if copula(validate_args=False).kendall_tau.dim() == 0:
        return tau.mean()
    matrix = torch.eye(copula.dim, dtype=tau.dtype, device=tau.device)
    rows, columns = torch.tensor(pairs_of(copula.dim), device=tau.device).unbind(-1)
    return matrix.index_put((rows, columns), tau).index_put((columns, rows), tau)


def _set(copula: Fittable, parameters: dict[str, Tensor]) -> None:
    """Sets natural parameters of a module; those not named are not changed."""
    known = {name: getattr(copula, name).detach() for name in copula.shown} | {k: v.detach() for k, v in parameters.items()}
    with torch.no_grad():
        for own, found in zip(copula.parameters(), type(copula)(copula.dim, **known).parameters(), strict=True):
            own.copy_(found)


def _scalar(copula: Fittable, u: Tensor, few: Tensor | None, places: tuple[float, float, float], ranks: bool) -> Fit:
    def along(sample: Tensor) -> Callable[[float], tuple[float, float]]:
        likelihood = LogLikelihood(copula, sample)

        def evaluate(x: float) -> tuple[float, float]:
            value, gradient = likelihood(np.array([x]))
            return value / len(sample), float(gradient[0]) / len(sample)

        return evaluate

    lower, inner, upper = places
    start = min(max(raw_of(copula)[0].item(), lower), upper)
    first, tolerance = (along(u), 1e-9) if few is None else (along(few), 1e-5)
    found = maximise_scalar(first, start, lower, upper, tolerance=tolerance)
    if found.at_boundary:  # tau and the likelihood may disagree about the sign of dependence: search from an interior start as well
        found = max(found, maximise_scalar(first, inner, lower, upper, tolerance=tolerance), key=lambda each: each.value)
    if few is not None:
        curvature = None if found.at_boundary else found.curvature
        found = maximise_scalar(along(u), found.point, lower, upper, curvature)
    set_raw(copula, np.array([found.point]))
    information = np.array([[-found.curvature * len(u)]])
    return _report(
        copula,
        "maximum_likelihood",
        len(u),
        found.value * len(u),
        rank_covariance_of(copula, u, information) if ranks else covariance_of(information),
        converged=found.converged,
        at_boundary=found.at_boundary,
        evaluations=found.evaluations,
    )


def _vector(copula: Fittable, u: Tensor, few: Tensor | None, standard_errors: bool, ranks: bool) -> Fit:
    low, high = limits_of(copula)

    def mean(sample: Tensor) -> tuple[LogLikelihood, Callable[[np.ndarray], tuple[float, np.ndarray]]]:
        likelihood = LogLikelihood(copula, sample)

        def scaled(raw: np.ndarray) -> tuple[float, np.ndarray]:
            # constant beyond the limits: a likelihood that grows without end there has its maximum at them
            value, gradient = likelihood(np.clip(raw, low, high))
            return value / len(sample), np.where((raw < low) | (raw > high), 0.0, gradient) / len(sample)

        return likelihood, scaled

    likelihood, function = mean(u)
    start, hessian = raw_of(copula), None
    if few is not None and len(start) <= _SHARE:  # so that the Hessian's 2k passes over a sixteenth cost at most two full ones
        _, near = mean(few)
        start = maximise(near, start, tolerance=1e-5).point
        hessian = hessian_of(lambda raw: near(raw)[1], start)
    found = maximise(function, np.clip(start, low, high), hessian)
    point = np.clip(found.point, low, high)
    at_limit = bool(((point <= low) | (point >= high)).any())
    information = -len(u) * hessian_of(lambda raw: function(raw)[1], point) if standard_errors else None
    set_raw(copula, point)
    covariance = None
    if information is not None:
        covariance = rank_covariance_of(copula, u, information) if ranks else covariance_of(information)
    return _report(
        copula,
        "maximum_likelihood",
        len(u),
        found.value * len(u),
        covariance,
        converged=found.converged,
        at_boundary=at_limit or (covariance is not None and not np.isfinite(covariance).all()),
        evaluations=likelihood.evaluations,
    )


def _report(
    copula: Fittable,
    method: str,
    n: int,
    log_likelihood: float,
    covariance: np.ndarray | None,
    errors: dict[str, Tensor] | None = None,
    *,
    converged: bool = True,
    at_boundary: bool = False,
    evaluations: int = 0,
) -> Fit:
    """The report of a fit, with standard errors from the covariance of the raw parameters (None: NaN), or `errors` if given."""
    parameters = list(copula.parameters())
    natural = natural_parameters(copula)
    if errors is None:
        errors = {name: standard_errors_of(value, parameters, covariance) for name, value in natural.items()}
    plain = lambda values: {name: value.item() if value.dim() == 0 else value.detach() for name, value in values.items()}
    count = sum(each.numel() for each in parameters)
    return Fit(copula.name, method, n, count, log_likelihood, plain(natural), plain(errors), converged, at_boundary, evaluations)


def _by_tau(copula: Fittable, u: Tensor, standard_errors: bool) -> Fit:
    terms = kendall_terms(u)
    tau = terms.mean(0).requires_grad_()
    low, high = _tau_ends(type(copula), copula.dim)
    wanted = _fitting_tau(copula, tau)
    edge = bool(((wanted < low) | (wanted > high)).any()) and wanted.dim() == 0
    inside = wanted.clamp(low, high) if edge else wanted
    parameters = copula.from_kendall_tau(inside, copula.dim)
    _set(copula, parameters)
    covariance = 4 * np.atleast_2d(np.cov(terms.T.cpu().numpy())) / len(u)  # 4 = 2²: tau is a U-statistic of order 2
    errors = {name: torch.full_like(value.detach(), torch.nan) for name, value in natural_parameters(copula).items()}
    if standard_errors and not edge:
        errors |= {name: standard_errors_of(value, [tau], covariance) for name, value in parameters.items()}
    with torch.no_grad():
        total = copula(validate_args=False).log_prob(u).sum().item()
    return _report(copula, "kendall_tau", len(u), total, None, errors, at_boundary=edge, evaluations=1)
