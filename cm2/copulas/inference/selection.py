"""Family selection: candidates ranked by held-out likelihood, AIC or BIC, with tests of the differences (Vuong 1989)."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cm2.config.names import choose
from cm2.copulas.families.mixture import Mixture
from cm2.copulas.families.rotated import Rotated
from cm2.copulas.inference.comparison import Comparison, compare, vuong
from cm2.copulas.inference.estimation import Fit, check_sample
from cm2.copulas.inference.report import Candidate, Selection
from cm2.copulas.module import FAMILIES, Copula
from cm2.copulas.sample_dependence import sample_kendall_tau
from cm2.copulas.tails import open_unit_interval
from cm2.errors import InputError
from cm2.metrics import holm

CRITERIA = ("held_out", "aic", "bic")
CORRECTIONS = ("none", "akaike", "schwarz")

__all__ = ["candidates", "check_choice", "fit_best_pair", "rotate", "rotated", "select", "selectable", "vuong"]


def selectable(dim: int = 2) -> dict[str, type[Copula]]:
    """The families tried by default, by name."""
    return {name: family for name, family in sorted(FAMILIES.items()) if family.selectable and family.allows(dim)}


def select(
    u: Tensor,
    families: Sequence[str | Copula] | None = None,
    criterion: str = "held_out",
    rotations: bool = True,
    folds: int = 5,
    seed: int = 0,
    correction: str = "schwarz",
) -> Selection:
    r"""Fits families to a sample by maximum likelihood, ranks them, and tests each against the best.

    Held-out log-likelihood: the mean log density of points left out of the fit in k-fold cross-validation, with the same folds for all
    families; differences are paired, so judge them by `behind_error`. Vuong (1989, eq. 3.6 and 5.6): with :math:`m_i` the difference of
    the two log densities at point i, each fitted to all points, :math:`(\sum_i m_i - K)/(\sqrt n\,\hat\sigma_m)` is standard normal if both
    are equally close to the truth; K corrects for the numbers of parameters, :math:`(p-q)\frac{\log n}2` ("schwarz") or :math:`p - q`
    ("akaike"). His variance test comes first: pairs that the sample does not tell apart get neither a statistic nor a p-value. Of the
    others, families of which one contains the other, such as a t copula and a Gaussian one, are compared by the likelihood ratio, twice
    which is a chi-square under the smaller one (Vuong 1989, section 7; the p-value is too large where that lies at the end of a range). See
    `cm2.copulas.inference.comparison`. The tests treat the margins as known. p-values are adjusted by the method of Holm (1979).

    A fit that did not converge or ended at a boundary ranks behind all others: its likelihood says little about fresh points.

    Args:
        u: sample of uniforms, (n, dim), in (0, 1).
        families: names from `selectable()`, by default all; or modules, for example mixtures, of which copies are fitted from their
            current parameters.
        criterion: one of `CRITERIA`.
        rotations: in two dimensions, rotate the families restricted to positive dependence: by 0 and 180 degrees if Kendall's tau is
            clearly positive, by 90 and 270 if it is clearly negative, by all four if it is within two standard errors of 0.
        folds: number of folds of the cross-validation, for the criterion "held_out" only.
        seed: seed of the assignment of points to folds.
        correction: correction in Vuong's statistic, one of `CORRECTIONS`.

    Raises:
        ValueError: unknown family, criterion or correction; folds outside [2, n/10]; a sample that `fit` would refuse.
    """
    names = list(selectable(u.shape[-1] if u.dim() else 2)) if families is None else list(families)
    u = _check(u, names, criterion, correction, folds)
    combinations = candidates(u, names, rotations)
    fitted = [_fit(u, *each) for each in combinations]
    full = torch.stack([_log_density(copula, u, rotation) for (copula, _), (_, rotation) in zip(fitted, combinations, strict=True)])
    unseen = _held_out(u, combinations, folds, seed) if criterion == "held_out" else torch.full_like(full, torch.nan)
    score = {"held_out": lambda k: -unseen[k].mean().item(), "aic": lambda k: fitted[k][1].aic, "bic": lambda k: fitted[k][1].bic}[
        criterion
    ]
    order = sorted(range(len(fitted)), key=lambda k: (fitted[k][1].doubtful, score(k)))
    counts = [report.n_parameters for _, report in fitted]
    modules = [rotated(copula, rotation) for (copula, _), (_, rotation) in zip(fitted, combinations, strict=True)]
    against = lambda k, best: compare(modules[k], modules[best], (full[k], full[best]), (counts[k], counts[best]), correction)
    tests = [Comparison("", math.nan, math.nan), *(against(k, order[0]) for k in order[1:])]
    adjusted = _holm_of_those_made([test.p_value for test in tests])
    error = lambda terms: (terms.std() / math.sqrt(len(u))).item()
    found = []
    for place, k in enumerate(order):
        (name, rotation), (_, report), test = combinations[k], fitted[k], tests[place]
        behind = unseen[order[0]] - unseen[k]
        own = unseen[k].mean().item(), error(unseen[k]), behind.mean().item(), error(behind)
        found.append(Candidate(_name(name), rotation, modules[k], report, *own, test.statistic, adjusted[place], test.test))
    return Selection(tuple(found), criterion, len(u))


def fit_best_pair(
    u: Tensor, families: Sequence[str | Copula] | None = None, criterion: str = "aic", rotations: bool = True
) -> tuple[Copula, Fit]:
    """Selects the best family for a pair without the tests and standard errors of `select`, as vines need it for every edge.

    Args:
        u: sample of uniforms, (n, 2).
        families, rotations: as for `select`.
        criterion: "aic", "bic", or "held_out" (five folds).

    Returns:
        The fitted module and its report, without standard errors.

    Raises:
        ValueError: as for `select`.
    """
    names = list(selectable()) if families is None else list(families)
    u = _check(u, names, criterion, "none", 5)
    combinations = candidates(u, names, rotations)
    fitted = [_fit(u, *each, standard_errors=False) for each in combinations]
    if criterion == "held_out":
        scores = (-_held_out(u, combinations, 5, 0).mean(-1)).tolist()
    else:
        scores = [getattr(report, criterion) for _, report in fitted]
    k = min(range(len(fitted)), key=lambda k: (fitted[k][1].doubtful, scores[k]))
    return rotated(fitted[k][0], combinations[k][1]), fitted[k][1]


def candidates(u: Tensor, names: Sequence[str | Copula], rotations: bool) -> list[tuple[str | Copula, int]]:
    """Pairs (family, rotation) to fit, with the rotations compatible with the sign of Kendall's tau; modules are not rotated."""
    turns: tuple[int, ...] = (0,)
    if rotations and u.shape[1] == 2:
        tau = sample_kendall_tau(u[:: max(1, len(u) // 5000)])  # enough points for its sign
        clear = tau.value.abs() > 2 * tau.standard_error
        turns = (0, 90, 180, 270) if not clear else (0, 180) if tau.value > 0 else (90, 270)
    one_sided = lambda name: u.shape[1] == 2 and isinstance(name, str) and FAMILIES[name].kendall_tau_range(2) == (0.0, 1.0)
    return [(name, turn) for name in names for turn in (turns if one_sided(name) else (0,))]


def rotate(u: Tensor, rotation: int) -> Tensor:
    """Points at which the unrotated density equals the rotated one at u; 90: (1 - u1, u2), 180: (1 - u1, 1 - u2), 270: (u1, 1 - u2)."""
    if rotation == 0:
        return u
    turned = torch.tensor([rotation in (90, 180), rotation in (180, 270)], device=u.device)
    return open_unit_interval(torch.where(turned, 1 - u, u))


def rotated(copula: Copula, rotation: int) -> Copula:
    """The copula in a rotation; itself for 0 degrees."""
    if rotation == 0:
        return copula
    return Rotated(copula, rotation)


def check_choice(names: Sequence[str | Copula], criterion: str) -> None:
    """Raises ValueError for a name that is not in `selectable()`, an empty list, or an unknown criterion."""
    known = selectable()
    unknown = [name for name in names if not isinstance(name, Copula) and name not in known]
    if unknown:
        raise InputError(f"families names {unknown[0]!r}; {choose(unknown[0], known)}")
    if not names:
        raise InputError(f"families names nothing; choose out of {', '.join(known)}")
    if criterion not in CRITERIA:
        raise InputError(f"unknown criterion {criterion!r}; {choose(criterion, CRITERIA)}")


def _check(u: Tensor, names: Sequence[str | Copula], criterion: str, correction: str, folds: int) -> Tensor:
    check_choice(names, criterion)
    if correction not in CORRECTIONS:
        raise InputError(f"unknown correction {correction!r}; {choose(correction, CORRECTIONS)}")
    u = check_sample(u, None, 1)
    if criterion == "held_out" and len(u) < 20:
        raise InputError(f"u has {len(u)} rows; held-out likelihood needs at least 20, two folds of 10; rank by aic or bic")
    if criterion == "held_out" and not 2 <= folds <= len(u) // 10:
        raise InputError(f"folds is {folds}; with {len(u)} points it must lie between 2 and {len(u) // 10}, to leave 10 points in each")
    return u


def _fit(u: Tensor, family: str | Copula, rotation: int, standard_errors: bool = True) -> tuple[Copula, Fit]:
    copula = (copy.deepcopy(family) if isinstance(family, Copula) else FAMILIES[family](u.shape[1])).to(u)
    return copula, copula.fit(rotate(u, rotation), standard_errors=standard_errors)


def _log_density(copula: Copula, u: Tensor, rotation: int) -> Tensor:
    with torch.no_grad():
        return copula(validate_args=False).log_prob(rotate(u, rotation))


def _held_out(u: Tensor, combinations: Sequence[tuple[str | Copula, int]], folds: int, seed: int) -> Tensor:
    """Log density of every point under the fit to the other folds, (candidates, n)."""
    fold = torch.randperm(len(u), generator=torch.Generator().manual_seed(seed)).to(u.device) % folds
    unseen = u.new_empty(len(combinations), len(u))
    for k, (name, rotation) in enumerate(combinations):
        for each in range(folds):
            copula, _ = _fit(u[fold != each], name, rotation, standard_errors=False)
            unseen[k, fold == each] = _log_density(copula, u[fold == each], rotation)
    return unseen


def _holm_of_those_made(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment, NaN where there was no test."""
    made = [p for p in p_values if not math.isnan(p)]
    adjusted = iter(holm(made))
    return [p if math.isnan(p) else next(adjusted) for p in p_values]


def _name(family: str | Copula) -> str:
    """A family's name; for a mixture, those of its components."""
    if isinstance(family, Mixture):
        return " + ".join(_name(each) for each in family.copulas)
    return family.name if isinstance(family, Copula) else family
