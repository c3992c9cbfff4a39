"""Scores of draws and the two-sample test."""

from __future__ import annotations

import math

import pytest
import torch

from cm2.book.checks import check
from cm2.evaluation.scores import energy_score, energy_test


def test_energy_score_is_the_definition() -> None:
    draws, truth = torch.randn(5, 3, 2, 4, dtype=torch.float64), torch.randn(3, 2, 4, dtype=torch.float64)
    score = energy_score(draws, truth)
    assert score.shape == (3, 2)
    near = sum((x[1, 0] - truth[1, 0]).norm() for x in draws) / 5
    between = sum((x[1, 0] - y[1, 0]).norm() for x in draws for y in draws) / (5 * 4)
    assert float(score[1, 0]) == pytest.approx(float(near - between / 2))


def test_energy_score_of_a_normal_law_is_the_known_one() -> None:
    # d = 1: the score at 0 of N(0, 1) is 2 phi(0) - 1 / sqrt(pi) (Gneiting and Raftery 2007, equation 21)
    torch.manual_seed(0)
    score = energy_score(torch.randn(3000, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    assert float(score) == pytest.approx(math.sqrt(2 / math.pi) - 1 / math.sqrt(math.pi), abs=0.03)


def test_energy_score_prefers_the_right_law() -> None:
    torch.manual_seed(1)
    truth = torch.randn(400, 3, dtype=torch.float64)
    draw = lambda shift, scale: shift + scale * torch.randn(64, 400, 3, dtype=torch.float64)
    right = energy_score(draw(0, 1), truth).mean()
    assert all(right < energy_score(draw(*wrong), truth).mean() for wrong in ((1, 1), (0, 2), (0, 0.3)))


def test_energy_test_accepts_one_law_and_refuses_another() -> None:
    torch.manual_seed(2)
    x, y = torch.randn(300, 2), torch.randn(200, 2)
    same, other = energy_test(x, y), energy_test(x, y + 0.5)
    assert other.p_value == pytest.approx(1 / 200) and other.statistic > 2 * abs(same.statistic)
    assert energy_test(x, y) == same


def test_energy_test_has_its_level() -> None:
    torch.manual_seed(3)
    n = 100
    p = [energy_test(torch.randn(20, 2), torch.randn(15, 2), permutations=19, seed=k).p_value for k in range(n)]
    # uniform on 0.05, 0.10, ..., 1
    check("the mean p-value of one law", sum(p) / n, near=0.525, standard_error=0.288 / n**0.5)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="S >= 2"):
        energy_score(torch.zeros(1, 3, 2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="energy_test"):
        energy_test(torch.zeros(3, 2), torch.zeros(3, 4))
