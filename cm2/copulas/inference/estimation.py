"""Fitting a copula to a sample: maximum likelihood and inversion of Kendall's tau, with standard errors."""

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
    natural_parameters,
    rank_covariance_of,
    raw_of,
    set_raw,
    standard_errors_of,
)
from cm2.copulas.sample_dependence import kendall_terms, mid_ranks, pairs_of
from cm2.numerics.maximise import hessian_of, maximise, maximise_scalar

METHODS = ("maximum_likelihood", "kendall_tau")
_ENOUGH, _SHARE = 16_384, 16  # from so many points on a start is found on every sixteenth
_NEAR_ONE, _NEAR_ZERO = 1 - 1e-5, 1e-9  # the values of tau between which a single parameter is looked for


@dataclass(frozen=True)
class Fit:
    r"""What a fit found; the parameters themselves stand in the module.

    Attributes:
        name: family.
        method: "maximum_likelihood" or "kendall_tau".
        n: number of points.
        n_parameters: number of free parameters.
        log_likelihood: of the sample at the estimate.
        parameters: natural parameters by name, floats or tensors.
        standard_errors: theirs: from the observed information, or for "kendall_tau" by the delta method from the error of the sample's
            tau. NaN where there is none: at the boundary, or where the information is singular.
        converged: whether the iteration came to an end.
        at_boundary: whether the estimate lies at the end of its range, as for a family of positive dependence on negatively dependent
            data: the family is then the wrong one, or the sample is independent.
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
    def aic(self) -> float:
        """Akaike's criterion, 2k - 2 log L; smaller is better."""
        return 2 * self.n_parameters - 2 * self.log_likelihood

    @property
    def bic(self) -> float:
        """Schwarz's criterion, k log n - 2 log L; smaller is better."""
        return self.n_parameters * math.log(self.n) - 2 * self.log_likelihood


@torch.enable_grad()  # the score is needed where the caller has switched gradients off, too
def fit(copula: Fittable, u: Tensor, method: str = "maximum_likelihood", standard_errors: bool = True, ranks: bool = False) -> Fit:
    r"""Estimates a copula's parameters from a sample and sets them in the module.

    Maximum likelihood: one parameter by the root of the score, started at Kendall's tau; several by BFGS, started at Kendall's tau where
    it determines them, else at the current values (a vine: at its sequential estimate, pair by pair).
    Large samples are first fitted on every sixteenth point: the start, and the curvature,
    that this gives leave three or four passes over all of them. The inverse of the observed information is taken for the natural
    parameters by the delta method. The work is done in float64, whatever the module's dtype.

    Kendall's tau: the family's map inverted at the sample's tau (a matrix of them for correlations; for exchangeable families in more
    dimensions, the mean over the pairs). Parameters that tau does not determine, as degrees of freedom, stay as they are.

    Args:
        copula: the module; its parameters are overwritten. Its parameters must have no batch dimension: fit batches one by one.
        u: sample of uniforms, (n, dim), in (0, 1); of data by `pseudo_observations`.
        method: one of `METHODS`.
        standard_errors: leave them out (NaN) where only the estimate is wanted; for k parameters they cost 2k passes if k > 1.
        ranks: u are ranks, of data whose margins are unknown. The estimate is the same; its standard errors count the error of the ranks
            as well (Genest, Ghoudi, Rivest 1995), for another 2k passes. Those by "kendall_tau" need no such correction.

    Raises:
        ValueError: unknown method; parameters with batch dimensions; a sample of the wrong shape, too small, with NaN, with values outside
            (0, 1) or a constant column; "kendall_tau" for a family it does not determine.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; {choose(method, METHODS)}")
    if copula(validate_args=False).batch_shape:
        raise ValueError(f"the {copula.name} copula has parameters of batch shape {tuple(copula().batch_shape)}; fit them one by one")
    u = check_sample(u, copula.dim, sum(each.numel() for each in copula.parameters()))
    work = copy.deepcopy(copula).double()
    report = _by_likelihood(work, u, standard_errors, ranks) if method == "maximum_likelihood" else _by_tau(work, u, standard_errors)
    with torch.no_grad():
        for own, found in zip(copula.parameters(), work.parameters(), strict=True):
            own.copy_(found)
    return report


def pseudo_observations(x: Tensor) -> Tensor:
    """Ranks over n + 1, column by column, (n, dim) in float64: a sample of any margins as one of the copula (Genest et al. 1995).

    Ties share the mean of their ranks, so that the result depends on nothing but the data; many ties (a discrete column) bias a fit.

    Raises:
        ValueError: not a matrix (n, dim), or NaN.
    """
    if x.dim() != 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; give a sample (n, dim)")
    if x.isnan().any():
        raise ValueError("x holds NaN; drop or impute those rows first")
    return torch.stack([mid_ranks(column) for column in x.unbind(-1)], -1) / (len(x) + 1)


def check_sample(u: Tensor, dim: int | None, n_parameters: int) -> Tensor:
    """A sample of uniforms (n, dim), in float64.

    Raises:
        ValueError: the wrong shape, too few rows, NaN, values outside (0, 1), or a constant column.
    """
    if u.dim() != 2 or u.shape[1] < 2 or (dim is not None and u.shape[1] != dim):
        raise ValueError(f"u has shape {tuple(u.shape)}; give a sample (n, {'dim' if dim is None else dim}), one row per point")
    least = max(5, n_parameters + 2)
    if len(u) < least:
        raise ValueError(f"u has {len(u)} rows; a fit of {n_parameters} parameters needs at least {least}")
    low, high = (each.tolist() for each in torch.aminmax(u, dim=0))
    for column, (least, most) in enumerate(zip(low, high, strict=True)):
        if math.isnan(least):
            raise ValueError(f"column {column} of u holds NaN; drop those rows first")
        if least <= 0 or most >= 1:
            raise ValueError(
                f"column {column} of u holds {least if least <= 0 else most:g}, outside (0, 1); map data to uniforms by pseudo_observations"
            )
        if least == most:
            raise ValueError(f"column {column} of u is constant ({least:g}); it has no dependence to fit, leave it out")
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
    """Sets the parameters that Kendall's tau determines, and returns `_raw_places`; None with several parameters or without such a map."""
    family, dim = type(copula), copula.dim
    if not _has_map(family, dim):
        copula._start_at(u)
        return None
    few = u[:: max(1, len(u) // 2000)]
    try:
        tau = _fitting_tau(copula, kendall_terms(few).mean(0)).clamp(*_tau_ends(family, dim))
        _set(copula, copula.from_kendall_tau(tau, dim))
    except ValueError:  # taus that together are no dependence of the family: the current parameters are the start
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
    """The raw parameter of a family of one parameter at the lower end of the range of tau, at 0.2, and at the upper end."""
    low, high = _tau_ends(family, dim)
    values = [family.from_kendall_tau(torch.tensor(tau, dtype=torch.float64), dim) for tau in (low, 0.2, high)]
    lower, inner, upper = (raw_of(family(dim, **each))[0].item() for each in values)
    return lower, inner, upper


def _tau_ends(family: type[Fittable], dim: int) -> tuple[float, float]:
    lower, upper = family.kendall_tau_range(dim)
    return max(lower, -_NEAR_ONE) if lower < 0 else _NEAR_ZERO, min(upper, _NEAR_ONE)


def _fitting_tau(copula: Fittable, tau: Tensor) -> Tensor:
    """From those of the pairs: the matrix where the law has one, else their mean."""
    if copula(validate_args=False).kendall_tau.dim() == 0:
        return tau.mean()
    matrix = torch.eye(copula.dim, dtype=tau.dtype, device=tau.device)
    rows, columns = torch.tensor(pairs_of(copula.dim), device=tau.device).unbind(-1)
    return matrix.index_put((rows, columns), tau).index_put((columns, rows), tau)


def _set(copula: Fittable, parameters: dict[str, Tensor]) -> None:
    """Puts natural parameters into a module; those not named stay."""
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
    if found.at_boundary:  # tau and the likelihood may disagree about the direction: look from within as well
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
    def mean(sample: Tensor) -> tuple[LogLikelihood, Callable[[np.ndarray], tuple[float, np.ndarray]]]:
        likelihood = LogLikelihood(copula, sample)

        def scaled(raw: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = likelihood(raw)
            return value / len(sample), gradient / len(sample)

        return likelihood, scaled

    likelihood, function = mean(u)
    start, hessian = raw_of(copula), None
    if few is not None and len(start) <= _SHARE:
        _, near = mean(few)
        start = maximise(near, start, tolerance=1e-5).point
        hessian = hessian_of(lambda raw: near(raw)[1], start)
    found = maximise(function, start, hessian)
    information = -len(u) * hessian_of(lambda raw: function(raw)[1], found.point) if standard_errors else None
    set_raw(copula, found.point)
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
        at_boundary=covariance is not None and not np.isfinite(covariance).all(),
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
    """The report; `covariance` that of the raw parameters, None for no errors but those given."""
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
    covariance = 4 * np.atleast_2d(np.cov(terms.T.cpu().numpy())) / len(u)
    errors = {name: torch.full_like(value.detach(), torch.nan) for name, value in natural_parameters(copula).items()}
    if standard_errors and not edge:
        errors |= {name: standard_errors_of(value, [tau], covariance) for name, value in parameters.items()}
    with torch.no_grad():
        total = copula(validate_args=False).log_prob(u).sum().item()
    return _report(copula, "kendall_tau", len(u), total, None, errors, at_boundary=edge, evaluations=1)
