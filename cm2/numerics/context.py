"""Type of the context of autograd functions, with the attributes missing from torch's stubs."""

from __future__ import annotations

from torch import Tensor
from torch.autograd.function import FunctionCtx


class Context(FunctionCtx):
    """Context written by ``setup_context`` and read by ``backward``; functions that store more attributes declare them in a subclass."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]
