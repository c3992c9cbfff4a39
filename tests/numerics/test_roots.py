"""Safeguarded Newton with the implicit gradient."""

import pytest
import torch

from cm2.numerics.roots import monotone_root


@pytest.mark.parametrize("start", [None, "upper"])
def test_root_and_implicit_gradient(start):
    target = torch.tensor([1e-8, 0.3, 2.0, 500.0], dtype=torch.float64, requires_grad=True)
    upper = torch.full((4,), 10.0, dtype=torch.float64)
    function = lambda x: (target - torch.expm1(x), -torch.exp(x))
    root = monotone_root(function, torch.zeros(4, dtype=torch.float64), upper, start=upper if start else None)
    torch.testing.assert_close(root, torch.log1p(target), rtol=1e-7, atol=1e-15)
    (grad,) = torch.autograd.grad(root.sum(), target)
    torch.testing.assert_close(grad, 1 / (1 + target.detach()), rtol=1e-9, atol=0)


def test_bisection_takes_over_where_newton_leaves_the_bracket():
    function = lambda x: (-torch.atan(50 * (x - 0.9)), -50 / (1 + (50 * (x - 0.9)) ** 2))
    root = monotone_root(function, torch.tensor([-100.0]).double(), torch.tensor([100.0]).double(), iterations=40)
    assert root.item() == pytest.approx(0.9, abs=1e-12)
