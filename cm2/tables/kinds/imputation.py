"""Tables of imputation: how well a masked modality is imputed from the stay's others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from cm2.evaluation.embeddings import Embedded, cannot_embed, cannot_score, law_of
from cm2.evaluation.imputation import impute_scores, measured, spread
from cm2.methods import Method
from cm2.tables.embeddings import DIAGNOSTICS, FAMILIES, MOST, RATES, EmbeddingKind, Finding, exactly
from cm2.uncertainty import FEWEST


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
        "A known modality is hidden and filled in from the stay's others. Energy score and error of the mean (small is good) and"
        " log-likelihood (large is good) in units of the standard deviation of the embedding over the stays, which is shown: next to 0 all"
        " stays have nearly the same embedding. An error of 1 is that of the stays' own mean. Conditional and marginal are draws, of which"
        " the energy score judges the spread as well; the others are points, which have no log-likelihood. Gains of the conditional over"
        " the marginal forecast are means of differences of the same stays."
    )

    def cannot(self, method: Method) -> str:
        """Why a method has no embeddings, or does not model their distribution; empty if it has both."""
        return cannot_embed(method) or cannot_score(method)

    def findings(self, embedded: Embedded, method: Method, label: str) -> Iterator[Finding]:
        """Each modality imputed from the others, some of them masked; a single other one is never masked."""
        law = law_of(method)
        for target, name in enumerate(embedded.names):
            for rate in RATES if len(embedded.names) > 2 else RATES[:1]:
                given = embedded.hide(target, rate)
                section = f"{name}, {rate:.0%} of the others hidden"
                rows = embedded.stays(embedded.present[:, target] & given.any(dim=1), MOST)
                if len(rows) < FEWEST:
                    yield Finding(section, label, "", "energy", None, len(rows))
                    continue
                unit = float(spread(embedded.z[rows, target]))
                found = impute_scores(law, embedded.z[rows], given[rows], target)
                own, alone = found["conditional"], found["marginal"]
                # stay by stay: what makes a stay hard to forecast is in both scores, and cancels
                own["energy_gain"] = alone["energy"] - own["energy"]
                own["likelihood_gain"] = own["log_likelihood"] - alone["log_likelihood"]
                for how, scores in found.items():
                    for metric, one in (measured(scores) | {"unit": exactly(unit)}).items():
                        yield Finding(section, label, how, metric, one, len(rows))
