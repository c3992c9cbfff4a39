"""Pretrained networks of which only the last blocks are trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import nn

from cm2.errors import InputError

_CONTAINERS = (nn.Sequential, nn.ModuleList)
_PLAIN = (nn.Module, nn.ModuleDict, object)


def blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks of a network in their order: residual blocks, layers of a transformer.

    They are the outermost modules that stand in a sequence or list of modules, are no layers of torch's own or variants of them, and of
    which there are several of one class, or one alone in a list.
    """
    members = [m for c in network.modules() if isinstance(c, _CONTAINERS) for m in c]
    own = [m for m in members if not any(base.__module__.startswith("torch.nn.modules") for base in type(m).__mro__ if base not in _PLAIN)]
    often = {cls for cls, count in Counter(map(type, own)).items() if count > 1}
    listed = {id(m) for c in network.modules() if isinstance(c, nn.ModuleList) for m in c}
    chosen = {id(m) for m in own if type(m) in often or id(m) in listed}
    return list(_outermost(network, chosen))


def _outermost(module: nn.Module, chosen: set[int]) -> Iterator[nn.Module]:
    for child in module.children():
        if id(child) in chosen:
            yield child
        else:
            yield from _outermost(child, chosen)


def freeze(network: nn.Module, trainable: int, where: str) -> None:
    """Leaves only the last blocks of a network to be trained, and what follows them.

    What is frozen stays in evaluation mode, its dropout off and its running averages fixed; see `stay_frozen`.

    Args:
        network: with pretrained weights.
        trainable: number of blocks, 0: nothing is trained; -1: everything is.
        where: the setting, the beginning of the error.

    Raises:
        InputError: fewer than -1, or more blocks than there are.
    """
    if trainable == -1:
        return
    found = blocks(network)
    if not 0 <= trainable <= len(found):
        raise InputError(f"{where}: expected -1 (all) or 0 to {len(found)}, the blocks of this network, got {trainable}")
    network.requires_grad_(False)
    if not trainable:
        return
    last = {id(p) for block in found[-trainable:] for p in block.parameters()}
    after = False
    for parameter in network.parameters():
        after = after or id(parameter) in last
        parameter.requires_grad_(after)


def stay_frozen(network: nn.Module) -> None:
    """Puts every part of a network whose parameters are all frozen into evaluation mode."""
    if all(p.requires_grad for p in network.parameters()):
        return
    for module in network.modules():
        own = list(module.parameters())
        if own and not any(p.requires_grad for p in own):
            for each in module.modules():
                each.training = False  # not by `eval`, which may lead here again
