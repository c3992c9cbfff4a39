"""Networks as an accelerator is fastest with them, during training: compiled, channels of images in the last place of memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from cm2.config import TrainConfig
from cm2.escape import one_line
from cm2.methods import Method
from cm2.networks.encoders import FeatureNetwork

COMPILER: dict[str, Any] = {"options": {"fallback_random": True}}
"""How networks are compiled: random numbers, those of dropout, are the ones that would be drawn without."""


def quicken(method: Method, config: TrainConfig, device: torch.device) -> None:
    """Prepares a method's networks as the settings ask for, before they move to the device. What they compute is equal but for rounding.

    Warns where torch cannot compile for the device, and leaves the networks as they are.
    """
    if config.channels_last:
        for convolution in _convolutions(method):
            _lay_out(convolution.weight, torch.channels_last)
    if config.compile:
        _compile(method, device)


def slacken(method: Method) -> None:
    """The networks as they were built: what is stored, and computed after the training, does not depend on how they were trained."""
    for convolution in _convolutions(method):
        _lay_out(convolution.weight, torch.contiguous_format)
    for part in _compilable(method):
        part._compiled_call_impl = None


@contextmanager
def checks_kept() -> Iterator[None]:
    """Keeps the checks of `torch.distributions`, which torch's compiler turns off for the whole process when it is first used."""
    before = Distribution._validate_args
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


@checks_kept()
def _compile(method: Method, device: torch.device) -> None:
    if not (parts := list(_compilable(method))):
        return
    if reason := why_not_compiled(device):
        warnings.warn(f"train.compile: torch cannot compile here ({reason}); the networks run as they are", stacklevel=4)
        return
    for part in parts:
        part.compile(**COMPILER)
        part._compiled_call_impl = _or_as_it_is(part, part._compiled_call_impl)


@cache
@checks_kept()
def why_not_compiled(device: torch.device) -> str:
    """What keeps torch from compiling for a device, in a few words; empty if nothing does. Compiles a small function to find out."""
    x = torch.ones(4, 4, device=device, requires_grad=True)
    try:
        torch.compile(_small, **COMPILER)(x).backward()
    except Exception as error:  # of a compiler that is missing, or of any part of torch below
        return _short(error)
    return ""


def _or_as_it_is(part: nn.Module, compiled: Any) -> Callable[..., Any]:
    """Calls of a compiled part, which from the first that torch cannot compile are calls of the part as it is."""
    from torch._dynamo.exc import TorchDynamoException

    def call(*args: Any, **options: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", r"The \.grad attribute")  # which torch looks at itself while it takes the graph
                return compiled(*args, **options)
        except TorchDynamoException as error:
            part._compiled_call_impl = None
            warnings.warn(f"train.compile: {type(part).__name__} runs as it is ({_short(error)})", stacklevel=2)
            return part(*args, **options)

    return call


def _short(error: Exception) -> str:
    return f"{one_line(error):.100}" or type(error).__name__


def _small(x: Tensor) -> Tensor:
    return nn.functional.gelu(x @ x).sum()


def _convolutions(method: Method) -> Iterator[nn.Conv2d]:
    return (module for module in method.modules() if isinstance(module, nn.Conv2d))


def _compilable(method: Method) -> Iterator[nn.Module]:
    return (part for module in method.modules() if isinstance(module, FeatureNetwork) for part in module.compilable())


def _lay_out(weight: Tensor, order: torch.memory_format) -> None:
    weight.data = weight.data.contiguous(memory_format=order)
