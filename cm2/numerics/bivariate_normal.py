r"""The bivariate normal distribution function."""

import math

import torch
from torch import Tensor

from cm2.numerics.context import Context

_NODES = 141  # tanh-sinh nodes: absolute error below 1e-14 up to |ρ| = 0.999999
_AT_ONCE = 1 << 17  # values of the integrand at a time, which fit into the cache


def tanh_sinh(like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the tanh-sinh rule on (0, 1) (Takahasi and Mori 1974), dense at both ends."""
    step = torch.linspace(-3.3, 3.3, _NODES, dtype=torch.float64, device=like.device)
    inner = math.pi / 2 * torch.sinh(step)
    node = torch.sigmoid(2 * inner)
    weight = math.pi * torch.cosh(step) * node * torch.sigmoid(-2 * inner) * (step[1] - step[0])
    return node.to(like.dtype), weight.to(like.dtype)


def _integral(h: Tensor, k: Tensor, end: Tensor, node: Tensor, weight: Tensor) -> Tensor:
    """Integral over the correlation in `bivariate_normal_cdf`, (n) each -> (n)."""
    end, h, k = (each.unsqueeze(-1) for each in (end, h, k))
    angle, sign = end * node, torch.sign(end)
    # h² + k² - 2hk sin θ = (h -+ k)² +- 2hk(1 - |sin θ|): nothing cancels as |sin θ| -> 1
    far, near = 0.5 / torch.cos(angle).square(), sign / (1 + torch.sin(angle.abs()))
    exponent = (h - sign * k).square() * far + h * k * near
    return (torch.exp(-exponent) @ weight) * end.squeeze(-1)


class _BivariateNormalCdf(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(ctx: Context, h: Tensor, k: Tensor, rho: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(h, k, rho, scale)
        node, weight = tanh_sinh(h)
        end = torch.atan2(rho, scale)
        shape = torch.broadcast_shapes(h.shape, end.shape)
        size = _AT_ONCE // len(node)
        h_parts, k_parts = (each.expand(shape).flatten().split(size) for each in (h, k))
        # the angles of a single correlation are computed once
        ends = [end.view(1)] * len(h_parts) if end.numel() == 1 else end.expand(shape).flatten().split(size)
        parts = zip(h_parts, k_parts, ends, strict=True)
        integral = torch.cat([_integral(*part, node, weight) for part in parts]).view(shape)
        # rounding of the two terms can leave -1e-17 where they cancel
        return (torch.special.ndtr(h) * torch.special.ndtr(k) + integral / (2 * math.pi)).clamp_min(0)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor | None, ...]:
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
    (Drezner and Wesolowsky 1990), by tanh-sinh quadrature, with exact first and second derivatives.

    Args:
        h, k: finite limits, shapes that broadcast.
        rho: correlation; the gradient with respect to the pair (rho, scale) flows through rho.
        scale: :math:`\sqrt{1-\rho^2}`, passed separately because it cannot be recovered from rho near 1.
    """
    h, k = torch.broadcast_tensors(h, k)
    return _BivariateNormalCdf.apply(h, k, rho, scale)
