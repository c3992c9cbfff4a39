"""Evaluation of imputation: an observed modality is masked, imputed from the stay's others, and compared with its true embedding.

Everything is in units of the embedding's standard deviation, the root of the mean variance of its coordinates over the stays, to compare
methods whose embeddings differ in scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from cm2.errors import InputError
from cm2.evaluation.scores import energy_score
from cm2.joint import CopulaJointDistribution
from cm2.metrics import Interval
from cm2.uncertainty import Measured, interval_of, measure_mean

Way = Literal["conditional", "conditional mean", "marginal", "mean", "zero"]
WAYS: tuple[Way, ...] = ("conditional", "conditional mean", "marginal", "mean", "zero")
"""Draws given the other modalities and their mean, draws from the margin and its mean, and zero."""
DRAWS = 32
BLOCK = 256
"""Number of stays whose draws are in memory at a time."""


def impute_scores(
    law: CopulaJointDistribution, z: Tensor, given: Tensor, target: int, n_draws: int = DRAWS, seed: int = 0
) -> dict[str, dict[str, NDArray]]:
    r"""Scores of every imputation method for a masked modality, stay by stay.

    * ``energy``: energy score (Gneiting and Raftery 2007) of the draws; for a point forecast its distance
    * ``log_likelihood``: log f of the true embedding: conditional, log f_O+m - log f_O, or marginal; none for a point forecast
    * ``error``: mean over the coordinates of the squared error of the draws' mean, minus the noise of the finite number of draws

    ``conditional`` and ``marginal`` are draws. ``conditional mean``, ``mean`` and ``zero`` are point forecasts; where the first has no
    closed form it is a mean of draws.

    Args:
        law: distribution of the embeddings.
        z: true embeddings ``(n, M, d)``; those neither in the conditioning set nor the target are never read.
        given: conditioning set ``(n, M)`` bool; the target's column is ignored.
        target: column of the masked modality, which is observed in all these stays.
        n_draws: 2 or more.
        seed: seed of the draws.

    Returns:
        By imputation method, then by score, ``(n,)`` float64.

    Raises:
        ValueError: fewer than two stays or draws, a target without variance, a link without conditional draws.
    """
    if len(z) < 2 or n_draws < 2:
        raise InputError(f"impute_scores: expected two or more stays and draws, got {len(z)} and {n_draws}")
    is_target = torch.arange(z.shape[1]) == target
    given = given & ~is_target
    truth = z[:, target]
    unit = spread(truth)
    if not float(unit) > 0:
        raise InputError("impute_scores: the target's embedding is the same for all stays, so that there is nothing to tell apart")
    # the density of z / unit: its log Jacobian is d log(unit)
    likelihood = {how: value + truth.shape[1] * unit.log() for how, value in _log_likelihood(law, z, given, target).items()}
    points = {"mean": _mean(law, target), "zero": torch.zeros_like(truth[0])}
    scores: dict[str, dict[str, NDArray]] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for how in WAYS:
            parts = [_compare(*_filled(law, how, z[b], given[b], target, n_draws, points), truth[b], unit) for b in _blocks(len(z))]
            energy, error = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
            scores[how] = {"energy": energy, "error": error}
            scores[how] |= {"log_likelihood": likelihood[how].numpy()} if how in likelihood else {}
    return scores


def spread(z: Tensor) -> Tensor:
    """Standard deviation ``()`` of embeddings ``(n, d)`` over the stays: root mean variance of the coordinates."""
    return z.double().var(0, correction=0).mean().sqrt()


def measured(scores: Mapping[str, NDArray]) -> dict[str, Measured]:
    """Means over the stays with their dependence on them; ``error`` becomes the root of its mean, 0 where the mean is below 0.

    With the noise of the draws subtracted, the estimate of a squared error near 0 can be negative.
    """
    return {name: measure_mean(value, root=name == "error") for name, value in scores.items()}


def summarise(scores: Mapping[str, NDArray]) -> dict[str, Interval]:
    """The same with 95 % intervals over the stays."""
    return {name: interval_of(one) for name, one in measured(scores).items()}


def _log_likelihood(law: CopulaJointDistribution, z: Tensor, given: Tensor, target: int) -> dict[str, Tensor]:
    everything = given.clone()
    everything[:, target] = True
    marginal, dependence = (part.double() for part in law.terms(z, everything))
    own = marginal[:, target]
    return {"conditional": own + dependence - law.dependence(z, given).double(), "marginal": own}


def _mean(law: CopulaJointDistribution, target: int) -> Tensor:
    mixture = law.link.mixture
    return (mixture.log_weights.exp()[..., None] * mixture.mean).sum(dim=-2)[target]


def _filled(
    law: CopulaJointDistribution, how: Way, z: Tensor, given: Tensor, target: int, n_draws: int, points: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Imputed embeddings ``(S, n, d)`` and the variance of their mean's noise ``(n, d)``.

    A point forecast is two equal draws, the fewest that the energy score takes.
    """
    if how == "mean" or how == "zero":
        return points[how].expand(2, len(z), -1), torch.zeros_like(z[:, target])
    if how == "conditional mean":
        mean, error = (part[:, target] for part in law.conditional_mean(z, given, n_draws))
        return mean.expand(2, *mean.shape), error.square()
    draws = law.impute(z, given, n_draws, how=how)[:, :, target]
    return draws, draws.double().var(0) / n_draws


def _compare(draws: Tensor, noise: Tensor, truth: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    """Energy score and squared error of the mean, both ``(n,)``."""
    draws, truth = draws.double() / unit, truth.double() / unit
    return energy_score(draws, truth), (draws.mean(0) - truth).square().mean(-1) - (noise.double() / unit.square()).mean(-1)


def _blocks(stays: int) -> tuple[Tensor, ...]:
    return torch.arange(stays).split(BLOCK)
