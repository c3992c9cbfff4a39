"""What torch hands to the methods of an autograd function, with the attributes that its stubs leave out."""

from __future__ import annotations

from torch import Tensor
from torch.autograd.function import FunctionCtx


class Context(FunctionCtx):
    """A context as ``setup_context`` fills it and ``backward`` reads it; a function that keeps more declares it in a subclass."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]
