r"""Mean of a missing normal score given the observed ones, by quadrature.

.. math:: E[X_a \mid x_O] = \int x \, \varphi(x) \, \frac{c(\Phi(x), u_O)}{c(u_O)} \, dx, \qquad u_O = \Phi(x_O)

One dimension at a time, whatever the number of coordinates: the others that are missing are integrated out by the copula's margin.
The trapezoidal rule on the whole line converges exponentially in the number of nodes (Trefethen, Weideman 2014, SIAM Review 56). The
stated error compares the rules of the even and of the odd nodes: their means differ, or their masses, by which one node may be all that
a narrow conditional density is seen at.
"""

from collections.abc import Callable

import torch
from torch import Tensor

_NODES, _REACH = 193, 9.0


def conditional_mean(log_prob_scores: Callable[[Tensor, Tensor], Tensor], x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """See `cm2.copulas.base.CopulaDistribution.conditional_mean_scores`.

    Args:
        log_prob_scores: the copula's log density as a function of scores and mask, both (..., dim).
        x: normal scores, (..., dim).
        present: bool, (..., dim).
    """
    x, present = torch.broadcast_tensors(torch.where(present, x, 0.0), present)
    # a copula that is nearly comonotone puts the missing score where the observed ones are, however far out
    half_width = _REACH + x.detach().abs().amax(-1)
    grid = torch.linspace(-1, 1, _NODES, dtype=x.dtype, device=x.device)
    # in front: behind, the nodes would be taken for a batch of parameters
    nodes = half_width * grid.view(-1, *[1] * half_width.ndim)
    spacing = 2 * half_width / (_NODES - 1)
    means, errors = [], []
    for a in range(x.shape[-1]):
        column = torch.arange(x.shape[-1], device=x.device) == a
        points = torch.where(column, nodes[..., None], x)
        log_weight = log_prob_scores(points, (present | column).expand(points.shape)) - nodes.square() / 2
        weight = log_weight.softmax(0)
        means.append((weight * nodes).sum(0))
        even, odd = ((log_weight[start::2].softmax(0) * nodes[start::2]).sum(0) for start in (0, 1))
        unequal = weight[::2].sum(0) - weight[1::2].sum(0)
        errors.append(((even - odd).abs() + spacing * unequal.abs()).detach())
    mean, error = torch.stack(means, -1), torch.stack(errors, -1)
    return torch.where(present, x, mean), torch.where(present, 0.0, error)
