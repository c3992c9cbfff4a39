"""Energy score of predictive draws, two-sample energy test.

References:
    Gneiting, Raftery (2007), Strictly proper scoring rules, prediction, and estimation, JASA 102
    Székely, Rizzo (2013), Energy statistics: a class of statistics based on distances, JSPI 143
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cm2.errors import InputError


@dataclass(frozen=True)
class TwoSample:
    """Result of an energy test of equal distributions."""

    statistic: float
    """Energy distance, 0 in expectation if the distributions are equal."""
    p_value: float
    """Share of permutations (the observed labels counted as one) with a statistic at least as large."""


def energy_score(draws: Tensor, truth: Tensor) -> Tensor:
    r"""Energy score of a distribution represented by draws, smaller is better; its expectation is least for the true distribution.

    .. math:: ES = \frac1S \sum_s \lVert X_s - y \rVert - \frac{1}{2 S (S - 1)} \sum_{s \ne t} \lVert X_s - X_t \rVert

    Args:
        draws: ``(S, ..., d)``, S >= 2.
        truth: ``(..., d)``.

    Returns:
        ``(...)``, unbiased for the score of the distribution itself.

    Raises:
        ValueError: fewer than two draws, or shapes that disagree.
    """
    if draws.shape[1:] != truth.shape or len(draws) < 2:
        raise InputError(f"energy_score: expected draws (S, *{tuple(truth.shape)}) with S >= 2, got {tuple(draws.shape)}")
    many = draws.flatten(1, -2) if draws.ndim > 2 else draws[:, None]
    near = (many - truth.reshape(-1, truth.shape[-1])).norm(dim=-1).mean(0)
    by_stay = many.transpose(0, 1).contiguous()
    between = torch.cdist(by_stay, by_stay).sum((1, 2)) / (len(draws) * (len(draws) - 1))
    return (near - between / 2).reshape(truth.shape[:-1])


def energy_test(x: Tensor, y: Tensor, permutations: int = 199, seed: int = 0) -> TwoSample:
    """Tests by permutation of the labels whether two samples come from the same distribution.

    Args:
        x: ``(n, d)``, n >= 2.
        y: ``(m, d)``, m >= 2. Memory grows with (n + m) squared.
        permutations: number of random permutations.
        seed: seed of the permutations.

    Raises:
        ValueError: samples that are not two-dimensional, differ in d or are too small.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise InputError(f"energy_test: expected (n, d) and (m, d) with n, m >= 2, got {tuple(x.shape)} and {tuple(y.shape)}")
    n, m = len(x), len(y)
    distance = torch.cdist(*(torch.cat((x, y)),) * 2)
    generator = torch.Generator().manual_seed(seed)
    # all permutations in one product: a column marks the rows labelled as the first sample, column 0 the observed labels
    member = torch.zeros(n + m, permutations + 1, dtype=distance.dtype)
    member[:n, 0] = 1
    for column in range(1, permutations + 1):
        member[torch.randperm(n + m, generator=generator)[:n], column] = 1
    to_first = distance @ member
    within_first = (member * to_first).sum(0)
    across = ((1 - member) * to_first).sum(0)
    within_second = distance.sum() - within_first - 2 * across
    statistic = 2 * across / (n * m) - within_first / (n * (n - 1)) - within_second / (m * (m - 1))
    p_value = float((statistic >= statistic[0]).double().mean())
    return TwoSample(float(statistic[0]), p_value)
