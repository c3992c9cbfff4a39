"""Evaluation in blocks changes nothing but the time and, where a block ends, a last digit."""

import torch

from cm2.numerics.blocks import BLOCK, blockwise

N = 2 * BLOCK + 777


def function(points, parameters):
    (slope, power) = parameters
    return slope * points[:, 0] ** power * torch.exp(points[:, 1])


def case():
    torch.manual_seed(0)
    slope = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    power = (2 * slope).exp().log() / 2  # made from the other parameter: its share must not be counted twice
    return torch.rand(N, 2, dtype=torch.float64).requires_grad_(), slope, power


def test_value_and_gradients_are_those_of_the_plain_call():
    points, slope, power = case()
    weight = torch.randn(N, dtype=torch.float64)
    fast, plain = blockwise(function, points, (slope, power)), function(points, (slope, power))
    torch.testing.assert_close(fast, plain, rtol=1e-13, atol=0)
    for left, right in zip(
        *(torch.autograd.grad((v * weight).sum(), (points, slope), retain_graph=True) for v in (fast, plain)), strict=True
    ):
        torch.testing.assert_close(left, right)


def test_second_derivatives():
    seconds = []
    for evaluate in (blockwise, lambda f, points, parameters: f(points, parameters)):
        points, slope, power = case()
        value = evaluate(function, points, (slope, power))
        first = torch.autograd.grad(value.sum(), (points, slope), create_graph=True)
        seconds.append(torch.autograd.grad(first[0].sum() + first[1], (points, slope)))
    for left, right in zip(*seconds, strict=True):
        torch.testing.assert_close(left, right)


def test_only_what_is_needed_gets_a_gradient():
    points, slope, _ = case()
    value = blockwise(lambda p, _: p[:, 0], points, (slope,))
    value.sum().backward()
    assert slope.grad is None
    assert (points.grad[:, 0] == 1).all()


def test_transformations_see_the_plain_function():
    points, slope, power = case()
    grad = torch.func.grad(lambda s: blockwise(function, points.detach(), (s, power.detach())).sum())(slope.detach())
    (expected,) = torch.autograd.grad(function(points.detach(), (slope, power.detach())).sum(), slope)
    torch.testing.assert_close(grad, expected)
