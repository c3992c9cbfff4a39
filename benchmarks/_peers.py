"""The same copulas in other libraries, as calls without arguments. Absent libraries give no calls."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

Call = Callable[[], Any]
_PYVINECOPULIB = {"independence": "indep"}
_STATSMODELS = {
    "gumbel": "GumbelCopula",
    "frank": "FrankCopula",
    "clayton": "ClaytonCopula",
    "gaussian": "GaussianCopula",
    "student": "StudentTCopula",
}


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def pyvinecopulib_pair(name: str, parameters: dict[str, float], u: np.ndarray, fitted: np.ndarray) -> dict[str, Call]:
    """Operations of a pair copula at points u (n, 2) and its fit to a sample (n, 2), on one thread."""
    pv = _module("pyvinecopulib")
    if pv is None:
        return {}
    family = getattr(pv.BicopFamily, _PYVINECOPULIB.get(name, name))
    copula = pv.Bicop.from_family(family, 0, np.array([*parameters.values()]).reshape(-1, 1))
    points = np.asfortranarray(u)
    wanted = ["u1", "u2", *(f"par{i + 1}" for i in range(len(parameters)))]
    controls = pv.FitControlsBicop(family_set=[family], parametric_method="mle")
    return {
        "log density": lambda: np.log(copula.pdf(points)),
        "log density and gradient": lambda: (np.log(copula.pdf(points)), [copula.logpdf_deriv(points, each) for each in wanted]),
        "h": lambda: copula.hfunc2(points),
        "inverse h": lambda: copula.hinv2(points),
        "cdf": lambda: copula.cdf(points),
        "sample": lambda: copula.sample(len(points)),
        "fit": lambda: pv.Bicop.from_family(family).fit(np.asfortranarray(fitted), controls),
    }


def statsmodels_pair(name: str, parameters: dict[str, float], u: np.ndarray) -> dict[str, Call]:
    """Operations of a pair copula; statsmodels has no h and fits by Kendall's tau only."""
    api = _module("statsmodels.distributions.copula.api")
    if api is None or name not in _STATSMODELS:
        return {}
    family = getattr(api, _STATSMODELS[name])
    if name == "gaussian":
        copula = family(corr=parameters["rho"])
    elif name == "student":
        copula = family(corr=parameters["rho"], df=parameters["nu"])
    else:
        copula = family(theta=parameters["alpha"])
    return {"log density": lambda: copula.logpdf(u), "sample": lambda: copula.rvs(len(u), (), 1)}


def pyvinecopulib_vine(families: list[list[str]], parameters: dict[str, dict[str, float]], u: np.ndarray) -> dict[str, Call]:
    """Operations of a D-vine in the order 1, ..., d whose pairs have the families given, tree by tree."""
    pv = _module("pyvinecopulib")
    if pv is None:
        return {}
    make = lambda name: pv.Bicop.from_family(getattr(pv.BicopFamily, name), 0, np.array([*parameters[name].values()]).reshape(-1, 1))
    structure = pv.DVineStructure(list(range(1, u.shape[1] + 1)))
    vine = pv.Vinecop.from_structure(structure=structure, pair_copulas=[[make(name) for name in tree] for tree in families])
    points = np.asfortranarray(u)
    controls = pv.FitControlsVinecop(family_set=[getattr(pv.BicopFamily, name) for name in parameters], parametric_method="mle")
    return {
        "log density": lambda: vine.logpdf(points),
        "log density and gradient": lambda: (vine.logpdf(points), vine.scores(points)),
        "Rosenblatt": lambda: vine.rosenblatt(points),
        "sample": lambda: vine.sample(len(points)),
        "selection": lambda: pv.Vinecop.from_data(points, controls=controls),
    }
