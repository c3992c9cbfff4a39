"""Vectorised root finding for monotone functions, with the gradient of the implicit function."""

from collections.abc import Callable

import torch
from torch import Tensor


def monotone_root(
    function: Callable[[Tensor], tuple[Tensor, Tensor]],
    lower: Tensor,
    upper: Tensor,
    iterations: int = 40,
    start: Tensor | None = None,
) -> Tensor:
    r"""The root of a decreasing function in ``[lower, upper]``, element by element: Newton steps, bisection where they leave the bracket.

    The count of iterations is fixed, so nothing waits for a device. The gradient is that of the implicit function theorem: the last Newton
    step :math:`x = x_0 - g(x_0;\theta)/g'(x_0)` is taken with :math:`x_0` and :math:`g'` held constant, so that
    :math:`dx/d\theta = -g_\theta/g'`. Only first derivatives are right.

    Args:
        function: x -> (value, slope), both of x's shape; the value decreasing in x; differentiable in whatever it closes over.
        lower, upper: ends of the bracket, value(lower) >= 0 >= value(upper).
        iterations: number of steps; bisection alone halves the bracket with each.
        start: the first point tried, inside the bracket; its middle without.
    """
    with torch.no_grad():
        low, high = torch.broadcast_tensors(lower.detach(), upper.detach())
        x = (low + high) / 2 if start is None else start.detach()
        for _ in range(iterations):
            value, slope = function(x)
            above = value > 0
            low, high = torch.where(above, x, low), torch.where(above, high, x)
            step = x - value / slope
            inside = (step >= low) & (step <= high)
            x = torch.where(inside, step, (low + high) / 2)
    value, slope = function(x)
    return x - value / slope.detach()
