r"""Rosenblatt transform of a Gaussian mixture with diagonal covariance, its inverse and its implicit gradients.

.. math::
    u_j = F(z_j \mid z_{<j}) = \sum_k w_{kj} \Phi\!\left(\frac{z_j - \mu_{kj}}{\sigma_{kj}}\right), \qquad
    w_{kj} \propto \pi_k \prod_{i<j} N(z_i; \mu_{ki}, \sigma_{ki}^2)

The weights of all coordinates are one softmax of cumulative sums of log densities. Arguments named ``law`` have ``log_weights``
``(..., K)``, ``mean`` and ``scale`` ``(..., K, d)``, like `cm2.marginals.GaussianMixtureDistribution`.
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
    coordinates = []
    for j in range(log_u.shape[-1]):
        mean, scale = law.mean[..., j], law.scale[..., j]
        z = _quantile(log_w, mean, scale, quantile[..., j], target[..., j], side[..., j])
        log_w = log_w - 0.5 * ((z[..., None] - mean) / scale).square() - scale.log()
        log_w = log_w - log_w.amax(-1, keepdim=True)
        coordinates.append(z)
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
    :math:`\partial r_j / \partial z_i = \pm \sum_k (p_{kj} - w_{kj}) s_{ki}` for :math:`i < j`, where :math:`p_{kj}` is the share of
    component k in that tail and :math:`s_{ki} = \partial \log N_{ki} / \partial z_i`; the diagonal is :math:`\pm` the conditional
    density over the tail. From :math:`r(z; \theta) = r^*`: :math:`dL/dr^* = J^{-T} g` and
    :math:`dL/d\theta = -(J^{-T} g)^T \partial r / \partial \theta` (Figurnov, Mohamed, Mnih 2018, eq. 5).

    Args:
        law: the mixture.
        z: ``(..., d)`` points, taken as constants.
        log_u: ``(..., d)`` log of the uniforms that z was computed from, or None: they are held fixed.
        log1m_u: ``(..., d)`` log(1 - u).
    """
    z = z.detach()
    inputs = [law.log_weights, law.mean, law.scale, *(t for t in (log_u, log1m_u) if t is not None)]
    if not (torch.is_grad_enabled() and any(t.requires_grad for t in inputs)):
        return z
    low, high, x, log_density, log_w, log_cdf = chain(law, z)
    lower = low.detach() < high.detach()
    residual = -torch.where(lower, low, high)
    if log_u is not None and log1m_u is not None:
        residual = residual + torch.where(lower, log_u, log1m_u)
    return _ImplicitSolve.apply(z, residual, *_jacobian_factors(law, x, log_density, log_w, log_cdf, low, high))


@torch.no_grad()
def _jacobian_factors(
    law: Mixture, x: Tensor, log_density: Tensor, log_w: Tensor, log_cdf: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Factors a, s ``(..., K, d)`` and diagonal q ``(..., d)`` with J = tril(a^T s, -1) + diag(q)."""
    lower = low < high
    tail = torch.where(lower, low, high)
    component_tail = torch.where(lower[..., None, :], log_cdf, log_ndtr(-x))
    weight = log_w.exp()
    share = (log_w + component_tail - tail[..., None, :]).exp()
    hazard = ((log_w + log_density).logsumexp(-2) - tail).exp()
    return share - weight, -x / law.scale, torch.where(lower, hazard, -hazard)


class _ImplicitSolve(torch.autograd.Function):
    @staticmethod
    def forward(z: Tensor, residual: Tensor, a: Tensor, s: Tensor, q: Tensor) -> Tensor:
        return z.clone()

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Context, grad: Tensor) -> tuple[None, Tensor, None, None, None]:
        a, s, q = ctx.saved_tensors
        with torch.autocast(grad.device.type, enabled=False):  # which would take the product in 16 bits
            rows = ((a / q[..., None, :]).mT @ s).tril(-1)  # J with its rows divided by q: the unit diagonal is left out
            y = torch.linalg.solve_triangular(rows.mT, grad.to(q.dtype)[..., None], upper=True, unitriangular=True).squeeze(-1)
        return None, y / q, None, None, None
