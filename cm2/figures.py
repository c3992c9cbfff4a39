"""The paper's figures, reproduced: vector files, PNG, the numbers drawn, and their provenance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from cm2.config import Config
from cm2.copulas import CopulaDistribution, make
from cm2.durable import replaced, write_json
from cm2.methods import Method
from cm2.methods.cm2 import CM2
from cm2.methods.released_score import ReleasedScore
from cm2.plots import alpha_over_epochs, copula_densities, density_grid, over_components, overview, style
from cm2.progress import Progress
from cm2.runs.provenance import provenance
from cm2.runs.run import Run
from cm2.runs.store import RunStore, fit


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


def figure_2(kendall_tau: float = 0.6) -> Drawing:
    """Densities of Gumbel, Gaussian and Frank copulas with the same Kendall's τ."""
    laws = {
        "Gumbel": make("gumbel", 2, alpha=1 / (1 - kendall_tau))(),
        "Gaussian": make("gaussian", 2, rho=sin(pi * kendall_tau / 2))(),
        "Frank": make("frank", 2, alpha=frank_alpha(kendall_tau))(),
    }
    rows = [(family, *point) for family, law in laws.items() for point in _density_rows(law)]
    data = pd.DataFrame(rows, columns=["family", "u1", "u2", "density"])
    return Drawing(copula_densities(laws), data, {"kendall_tau": kendall_tau})


def figure_3(run: Run, truth: float | None = None) -> Drawing:
    """α and Kendall's τ over the epochs of a training run with a Gumbel copula."""
    history = run.history[["epoch", "alpha", "kendall_tau"]]
    return Drawing(alpha_over_epochs({"CM²": history}, truth), history, {"run": run.path.name, "truth": truth, **run.environment})


def figure_4(run: Run) -> Drawing:
    """The Gumbel density at the first, middle and last epoch of the run of Figure 3."""
    history = run.history
    chosen = history.iloc[sorted({0, len(history) // 2, len(history) - 1})]
    laws = {
        f"epoch {epoch:g}: α = {alpha:.2f}": make("gumbel", 2, alpha=alpha)()
        for epoch, alpha in zip(chosen["epoch"], chosen["alpha"], strict=True)
    }
    return Drawing(copula_densities(laws), chosen[["epoch", "alpha", "kendall_tau"]], {"run": run.path.name, **run.environment})


def figure_1() -> Drawing:
    """The components of CM² and the data flow between them, as a drawing."""
    figure = overview()
    words = [text.get_text().replace("\n", " ") for text in figure.axes[0].texts]
    return Drawing(figure, pd.DataFrame({"text": words}), {"drawn": "by cm2.plots.overview"})


def figure_2_fitted(
    cohort: Cohort, profile: str = "quick", settings: Mapping[str, Any] | None = None, store: RunStore | None = None
) -> Drawing:
    """Densities of the copulas that the runs of Table 6 fitted: first section, first task, seed 0."""
    entries = tables.plan(tables.load_table(6), cohort, profile, 1, settings)
    chosen = [e for e in entries if (e.section, e.task) == (entries[0].section, entries[0].task)]
    runs = tables.fit_entries(chosen, cohort, store or RunStore())
    laws, rows = {}, []
    for entry in chosen:
        run = runs[entry.configs[0].digest()]
        law = _fitted_copula(run.load_method(cohort), entry.row.label)
        tau = law.kendall_tau.item()
        laws[f"{entry.row.label}, τ = {tau:.2f}"] = law
        rows += [(entry.row.label, tau, *point) for point in _density_rows(law)]
    data = pd.DataFrame(rows, columns=["family", "kendall_tau", "u1", "u2", "density"])
    source = {"runs": [runs[e.configs[0].digest()].path.name for e in chosen], "task": chosen[0].task, "section": chosen[0].section.label}
    return Drawing(copula_densities(laws), data, source | provenance(cohort))


def figure_5(
    cohort: Cohort,
    profile: str = "quick",
    seeds: int = 2,
    jobs: int = 1,
    settings: Mapping[str, Any] | None = None,
    store: RunStore | None = None,
) -> Drawing:
    """AUROC and AUPR over the number of components of the mixtures, both tasks, both settings."""
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
        cohort: cohort of the runs, required for Figures 3 to 5. Figure 2 shows the copulas fitted to it, or without a cohort three
            copulas of equal dependence.
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
        raise ValueError(f"the paper has no Figure {number}; choose one of 1, 2, 3, 4, 5")
    if cohort is None and number > 2:
        raise ValueError(f"Figure {number} needs a training run: give the cohort's folder with --cohort")
    with Progress(f"figure {number}"):
        if cohort is None:
            return save(figure_1() if number == 1 else figure_2(), out, f"figure-{number}")
        stays = cohort if isinstance(cohort, Cohort) else load_cohort(cohort)
        drawers: dict[int, Callable[[], Drawing]] = {
            1: figure_1,
            2: lambda: figure_2_fitted(stays, profile, settings, store),
            3: lambda: figure_3(*_gumbel_run(stays, profile, settings, store)),
            4: lambda: figure_4(_gumbel_run(stays, profile, settings, store)[0]),
            5: lambda: figure_5(stays, profile, seeds, jobs, settings, store),
        }
        return save(drawers[number](), out, f"figure-{number}")


def save(drawing: Drawing, out: Path, name: str) -> list[Path]:
    """Writes ``name`` as SVG, PDF, PNG, CSV and JSON into ``out``; each file is replaced atomically."""
    paths = [out / f"{name}.{ending}" for ending in ("svg", "pdf", "png", "csv", "json")]
    for path in paths:
        if path.suffix == ".json":
            write_json(path, drawing.source, ensure_ascii=False)
            continue
        with replaced(path) as part:
            if path.suffix == ".csv":
                drawing.data.to_csv(part, index=False, float_format="%.6g")
                continue
            # without a date, equal figures are equal files
            undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[path.suffix[1:]]
            with style():
                drawing.figure.savefig(part, format=path.suffix[1:], dpi=200, metadata=undated)
    plt.close(drawing.figure)
    return paths


def _density_rows(law: Distribution) -> list[tuple[float, float, float]]:
    u, density = density_grid(law, points=50)
    return [(u[j], u[i], density[i, j]) for i in range(len(u)) for j in range(len(u))]


def _fitted_copula(method: Method, label: str) -> CopulaDistribution:
    if not isinstance(method, CM2) or isinstance(method.joint, ReleasedScore):
        raise ValueError(f"row {label}: {method.why_no_law()}; Figure 2 shows fitted copulas")
    return method.joint.copula()


def _gumbel_run(
    cohort: Cohort, profile: str, settings: Mapping[str, Any] | None = None, store: RunStore | None = None
) -> tuple[Run, float | None]:
    run = fit(Config.from_profile(profile, {**(settings or {}), "model.family": "gumbel"}), cohort, store)
    parameters = cohort.manifest.get("parameters", {})
    return run, parameters.get("alpha") if parameters.get("family") == "gumbel" else None
