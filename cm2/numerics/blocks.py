"""Blockwise evaluation of pointwise functions, in which operands stay in the processor's cache."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cm2.numerics.context import Context

BLOCK = 65_536  # points: a column of doubles is half a level-2 cache of 1 MiB, and the overhead of a call is small in comparison

Pointwise = Callable[[Tensor, Sequence[Tensor]], Tensor]


def block_sizes(count: int) -> list[int]:
    """Sizes of the blocks into which `count` points are split; a single 0 for no points."""
    return [BLOCK] * (count // BLOCK) + ([count % BLOCK] if count % BLOCK or not count else [])


class _FunctionContext(Context):
    function: Pointwise


class _Blockwise(torch.autograd.Function):
    @staticmethod
    def forward(function: Pointwise, points: Tensor, *parameters: Tensor) -> Tensor:
        first = function(points[:BLOCK], parameters)
        out = first.new_empty(len(points))
        out[:BLOCK] = first
        for start in range(BLOCK, len(points), BLOCK):
            out[start : start + BLOCK] = function(points[start : start + BLOCK], parameters)
        return out

    @staticmethod
    def setup_context(ctx: _FunctionContext, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.function = inputs[0]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: _FunctionContext, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        needed = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():  # higher derivatives need the whole graph
            return None, *_gradients(ctx.function, inputs, needed, grad, create_graph=True)
        points, *parameters = inputs
        sums: list[Tensor | None] = [torch.empty_like(points) if needed[0] else None, *([None] * len(parameters))]
        for start in range(0, len(points), BLOCK):
            block = slice(start, start + BLOCK)
            grads = _gradients(ctx.function, (points[block], *parameters), needed, grad[block])
            if sums[0] is not None:
                sums[0][block] = 0.0 if grads[0] is None else grads[0]
            for i, each in enumerate(grads[1:], 1):
                if each is not None:
                    so_far = sums[i]
                    sums[i] = each if so_far is None else so_far + each
        return None, *sums


def _gradients(
    function: Pointwise, inputs: Sequence[Tensor], needed: Sequence[bool], grad: Tensor, create_graph: bool = False
) -> list[Tensor | None]:
    """Gradients of the function at `inputs`, None if not needed or not used."""
    with torch.enable_grad():
        # aliases: if one input is computed from another, its contribution must not be counted twice
        alias = [
            each.view_as(each) if create_graph else each.detach().requires_grad_(need) for each, need in zip(inputs, needed, strict=True)
        ]
        value = function(alias[0], alias[1:])
        wanted = [each for each, need in zip(alias, needed, strict=True) if need]
        found = iter(torch.autograd.grad(value, wanted, grad, create_graph=create_graph, allow_unused=True))
    return [next(found) if need else None for need in needed]


def blockwise(function: Pointwise, points: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """`function(points, parameters)`, block by block if that is faster: for many points on the host, outside functorch and compilers.

    The backward pass evaluates each block again instead of storing all intermediate results: it needs memory for one block only, and on a
    CPU recomputing in cache is faster than reading from memory.

    Args:
        function: (points (n, d), parameters) -> (n,), row by row; differentiable in both.
        points: (n, d).
        parameters: tensors in which the function is differentiable, without a dimension for the points.
    """
    large = points.is_cpu and 2 * len(points) > 3 * BLOCK
    if not large or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return function(points, parameters)
    return _Blockwise.apply(function, points, *parameters)
