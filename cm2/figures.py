"""The paper's figures, regenerated: vector, PNG, the numbers drawn, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import pi, sin
from pathlib import Path

import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy.optimize import brentq

from cm2.cohorts import Cohort, load_cohort
from cm2.config import Config
from cm2.copulas import make
from cm2.experiments import Run, fit
from cm2.plots import alpha_over_epochs, copula_densities, density_grid, style


@dataclass(frozen=True)
class Drawing:
    """A figure with the numbers it shows and, where data were used, their provenance."""

    figure: Figure
    data: pd.DataFrame
    source: dict[str, object]


def frank_alpha(kendall_tau: float) -> float:
    """The α of the Frank copula with a given Kendall's τ in (0, 1), by root finding (Nelsen 2006, section 5.1)."""
    with torch.no_grad():
        return float(brentq(lambda alpha: float(make("frank", 2, alpha=alpha)().kendall_tau) - kendall_tau, 1e-3, 200))


def figure_2(kendall_tau: float = 0.6) -> Drawing:
    """Densities of Gumbel, Gaussian and Frank copulas with the same Kendall's τ."""
    laws = {
        "Gumbel": make("gumbel", 2, alpha=1 / (1 - kendall_tau))(),
        "Gaussian": make("gaussian", 2, rho=sin(pi * kendall_tau / 2))(),
        "Frank": make("frank", 2, alpha=frank_alpha(kendall_tau))(),
    }
    rows = []
    for family, law in laws.items():
        u, density = density_grid(law, points=50)
        rows += [(family, u[j], u[i], density[i, j]) for i in range(len(u)) for j in range(len(u))]
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


def regenerate(number: int, cohort: Cohort | Path | None, profile: str, out: Path) -> list[Path]:
    """Draws a figure of the paper and writes it with its data and provenance.

    Args:
        number: 2, 3 or 4.
        cohort: for Figures 3 and 4, the cohort of the training run.
        profile: of the training run; it is found in the run store or trained.
        out: folder that receives ``figure-N`` as ``.svg``, ``.pdf``, ``.png``, ``.csv`` and ``.json``.

    Returns:
        The files written.

    Raises:
        ValueError: another number, no cohort where one is needed, or a profile whose copula is not Gumbel.
    """
    drawers: dict[int, Callable[[], Drawing]] = {
        2: figure_2,
        3: lambda: figure_3(*_gumbel_run(cohort, profile)),
        4: lambda: figure_4(_gumbel_run(cohort, profile)[0]),
    }
    if number not in drawers:
        raise ValueError(f"Figure {number} is not drawn here; choose one of {', '.join(map(str, drawers))}")
    return save(drawers[number](), out, f"figure-{number}")


def save(drawing: Drawing, out: Path, name: str) -> list[Path]:
    """Writes ``name`` as SVG, PDF, PNG, CSV and JSON into ``out``; each file appears whole."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"{name}.{ending}" for ending in ("svg", "pdf", "png", "csv", "json")]
    for path in paths:
        temporary = path.with_name(f".{path.name}")
        if path.suffix == ".csv":
            drawing.data.to_csv(temporary, index=False, float_format="%.6g")
        elif path.suffix == ".json":
            temporary.write_text(json.dumps(drawing.source, indent=1, ensure_ascii=False) + "\n")
        else:
            undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[path.suffix[1:]]
            with style():
                drawing.figure.savefig(temporary, format=path.suffix[1:], dpi=200, metadata=undated)
        temporary.replace(path)
    plt.close(drawing.figure)
    return paths


def _gumbel_run(cohort: Cohort | Path | None, profile: str) -> tuple[Run, float | None]:
    if cohort is None:
        raise ValueError("this figure needs a training run: give the cohort's folder")
    cohort = cohort if isinstance(cohort, Cohort) else load_cohort(cohort)
    run = fit(Config.from_profile(profile, {"model.family": "gumbel"}), cohort)
    parameters = cohort.manifest.get("parameters", {})
    return run, parameters.get("alpha") if parameters.get("family") == "gumbel" else None
