"""Containers of networks of one type; nothing but what the type checker knows of them differs from torch's."""

from __future__ import annotations

from collections.abc import ItemsView, Mapping, ValuesView
from typing import TYPE_CHECKING, Generic, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


class ModulesByName(nn.ModuleDict, Generic[M]):
    """``nn.ModuleDict`` of networks of one type."""

    if TYPE_CHECKING:

        def __init__(self, modules: Mapping[str, M]) -> None: ...
        def __getitem__(self, key: str) -> M: ...
        def items(self) -> ItemsView[str, M]: ...
        def values(self) -> ValuesView[M]: ...
