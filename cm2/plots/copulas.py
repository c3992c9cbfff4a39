"""Distributions on the unit square: densities and conditional quantiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch.distributions import Distribution

from cm2.copulas import CopulaDistribution
from cm2.numerics.normal import normal_quantile, normal_tails
from cm2.plots.basic import panels
from cm2.plots.style import COLOURS, style


@torch.no_grad()
def density_grid(law: Distribution, points: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """A bivariate copula's density on cell midpoints.

    Args:
        law: a copula distribution of dimension 2.
        points: cells along each axis.

    Returns:
        The midpoints ``(points,)`` and the density ``(points, points)``, first index u₂.
    """
    u = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    grid = torch.stack(torch.meshgrid(u, u, indexing="xy"), dim=-1)
    return u.numpy(), law.log_prob(grid).exp().numpy()


def copula_densities(
    laws: Mapping[str, Distribution], columns: int | None = None, levels: Sequence[float] = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16)
) -> Figure:
    """Contours of bivariate copula densities, on one logarithmic colour scale.

    Args:
        laws: copula distributions of dimension 2 by panel title.
        columns: number of columns; by default all side by side.
        levels: contour levels of the density, increasing.
    """
    with style():
        figure, axes = panels(list(laws), columns or len(laws), ("$u_1$", "$u_2$"), side=2.6)
        norm = mpl.colors.LogNorm(levels[0], levels[-1])
        for ax, law in zip(axes, laws.values(), strict=True):
            u, density = density_grid(law)
            filled = ax.contourf(u, u, density, levels=levels, norm=norm, cmap="cividis", extend="both")
            ax.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], xlim=(0, 1), ylim=(0, 1))
        bar = figure.colorbar(filled, ax=axes.tolist(), label="copula density $c(u_1, u_2)$", shrink=0.85, format="%g")
        bar.outline.set_visible(False)
    return figure


@torch.no_grad()
def normal_score_grid(law: CopulaDistribution, reach: float = 3.0, points: int = 121) -> tuple[np.ndarray, np.ndarray]:
    """Density of a bivariate copula's normal scores, the standard normal quantiles of both coordinates.

    Args:
        law: a copula distribution of dimension 2.
        reach: the grid covers [-reach, reach] in both coordinates.
        points: grid points along each axis.

    Returns:
        The scores ``(points,)`` and the density ``(points, points)``, first index the score of u₂.
    """
    z = torch.linspace(-reach, reach, points, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(z, z, indexing="xy"), dim=-1)
    margins = -grid.square().sum(-1) / 2 - math.log(2 * math.pi)
    return z.numpy(), (law.log_prob_tails(*normal_tails(grid)) + margins).exp().numpy()


def normal_score_densities(
    laws: Mapping[str, CopulaDistribution], columns: int = 3, levels: Sequence[float] = (0.003, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3)
) -> Figure:
    """Contours of the densities of bivariate copulas with standard normal margins.

    Args:
        laws: copula distributions of dimension 2 by panel title.
        columns: number of columns.
        levels: contour levels of the density, increasing.
    """
    with style():
        figure, axes = panels(list(laws), columns, (r"$\Phi^{-1}(u_1)$", r"$\Phi^{-1}(u_2)$"))
        norm = mpl.colors.LogNorm(levels[0], levels[-1])
        for ax, law in zip(axes, laws.values(), strict=True):
            z, density = normal_score_grid(law)
            filled = ax.contourf(z, z, density, levels=levels, norm=norm, cmap="cividis", extend="max")
            ax.set(xticks=(-2, 0, 2), yticks=(-2, 0, 2))
        bar = figure.colorbar(filled, ax=axes.tolist(), label="density of the normal scores", shrink=0.8, format="%g")
        bar.outline.set_visible(False)
    return figure


@torch.no_grad()
def conditional_quantiles(laws: Mapping[str, CopulaDistribution], columns: int = 3, reach: float = 3.0) -> Figure:
    """Median and central intervals of 50 % and 90 % of the first coordinate given the second, on the scale of normal scores.

    Args:
        laws: copula distributions of dimension 2 by panel title.
        columns: number of columns.
        reach: scores from -reach to reach.
    """
    z = torch.linspace(-reach, reach, 121, dtype=torch.float64)
    below, above = (tail.unsqueeze(-1).expand(-1, 5) for tail in normal_tails(z))
    level = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64).expand(len(z), 5)
    with style():
        figure, axes = panels(list(laws), columns, (r"$\Phi^{-1}(u_2)$, given", r"$\Phi^{-1}(u_1)$"))
        for ax, law in zip(axes, laws.values(), strict=True):
            tails = law.h_inverse_tails((level.log(), (1 - level).log()), (below, above))
            low, first, median, third, high = normal_quantile(*tails).unbind(-1)
            ax.fill_between(z, low, high, color=COLOURS[0], alpha=0.25, linewidth=0)
            ax.fill_between(z, first, third, color=COLOURS[0], alpha=0.35, linewidth=0)
            ax.plot(z, median, color=COLOURS[1])
            ax.set(aspect="auto", xlim=(-reach, reach), ylim=(-reach - 1, reach + 1), xticks=(-2, 0, 2), yticks=(-2, 0, 2))
    return figure
