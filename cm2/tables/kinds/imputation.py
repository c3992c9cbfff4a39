"""Tables of imputation: how well a masked modality is imputed from the stay's others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cm2.evaluation.embeddings import Embedded, cannot_embed, cannot_score, law_of
from cm2.evaluation.imputation import impute_scores, measured, spread
from cm2.methods import Method
from cm2.tables.embeddings import DIAGNOSTICS, FAMILIES, MOST, RATES, EmbeddingKind
from cm2.tables.evaluated import Finding, exactly
from cm2.tables.result import Cell
from cm2.uncertainty import FEWEST, Measured

UNIT = "unit"
"""Standard deviation of the hidden embedding over the stays, in which the other numbers are measured."""

GAINS = {"energy_gain": ("energy", -1), "likelihood_gain": ("log_likelihood", 1)}
"""Gains of the conditional over the marginal forecast: the score, and the sign with which a larger one is better."""


class Imputation(EmbeddingKind):
    """Scores of imputed embeddings, for methods that model the distribution of their embeddings."""

    name = "imputation"
    headings: ClassVar[Mapping[str, str]] = {
        "energy": "energy score",
        "log_likelihood": "log-likelihood",
        "error": "error of the mean",
        "energy_gain": "energy score, gain over marginal",
        "likelihood_gain": "log-likelihood, gain over marginal",
        **DIAGNOSTICS,
        **FAMILIES,
    }
    score = "filled in by"
    of_law = "conditional"
    asked = (
        f"A known modality of at most {MOST} test stays, chosen at random, is hidden and filled in from the stay's others. Energy score"
        " and error of the mean (small is good) and log-likelihood (large is good) in units of the standard deviation of the embedding over"
        " the stays, which is shown: next to 0 all stays have nearly the same embedding. An error of 1 is that of the stays' own mean."
        " Conditional and marginal are draws, of which the energy score judges the spread as well; the others are points, which have no"
        " log-likelihood. Gains of the conditional over the marginal forecast are means of differences of the same stays."
    )

    def cannot(self, method: Method) -> str:
        """Why a method has no embeddings, or does not model their distribution; empty if it has both."""
        return cannot_embed(method) or cannot_score(method)

    def measured(self, section: str, metric: str, parts: Mapping[str, NDArray]) -> Measured:
        """A mean over the stays, or the root of one; the unit is one number."""
        if metric == UNIT:
            return exactly(float(parts[UNIT][0]))
        if metric in GAINS:  # stay by stay: what makes a stay hard to forecast is in both scores, and cancels
            of, sign = GAINS[metric]
            return measured({metric: sign * (parts[of].astype(np.float64) - parts[f"marginal {of}"].astype(np.float64))})[metric]
        return measured({metric: parts[metric].astype(np.float64)})[metric]

    def sections(self, modalities: Sequence[str], cells: Sequence[Cell]) -> Iterator[str]:
        """One for each modality and share of the others hidden."""
        yield from (_section(name, rate) for name in modalities for rate in _rates(modalities))

    def findings(self, embedded: Embedded, method: Method, label: str) -> Iterator[Finding]:
        """Each modality imputed from the others, some of them masked; a single other one is never masked."""
        law = law_of(method)
        for target, name in enumerate(embedded.names):
            for rate in _rates(embedded.names):
                given = embedded.hide(target, rate)
                section = _section(name, rate)
                rows = embedded.stays(embedded.present[:, target] & given.any(dim=1), MOST)
                if len(rows) < FEWEST:
                    yield Finding(section, label, "", "energy", len(rows))
                    continue
                unit = float(spread(embedded.z[rows, target]))
                found = impute_scores(law, embedded.z[rows], given[rows], target)
                own, alone = found["conditional"], found["marginal"]
                for gain, (of, _) in GAINS.items():
                    yield Finding(section, label, "conditional", gain, len(rows), {of: own[of], f"marginal {of}": alone[of]})
                for how, scores in found.items():
                    for metric, values in scores.items():
                        yield Finding(section, label, how, metric, len(rows), {metric: values})
                    yield Finding(section, label, how, UNIT, len(rows), {UNIT: np.array([unit])})


def _section(name: str, rate: float) -> str:
    return f"{name}, {rate:.0%} of the others hidden"


def _rates(modalities: Sequence[str]) -> tuple[float, ...]:
    """Of two modalities the only other one is never hidden."""
    return RATES if len(modalities) > 2 else RATES[:1]
