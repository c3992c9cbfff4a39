"""Figures in the house style."""

from cm2.plots.basic import curves, panels, scatter
from cm2.plots.calibration import reliability
from cm2.plots.comparisons import heat_map, ranks
from cm2.plots.copulas import conditional_quantiles, copula_densities, density_grid, normal_score_densities, normal_score_grid
from cm2.plots.errors import error_strips
from cm2.plots.flow import flow_chart
from cm2.plots.overview import overview
from cm2.plots.results import differences, over_components
from cm2.plots.style import COLOURS, INK, STYLE, style, use_style
from cm2.plots.training import alpha_over_epochs

__all__ = [
    "COLOURS",
    "INK",
    "STYLE",
    "alpha_over_epochs",
    "conditional_quantiles",
    "copula_densities",
    "curves",
    "density_grid",
    "differences",
    "error_strips",
    "flow_chart",
    "heat_map",
    "normal_score_densities",
    "normal_score_grid",
    "over_components",
    "overview",
    "panels",
    "ranks",
    "reliability",
    "scatter",
    "style",
    "use_style",
]
