r"""Rectangle probabilities of normal vectors: exact in two dimensions, quasi-Monte Carlo in more."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

_NODES = 141  # tanh-sinh nodes: absolute error below 1e-14 up to |ρ| = 0.999999
_POINTS = 4093
_SHIFTS = 4


def _tanh_sinh(like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes in (0, 1) and weights (Takahasi and Mori 1974): the nodes crowd at the ends."""
    step = torch.linspace(-3.3, 3.3, _NODES, dtype=torch.float64, device=like.device)
    inner = math.pi / 2 * torch.sinh(step)
    node = torch.sigmoid(2 * inner)
    weight = math.pi * torch.cosh(step) * node * torch.sigmoid(-2 * inner) * (step[1] - step[0])
    return node.to(like.dtype), weight.to(like.dtype)


class _BivariateNormalCdf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, k: Tensor, rho: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(h, k, rho, scale)
        node, weight = _tanh_sinh(h)
        end = torch.atan2(rho, scale).unsqueeze(-1)
        angle = end * node
        h_, k_ = h.unsqueeze(-1), k.unsqueeze(-1)
        difference = (h_ - torch.sign(end) * k_).square()
        # h² + k² - 2hk sin θ = (h -+ k)² +- 2hk(1 - |sin θ|): nothing cancels as |sin θ| -> 1
        exponent = difference / (2 * torch.cos(angle).square()) + torch.sign(end) * h_ * k_ / (1 + torch.sin(angle.abs()))
        integral = (torch.exp(-exponent) * weight).sum(-1) * end.squeeze(-1)
        return torch.special.ndtr(h) * torch.special.ndtr(k) + integral / (2 * math.pi)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        h, k, rho, scale = ctx.saved_tensors
        residual_k, residual_h = (k - rho * h) / scale, (h - rho * k) / scale
        phi_h, phi_k = torch.exp(-h * h / 2) / math.sqrt(2 * math.pi), torch.exp(-k * k / 2) / math.sqrt(2 * math.pi)
        grad_rho = phi_h * torch.exp(-residual_k.square() / 2) / (math.sqrt(2 * math.pi) * scale)
        reduce = lambda value, to: (grad * value).sum_to_size(to.shape)
        return (
            reduce(phi_h * torch.special.ndtr(residual_k), h),
            reduce(phi_k * torch.special.ndtr(residual_h), k),
            reduce(grad_rho, rho),
            None,
        )


def bivariate_normal_cdf(h: Tensor, k: Tensor, rho: Tensor, scale: Tensor) -> Tensor:
    r""":math:`\Phi(h)\Phi(k) + \frac1{2\pi}\int_0^{\arcsin\rho} \exp\{-\frac{h^2 + k^2 - 2hk\sin\theta}{2\cos^2\theta}\}\,d\theta`
    (Drezner and Wesolowsky 1990, by tanh-sinh quadrature), with exact first and second derivatives.

    Args:
        h, k: finite limits, shapes that broadcast.
        rho: correlation; the gradient with respect to the pair (rho, scale) flows through rho.
        scale: :math:`\sqrt{1-\rho^2}`, given apart because it cannot be recovered from rho near 1.
    """
    h, k, rho, scale = torch.broadcast_tensors(h, k, rho, scale)
    return _BivariateNormalCdf.apply(h, k, rho, scale)


def _lattice(dim: int, like: Tensor) -> Tensor:
    """Points of a shifted Richtmyer lattice with the baker's transform, (points, dim): square roots of primes, fixed shifts."""
    primes = [n for n in range(2, 60 * (dim + 1)) if all(n % m for m in range(2, int(n**0.5) + 1))][:dim]
    roots = torch.tensor(primes, dtype=torch.float64).sqrt()
    shifts = torch.rand(_SHIFTS, 1, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(20051))
    points = (torch.arange(1, _POINTS + 1, dtype=torch.float64).unsqueeze(-1) * roots + shifts) % 1.0
    return (1 - (2 * points - 1).abs()).reshape(-1, dim).to(like)


def multivariate_normal_cdf(limits: Tensor, cholesky: Tensor) -> Tensor:
    r""":math:`P(X_1 \le b_1, \ldots, X_d \le b_d)` for :math:`X \sim N(0, LL^\top)` by Genz's sequential conditioning on a fixed lattice.

    The points never change, so the value is a smooth, repeatable function of limits and factor; the error is about 1e-5 for d = 3 and 1e-4
    for d = 5 (Genz and Bretz 2009, section 4.2).

    Args:
        limits: (..., d), +inf allowed.
        cholesky: (*batch, d, d), unit rows.
    """
    dim = limits.shape[-1]
    shape = torch.broadcast_shapes(limits.shape[:-1], cholesky.shape[:-2])
    limits, correlation = limits.expand(*shape, dim), (cholesky @ cholesky.mT).expand(*shape, dim, dim)
    order = limits.detach().argsort(-1)  # smallest mass first: less variance, and infinite limits cost nothing
    rows = correlation.gather(-2, order.unsqueeze(-1).expand(*shape, dim, dim))
    matrix = rows.gather(-1, order.unsqueeze(-2).expand(*shape, dim, dim))
    limits, cholesky = limits.gather(-1, order), torch.linalg.cholesky_ex(matrix).L
    points = _lattice(dim - 1, limits)
    tiny = torch.finfo(limits.dtype).tiny
    value, known = 1.0, []
    for i in range(dim):
        row = cholesky[..., i, :]
        shift = sum((row[..., j, None] * known[j] for j in range(i)), start=limits.new_zeros(1))
        mass = torch.special.ndtr((limits[..., i, None] - shift) / row[..., i, None])
        value = value * mass
        if i < dim - 1:
            known.append(torch.special.ndtri((mass * points[:, i]).clamp_min(tiny)))
    return value.mean(-1)
