"""Report of a vine selection."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cm2.copulas.vine.module import Vine
from cm2.copulas.vine.structure import Edge
from cm2.environment.extras import require

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class VinePair:
    """One edge of a selected vine.

    Attributes:
        tree: number of the tree, from 0.
        edge: coordinates of the edge.
        family, rotation: family of the pair copula, and its rotation in degrees.
        parameters: natural parameters of the unrotated family by name.
        kendall_tau: Kendall's τ of the fitted pair copula.
        log_likelihood: the edge's contribution to the vine's log-likelihood.
        n_parameters: number of free parameters.
    """

    tree: int
    edge: Edge
    family: str
    rotation: int
    parameters: dict[str, float | Tensor]
    kendall_tau: float
    log_likelihood: float
    n_parameters: int

    @property
    def label(self) -> str:
        """Name and rotation."""
        return f"{self.family} {self.rotation}°" if self.rotation else self.family


@dataclass(frozen=True)
class VineSelection:
    """A selected and fitted vine; `print` shows it as a table.

    Attributes:
        vine: the fitted module.
        pairs: one record per edge, in the order of ``vine.structure.edges``.
        criterion: "aic", "bic" or "held_out".
        n: number of points.
        held_out: mean log density of the points held out from the choice of the families; NaN for other criteria than "held_out".
    """

    vine: Vine = field(repr=False)
    pairs: tuple[VinePair, ...]
    criterion: str
    n: int
    held_out: float = math.nan

    @property
    def log_likelihood(self) -> float:
        """Log-likelihood of the sample."""
        return math.fsum(pair.log_likelihood for pair in self.pairs)

    @property
    def n_parameters(self) -> int:
        """Number of free parameters."""
        return sum(pair.n_parameters for pair in self.pairs)

    @property
    def aic(self) -> float:
        """Akaike's criterion, 2k - 2 log L; smaller is better."""
        return 2 * self.n_parameters - 2 * self.log_likelihood

    @property
    def bic(self) -> float:
        """Schwarz's criterion, k log n - 2 log L; smaller is better."""
        return self.n_parameters * math.log(self.n) - 2 * self.log_likelihood

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per edge."""
        return [
            {
                "tree": pair.tree,
                "edge": str(pair.edge),
                "family": pair.label,
                "parameters": ", ".join(f"{name} = {_shown(value)}" for name, value in pair.parameters.items()),
                "kendall_tau": pair.kendall_tau,
                "log_likelihood": pair.log_likelihood,
            }
            for pair in self.pairs
        ]

    def table(self) -> pandas.DataFrame:
        """The report as a data frame, one row per edge."""
        require("pandas")
        import pandas

        return pandas.DataFrame(self.rows())

    def __str__(self) -> str:
        structure = self.vine.structure
        chosen = {"aic": "AIC", "bic": "BIC", "held_out": "held-out log-likelihood"}[self.criterion]
        head = f"vine of {structure.dim} coordinates, trees: {len(structure.trees)}, families by {chosen}, n = {self.n}"
        end = f"log-likelihood {self.log_likelihood:.2f}, {self.n_parameters} parameters, AIC {self.aic:.2f}, BIC {self.bic:.2f}"
        unseen = "" if math.isnan(self.held_out) else f", held-out mean log density {self.held_out:.4f}"
        titles = ("tree", "edge", "family", "parameters", "tau", "log L")
        cells = [
            (str(t), edge, name, values, f"{tau:.3f}", f"{total:.2f}")
            for t, edge, name, values, tau, total in map(dict.values, self.rows())
        ]
        widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
        numeric = (True, False, False, False, True, True)
        pad = lambda cell, width, right: cell.rjust(width) if right else cell.ljust(width)
        lines = ["  ".join(map(pad, row, widths, numeric)) for row in (titles, *cells)]
        return "\n".join([head, *lines, end + unseen])


def _shown(value: float | Tensor) -> str:
    if isinstance(value, Tensor):
        return "(" + ", ".join(f"{each:.4g}" for each in value.flatten().tolist()) + ")"
    return f"{value:.4g}"
