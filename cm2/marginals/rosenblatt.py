r"""The Rosenblatt transform of a Gaussian mixture, its inverse and its implicit gradients.

With Cholesky factors :math:`\Sigma_k = L_k L_k^\top` and :math:`x_k = L_k^{-1}(z - \mu_k)`, coordinate j of :math:`x_k` depends on
:math:`z_{\le j}` alone and is standard normal given :math:`z_{<j}` and component k:

.. math::
    u_j = F(z_j \mid z_{<j}) = \sum_k w_{kj} \Phi(x_{kj}), \qquad w_{kj} \propto \pi_k \prod_{i<j} \varphi(x_{ki}) / (L_k)_{ii}

The weights of all coordinates are one running softmax of cumulated log densities. Arguments named ``law`` have ``log_weights``
``(..., K)``, ``mean`` and ``scale``, the factors' diagonals, ``(..., K, d)``, and ``scale_tril``, the factors ``(..., K, d, d)``, None
where they are diagonal, as `cm2.marginals.GaussianMixtureDistribution` does.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from cm2.numerics.context import Context
from cm2.numerics.normal import log_ndtr, normal_quantile, normal_tails

_LOG_SQRT_TAU = 0.5 * math.log(2 * math.pi)
_BISECTIONS, _NEWTON_STEPS = 20, 4


class Mixture(Protocol):
    """Interface of a mixture to the transform."""

    log_weights: Tensor
    scale: Tensor
    scale_tril: Tensor | None

    @property
    def mean(self) -> Tensor: ...

    def standardise(self, z: Tensor) -> Tensor: ...


def chain(law: Mixture, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The transform and the factors of its derivatives.

    Args:
        law: the mixture.
        z: ``(..., d)``.

    Returns:
        log u and log(1 - u), both ``(..., d)``; then, all ``(..., K, d)``: the standardised coordinates, their log normal
        densities, the log weights w and the logarithms of the components' lower tails.
    """
    x = law.standardise(z)
    log_density = -0.5 * x.square() - law.scale.log() - _LOG_SQRT_TAU
    log_w = _running_weights(law.log_weights, log_density)
    log_cdf, log_sf = normal_tails(x)
    return (log_w + log_cdf).logsumexp(-2), (log_w + log_sf).logsumexp(-2), x, log_density, log_w, log_cdf


def _running_weights(log_weights: Tensor, log_density: Tensor) -> Tensor:
    """log w: softmax over k of the prior and the densities of the coordinates before j, both ``(..., K, d)``.

    Only differences between components matter: subtracting the largest log density first keeps the sums, and with them the
    rounding errors, small.
    """
    relative = log_density - log_density.amax(-2, keepdim=True)
    before = torch.nn.functional.pad(relative[..., :-1], (1, 0)).cumsum(-1)
    return (log_weights[..., None] + before).log_softmax(-2)


def invert(law: Mixture, log_u: Tensor, log1m_u: Tensor) -> Tensor:
    """The z whose transform has these log tails, both ``(..., d)``; without gradients (see `implicit_reparameterise`)."""
    batch = torch.broadcast_shapes(log_u.shape[:-1], law.log_weights.shape[:-1])
    log_w = law.log_weights.expand(*batch, -1)
    # solve for the smaller tail: the logarithm of the larger one is near 0, where few of its digits are significant
    lower, quantile = log_u < log1m_u, normal_quantile(log_u, log1m_u)
    target = torch.where(lower, log_u, log1m_u)
    side = torch.where(lower, 1.0, -1.0).to(target.dtype)
    coordinates: list[Tensor] = []
    standardised: list[Tensor] = []
    for j in range(log_u.shape[-1]):
        mean, scale = law.mean[..., j], law.scale[..., j]
        if law.scale_tril is not None and j:
            mean = mean + (law.scale_tril[..., j, :j] * torch.stack(standardised, -1)).sum(-1)
        z = _quantile(log_w, mean, scale, quantile[..., j], target[..., j], side[..., j])
        x = (z[..., None] - mean) / scale
        log_w = log_w - 0.5 * x.square() - scale.log()
        log_w = log_w - log_w.amax(-1, keepdim=True)
        coordinates.append(z)
        standardised.append(x)
    return torch.stack(coordinates, -1)


def _quantile(log_w: Tensor, mean: Tensor, scale: Tensor, quantile: Tensor, target: Tensor, side: Tensor) -> Tensor:
    """Quantile of a univariate mixture ``(..., K)`` -> ``(...)``, bracketed by the smallest and the largest quantile of its components.

    Bisection first: between distant components the distribution function is flat, and Newton's steps are useless.
    """
    log_w = log_w.log_softmax(-1)
    each = mean + scale * quantile[..., None]
    low, high = each.amin(-1), each.amax(-1)
    middle = 0.5 * (low + high)
    for step in range(_BISECTIONS + _NEWTON_STEPS):
        x = (middle[..., None] - mean) / scale
        tail = (log_w + log_ndtr(side[..., None] * x)).logsumexp(-1)
        error = side * (tail - target)
        if step < _BISECTIONS:
            above = error > 0
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
            middle = 0.5 * (low + high)
        else:
            log_p = (log_w - 0.5 * x.square() - scale.log() - _LOG_SQRT_TAU).logsumexp(-1)
            move = (error * (tail - log_p).exp()).nan_to_num(0.0)  # in such a gap exp may overflow: 0 * inf is no move
            middle = torch.minimum(torch.maximum(middle - move, low), high)
    return middle


def implicit_reparameterise(law: Mixture, z: Tensor, log_u: Tensor | None = None, log1m_u: Tensor | None = None) -> Tensor:
    r"""z with the gradient of the inverse Rosenblatt transform at z with respect to every parameter of the mixture and, if passed, u.

    With :math:`r_j` the logarithm of the smaller tail of :math:`u_j`, :math:`J = \partial r / \partial z` is lower triangular:
    :math:`J = \sum_k G_k L_k^{-1}` with :math:`(G_k)_{ji} = -(p_{kj} - w_{kj}) x_{ki}` for :math:`i < j`, where :math:`p_{kj}` is the
    share of component k in that tail, and the component's density over the tail on the diagonal. From :math:`r(z; \theta) = r^*`:
    :math:`dL/dr^* = J^{-\top} g` and :math:`dL/d\theta = -(J^{-\top} g)^\top \partial r / \partial \theta` (Figurnov, Mohamed, Mnih
    2018, eq. 5).

    Args:
        law: the mixture.
        z: ``(..., d)`` points, taken as constants.
        log_u: ``(..., d)`` log of the uniforms that z was computed from, or None: they are held fixed.
        log1m_u: ``(..., d)`` log(1 - u).
    """
    z = z.detach()
    inputs = [law.log_weights, law.mean, law.scale, *(t for t in (law.scale_tril, log_u, log1m_u) if t is not None)]
    if not (torch.is_grad_enabled() and any(t.requires_grad for t in inputs)):
        return z
    low, high, x, log_density, log_w, log_cdf = chain(law, z)
    lower = low.detach() < high.detach()
    residual = -torch.where(lower, low, high)
    if log_u is not None and log1m_u is not None:
        residual = residual + torch.where(lower, log_u, log1m_u)
    return _ImplicitSolve.apply(z, residual, law.scale, law.scale_tril, *_jacobian_factors(x, log_density, log_w, log_cdf, low, high, law))


@torch.no_grad()
def _jacobian_factors(
    x: Tensor, log_density: Tensor, log_w: Tensor, log_cdf: Tensor, low: Tensor, high: Tensor, law: Mixture
) -> tuple[Tensor, Tensor, Tensor]:
    """a, s and h, all ``(..., K, d)``: each component's G is tril(a^T s, -1) + diag(h)."""
    lower = low < high
    tail = torch.where(lower, low, high)
    component_tail = torch.where(lower[..., None, :], log_cdf, log_ndtr(-x))
    share = (log_w + component_tail - tail[..., None, :]).exp()
    # log_density is that of z_j: times the scale it is that of x_j
    hazard = (log_w + log_density + law.scale.log() - tail[..., None, :]).exp()
    return share - log_w.exp(), -x, torch.where(lower[..., None, :], hazard, -hazard)


class _ImplicitSolve(torch.autograd.Function):
    @staticmethod
    def forward(z: Tensor, residual: Tensor, scale: Tensor, scale_tril: Tensor | None, a: Tensor, s: Tensor, h: Tensor) -> Tensor:
        return z.clone()

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Context, grad: Tensor) -> tuple[None, Tensor, None, None, None, None, None]:
        scale, scale_tril, a, s, h = ctx.saved_tensors
        with torch.autocast(grad.device.type, enabled=False):
            diagonal = (h / scale).sum(-2)
            if scale_tril is None:
                rows = ((a / diagonal[..., None, :]).mT @ (s / scale)).tril(-1)
            else:
                each = (a[..., :, None] * s[..., None, :]).tril(-1) + torch.diag_embed(h)
                rows = torch.linalg.solve_triangular(scale_tril, each, upper=False, left=False).sum(-3) / diagonal[..., None]
            # J scaled by rows, its diagonal is one
            y = torch.linalg.solve_triangular(rows.mT, grad.to(diagonal.dtype)[..., None], upper=True, unitriangular=True).squeeze(-1)
        return None, y / diagonal, None, None, None, None, None
