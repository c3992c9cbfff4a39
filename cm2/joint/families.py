"""The family of each direction, chosen by its fit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cm2.copulas.chosen import Chosen
from cm2.copulas.module import Copula
from cm2.joint.estimation import ascend


def choose_families(copulas: Sequence[Chosen], scores: Tensor, present: Tensor) -> Tensor:
    """Gives each direction the family with the least AIC (Akaike 1974), every family fitted to all directions by maximum likelihood.

    A direction has no sign, so a family of one tail is tried on both: what is turned round is the direction, not the copula.

    Args:
        copulas: one for each of r directions, which are set.
        scores: ``(n, r, M)`` normal scores along the directions, float64 on the CPU.
        present: ``(n, M)`` bool.

    Returns:
        ``(r,)``, -1 for a direction that has to be turned round, else 1.
    """
    count, dim = scores.shape[1:]
    best, signs = torch.full((count,), torch.inf, dtype=scores.dtype), torch.ones(count, dtype=scores.dtype)
    for name, family in copulas[0].candidates.items():
        # only a family of positive dependence alone has different tails
        for sign in (1, -1) if family.kendall_tau_range(2) == (0.0, 1.0) else (1,):
            copies = type(family)(dim).to(scores).side_by_side(count)
            likelihood = _fit(copies, sign * scores, present)
            size = sum(p.numel() for p in copies.parameters()) // count
            aic = 2 * size - 2 * likelihood
            for j in (aic < best).nonzero().flatten().tolist():
                copulas[j].choose(name, {key: value[j] for key, value in copies.state_dict().items()})
                best[j], signs[j] = aic[j], sign
    return signs


def _fit(copies: Copula, scores: Tensor, present: Tensor) -> Tensor:
    """Log-likelihood of each direction at its maximum, ``(r,)``."""
    mask = present[:, None].expand(scores.shape)
    value = lambda part: copies(validate_args=False).log_prob_scores(scores[part], mask[part])
    ascend(list(copies.parameters()), lambda part: value(part).sum(), len(scores))
    with torch.no_grad():
        return value(slice(None)).expand(scores.shape[:2]).sum(0)
