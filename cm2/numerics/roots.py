"""Vectorised root finding for monotone functions, differentiable by the implicit function theorem."""

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
    r"""Root of a decreasing function in ``[lower, upper]``, element by element: Newton steps, with bisection if one leaves the bracket.

    The number of iterations is fixed, so that nothing waits for a device. The gradient is that of the implicit function theorem: the last
    Newton step :math:`x = x_0 - g(x_0;\theta)/g'(x_0)` is taken with :math:`x_0` and :math:`g'` constant, hence
    :math:`dx/d\theta = -g_\theta/g'`. Only first derivatives are correct.

    Args:
        function: x -> (value, slope), both of x's shape; the value decreasing in x; differentiable in whatever it closes over.
        lower, upper: ends of the bracket, value(lower) >= 0 >= value(upper).
        iterations: number of steps; a bisection step halves the bracket.
        start: first point, inside the bracket; by default its middle.
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
