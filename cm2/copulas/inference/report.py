"""Report of a family selection, as table, data frame, text and Markdown."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cm2.copulas.inference.estimation import Fit
from cm2.copulas.module import Copula
from cm2.environment.extras import require

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Candidate:
    """One family in one rotation, as fitted to the sample.

    Attributes:
        name, rotation: family and rotation in degrees.
        copula: the fitted module.
        fit: report of the fit to all points (in the rotated coordinates).
        held_out: mean log density of held-out points, by cross-validation; NaN for the other criteria.
        held_out_error: standard error of `held_out`.
        behind: `held_out` of the best candidate minus that of this one.
        behind_error: standard error of `behind`, paired point by point.
        vuong: statistic of Vuong's test against the best, negative if worse; NaN for the best itself and where `test` is another.
        p_value: p-value of `test`, adjusted for the number of candidates; NaN without one.
        test: "vuong"; "likelihood ratio" where one family contains the other; "not distinguishable" where the sample does not tell this
            candidate and the best apart; empty for the best itself. See `cm2.copulas.inference.comparison`.
    """

    name: str
    rotation: int
    copula: Copula = field(repr=False)
    fit: Fit = field(repr=False)
    held_out: float
    held_out_error: float
    behind: float
    behind_error: float
    vuong: float
    p_value: float
    test: str = ""

    @property
    def label(self) -> str:
        """Name and rotation."""
        return f"{self.name} {self.rotation}°" if self.rotation else self.name


@dataclass(frozen=True)
class Selection:
    """Candidates, the best first; `print` shows them as a table.

    Attributes:
        candidates: the candidates in the order of the criterion.
        criterion: "held_out", "aic" or "bic".
        n: number of points.
    """

    candidates: tuple[Candidate, ...]
    criterion: str
    n: int

    @property
    def best(self) -> Copula:
        """The fitted module of the best candidate."""
        return self.candidates[0].copula

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per candidate."""
        return [
            {
                "family": each.label,
                "parameters": _parameters(each.fit),
                "held_out": each.held_out,
                "held_out_error": each.held_out_error,
                "behind": each.behind,
                "behind_error": each.behind_error,
                "log_likelihood": each.fit.log_likelihood,
                "aic": each.fit.aic,
                "bic": each.fit.bic,
                "vuong": each.vuong,
                "p_value": each.p_value,
                "test": each.test,
                "at_boundary": each.fit.at_boundary,
                "converged": each.fit.converged,
            }
            for each in self.candidates
        ]

    def table(self) -> pandas.DataFrame:
        """The report as a data frame, one row per candidate."""
        require("pandas")
        import pandas

        return pandas.DataFrame(self.rows())

    def __str__(self) -> str:
        shown = {"held_out": "held out", "aic": "AIC", "bic": "BIC"}[self.criterion]
        form = "{:<16} {:>10} {:>8} {:>10} {:>7} {:>9}  {}".format
        lines = [form("family", shown, "+-", "log L", "Vuong", "p", "parameters")]
        number = lambda value, style: "" if math.isnan(value) else format(value, style)
        for each in self.candidates:
            score = each.held_out if self.criterion == "held_out" else getattr(each.fit, self.criterion)
            scores = number(score, ".4f"), number(each.held_out_error, ".4f"), f"{each.fit.log_likelihood:.2f}"
            tests = _IN_WORDS.get(each.test, number(each.vuong, ".2f")), number(each.p_value, ".2g")
            lines.append(form(each.label, *scores, *tests, _parameters(each.fit)).rstrip())
        return "\n".join([f"{len(self.candidates)} copulas ranked by {shown}, n = {self.n}", *lines])

    def to_markdown(self) -> str:
        """The report as a table in Markdown."""
        rows = self.rows()
        names = list(rows[0])
        lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
        return "\n".join([*lines, *("| " + " | ".join(_cell(value) for value in row.values()) + " |" for row in rows)])


_IN_WORDS = {"likelihood ratio": "nested", "not distinguishable": "same"}
"""What the text shows in the place of Vuong's statistic, by test."""


def _parameters(report: Fit) -> str:
    """Scalar natural parameters, with their standard errors, and what is doubtful about them."""

    def number(name: str, value: float) -> str:
        error = report.standard_errors[name]
        # at the end of a range a likelihood is not quadratic, and its curvature no standard error
        shown = "" if report.doubtful or not isinstance(error, float) or math.isnan(error) else f" ({error:.2g})"
        return f"{name} = {value:.4g}{shown}"

    words = ", ".join(number(name, value) for name, value in report.parameters.items() if isinstance(value, float))
    doubts = [word for word, there in (("at the end of its range", report.at_boundary), ("not converged", not report.converged)) if there]
    return "; ".join(filter(None, [words, *doubts]))


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}" if abs(value) < 1e4 else f"{value:.1f}"
    return str(value)
