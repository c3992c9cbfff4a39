"""The paper's figures, reproduced: vector files, PNG, the numbers drawn, and their provenance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import pi, sin
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy.optimize import brentq
from torch.distributions import Distribution

from cm2 import tables
from cm2.cohorts import Cohort, load_cohort
from cm2.cohorts.disclosure import FABRICATED
from cm2.cohorts.format import fabricated
from cm2.config import Config
from cm2.copulas import CopulaDistribution, make
from cm2.durable import replaced, write_json
from cm2.errors import InputError, spelled
from cm2.escape import csv
from cm2.methods import METHODS, Method
from cm2.methods.cm2 import CM2
from cm2.methods.released_score import ReleasedScore
from cm2.plots import alpha_over_epochs, copula_densities, density_grid, over_components, overview, style
from cm2.progress import Progress
from cm2.runs.provenance import provenance
from cm2.runs.run import Run
from cm2.runs.store import RunStore, fit
from cm2.tables.for_pages import OPEN

PAPERS_EPOCHS = (5, 50, 100)
"""Epochs of the paper's Figure 4."""


@dataclass(frozen=True)
class Drawing:
    """A figure with the numbers it shows and, where data were used, their provenance."""

    figure: Figure
    data: pd.DataFrame
    source: dict[str, object]


def frank_alpha(kendall_tau: float) -> float:
    """The α of the Frank copula with a given Kendall's τ in (0, 1), by root finding: it has no closed form (Nelsen 2006, section 5.1)."""
    with torch.no_grad():
        return float(brentq(lambda alpha: float(make("frank", 2, alpha=alpha)().kendall_tau) - kendall_tau, 1e-3, 200))


def figure_1() -> Drawing:
    """The components of CM² and the data flow between them, as a drawing."""
    figure = overview()
    words = [text.get_text().replace("\n", " ") for text in figure.axes[0].texts]
    return Drawing(figure, pd.DataFrame({"text": [word for word in words if word]}), provenance())


def figure_2(kendall_tau: float = 0.6) -> Drawing:
    """Densities of Gumbel, Gaussian and Frank copulas with the same Kendall's τ."""
    laws = same_dependence(kendall_tau)
    data = _densities({family: (family, "same dependence", kendall_tau, law) for family, law in laws.items()})
    return Drawing(copula_densities(laws), data, {"kendall_tau": kendall_tau, **provenance()})


def same_dependence(kendall_tau: float) -> dict[str, CopulaDistribution]:
    """Gumbel, Gaussian and Frank copulas of dimension 2 with the same Kendall's τ in (0, 1)."""
    return {
        "Gumbel": make("gumbel", 2, alpha=1 / (1 - kendall_tau))(),
        "Gaussian": make("gaussian", 2, rho=sin(pi * kendall_tau / 2))(),
        "Frank": make("frank", 2, alpha=frank_alpha(kendall_tau))(),
    }


def figure_2_fitted(
    cohort: Cohort,
    profile: str = "quick",
    settings: Mapping[str, Any] | None = None,
    store: RunStore | None = None,
    kendall_tau: float = 0.6,
) -> Drawing:
    """Above, copulas with the same Kendall's τ; below, those that the runs of Table 6 fitted (first section, first task, seed 0)."""
    entries = tables.plan(tables.load_table(6), cohort, profile, 1, settings)
    chosen = {e.row.label: e for e in entries if (e.section, e.task) == (entries[0].section, entries[0].task)}
    runs = tables.fit_entries(list(chosen.values()), cohort, store or RunStore())
    above = same_dependence(kendall_tau)
    shown = {f"{family}, τ = {kendall_tau:g}": (family, "same dependence", kendall_tau, law) for family, law in above.items()}
    used = {family: runs[chosen[family].configs[0].digest()] for family in above}
    for family, run in used.items():
        law = _fitted_copula(run.load_method(cohort), family)
        shown[f"{family}, fitted: τ = {law.kendall_tau.item():.2f}"] = (family, "fitted", law.kendall_tau.item(), law)
    source = {"task": entries[0].task, "section": entries[0].section.label, **_source(*used.values()), **provenance(cohort)}
    return Drawing(copula_densities({title: law for title, (*_, law) in shown.items()}, columns=len(above)), _densities(shown), source)


def figure_3(run: Run, truth: float | None = None) -> Drawing:
    """α and Kendall's τ over the epochs of a training run with a Gumbel copula."""
    history = run.history[["epoch", "alpha", "kendall_tau"]]
    return Drawing(alpha_over_epochs({"CM²": history}, truth), history, {"truth": truth, **_source(run), **run.environment})


def figure_4(run: Run) -> Drawing:
    """The Gumbel density at three epochs of the run of Figure 3: the paper's (5, 50, 100), or first, middle and last of fewer epochs."""
    history = run.history
    wanted = PAPERS_EPOCHS if set(PAPERS_EPOCHS) <= set(history["epoch"]) else history["epoch"].iloc[[0, len(history) // 2, -1]]
    shown = {}
    for epoch in sorted(set(wanted)):
        alpha = float(history.loc[history["epoch"] == epoch, "alpha"].iloc[0])
        law = make("gumbel", 2, alpha=alpha)()
        shown[f"epoch {epoch:g}: α = {alpha:.2f}"] = ("Gumbel", f"epoch {epoch:g}", law.kendall_tau.item(), law)
    drawn = copula_densities({title: law for title, (*_, law) in shown.items()})
    return Drawing(drawn, _densities(shown), {**_source(run), **run.environment})


def figure_5(
    cohort: Cohort | None = None,
    profile: str = "quick",
    seeds: int = 2,
    jobs: int = 1,
    settings: Mapping[str, Any] | None = None,
    store: RunStore | None = None,
) -> Drawing:
    """Metrics of every task, such as AUROC and AUPR, over the number of components of the mixtures, in both settings.

    Without a cohort it draws the table that is kept for PhysioNet 2012, and nothing is trained.
    """
    if cohort is None:
        result = tables.kept_table("figure-5", OPEN)
    else:
        result = tables.table("figure-5", cohort, profile, seeds, jobs, settings, store=store)
    frame = result.frame().drop(columns=["runs"])
    frame.insert(0, "components", frame["row"].str.removeprefix("K = ").astype(int))
    return Drawing(over_components(frame), frame, dict(result.provenance))


def regenerate(
    number: int,
    cohort: Cohort | Path | None,
    profile: str,
    out: Path,
    seeds: int = 2,
    jobs: int = 1,
    settings: Mapping[str, Any] | None = None,
    store: RunStore | None = None,
) -> list[Path]:
    """Draws a figure of the paper and writes it with its data and provenance.

    Args:
        number: 1 to 5.
        cohort: cohort of the runs, required for Figures 3 and 4. Figure 2 shows the copulas fitted to it, or without a cohort three
            copulas of equal dependence; Figure 5 without a cohort shows the table that is kept for PhysioNet 2012.
        profile: profile of the runs, which are found in the run store or trained.
        out: folder that receives ``figure-N`` as ``.svg``, ``.pdf``, ``.png``, ``.csv`` and ``.json``.
        seeds: number of seeds (Figure 5).
        jobs: runs trained in parallel (Figure 5).
        settings: fields of the configuration to override, by dotted name.
        store: default ``RunStore()``.

    Returns:
        The files written.

    Raises:
        ValueError: another number, no cohort where one is needed, or an option that does not exist.
    """
    if number not in range(1, 6):
        raise InputError(f"the paper has no Figure {number}; choose one of 1, 2, 3, 4, 5")
    if cohort is None and number in (3, 4):
        raise InputError(
            f"Figure {number} needs a training run: give {spelled('a cohort with cohort=', 'the folder of a cohort with --cohort')}"
        )
    with Progress(f"figure {number}"):
        if cohort is None:
            return save({1: figure_1, 2: figure_2, 5: figure_5}[number](), out, f"figure-{number}")
        stays = cohort if isinstance(cohort, Cohort) else load_cohort(cohort)
        drawers: dict[int, Callable[[], Drawing]] = {
            1: figure_1,
            2: lambda: figure_2_fitted(stays, profile, settings, store),
            3: lambda: figure_3(*_gumbel_run(stays, profile, settings, store)),
            4: lambda: figure_4(_gumbel_run(stays, profile, settings, store)[0]),
            5: lambda: figure_5(stays, profile, seeds, jobs, settings, store),
        }
        drawing = drawers[number]()
        used = {} if number == 1 else {"profile": profile, "settings": dict(settings or {})}
        return save(replace(drawing, source=drawing.source | used), out, f"figure-{number}")


def save(drawing: Drawing, out: Path, name: str) -> list[Path]:
    """Writes ``name`` as SVG, PDF, PNG, CSV and JSON into ``out``; each file is replaced atomically.

    A figure of fabricated data says so.
    """
    if fabricated(drawing.source):
        drawing.figure.supxlabel(FABRICATED, fontsize=6)
    paths = [out / f"{name}.{ending}" for ending in ("svg", "pdf", "png", "csv", "json")]
    for path in paths:
        if path.suffix == ".json":
            write_json(path, drawing.source, ensure_ascii=False)
            continue
        with replaced(path) as part:
            if path.suffix == ".csv":
                csv(drawing.data).to_csv(part, index=False, float_format="%.6g")
                continue
            # without a date, equal figures are equal files
            undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[path.suffix[1:]]
            with style():
                drawing.figure.savefig(part, format=path.suffix[1:], dpi=200, metadata=undated)
    plt.close(drawing.figure)
    return paths


def _densities(shown: Mapping[str, tuple[str, str, float, Distribution]]) -> pd.DataFrame:
    """What a figure of densities draws, a row each cell of a grid: family, which law of it, its Kendall's τ, the point, the density."""
    rows = []
    for family, which, tau, law in shown.values():
        u, density = density_grid(law, points=50)
        rows += [(family, which, tau, u[j], u[i], density[i, j]) for i in range(len(u)) for j in range(len(u))]
    return pd.DataFrame(rows, columns=["family", "law", "kendall_tau", "u1", "u2", "density"])


def _source(*runs: Run) -> dict[str, Any]:
    """Runs behind a figure, with what tells whether this version would train them again: configurations and versions of methods."""
    return {
        "runs": [run.path.name for run in runs],
        "configurations": [run.config.digest() for run in runs],
        "versions": {run.config.method: METHODS[run.config.method].version for run in runs},
    }


def _fitted_copula(method: Method, label: str) -> CopulaDistribution:
    if not isinstance(method, CM2) or isinstance(method.joint, ReleasedScore):
        raise InputError(f"row {label}: {method.why_no_law()}; Figure 2 shows fitted copulas")
    return method.joint.copula()


def _gumbel_run(
    cohort: Cohort, profile: str, settings: Mapping[str, Any] | None = None, store: RunStore | None = None
) -> tuple[Run, float | None]:
    run = fit(Config.from_profile(profile, {**(settings or {}), "model.family": "gumbel"}), cohort, store)
    parameters = cohort.manifest.get("parameters", {})
    return run, parameters.get("alpha") if parameters.get("family") == "gumbel" else None
