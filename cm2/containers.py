"""Containers of modules of one type; nothing but what the type checker knows of them differs from torch's."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from torch import nn

M = TypeVar("M", bound=nn.Module)


class ModulesByName(nn.ModuleDict, Generic[M]):
    """``nn.ModuleDict`` of modules of one type."""

    if TYPE_CHECKING:

        def __init__(self, modules: Mapping[str, M]) -> None: ...
        def __getitem__(self, key: str) -> M: ...
        def items(self) -> ItemsView[str, M]: ...
        def values(self) -> ValuesView[M]: ...


class ModulesInOrder(nn.ModuleList, Generic[M]):
    """``nn.ModuleList`` of modules of one type."""

    if TYPE_CHECKING:

        def __init__(self, modules: Iterable[M]) -> None: ...
        @overload
        def __getitem__(self, idx: slice) -> ModulesInOrder[M]: ...
        @overload
        def __getitem__(self, idx: int) -> M: ...
        def __getitem__(self, idx: int | slice) -> M | ModulesInOrder[M]: ...
        def __iter__(self) -> Iterator[M]: ...
