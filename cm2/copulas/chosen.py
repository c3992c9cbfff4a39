"""A copula whose family is one of several, as parameters that a state can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from cm2.containers import ModulesByName
from cm2.copulas.base import CopulaDistribution
from cm2.copulas.inference.selection import selectable
from cm2.copulas.module import Copula

SLOW = ("student",)
"""Families left out: the density of one takes longer than those of all others together, and a fit after every epoch evaluates it often."""


class Chosen(Copula):
    """One of the families of `selectable` but for the `SLOW` ones, all of which it holds: its state has the same shape whichever it is.

    At first it is the independence copula. It has no name in the registry: which family it is to be is for a fit to say, see
    `cm2.joint.CopulaJoint.fit`.

    Args:
        dim: number of coordinates.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        families = {name: family(dim) for name, family in selectable(dim).items() if name not in SLOW}
        self.candidates: ModulesByName[Copula] = ModulesByName(families)
        # a parameter, although nothing trains it: what copies a module's parameters has to copy which of them count
        self.choice = nn.Parameter(torch.zeros(len(self.candidates)), requires_grad=False)
        self.register_load_state_dict_post_hook(lambda module, _: module._read())
        self.choose("independence")

    @property
    def family(self) -> str:
        """Name of the chosen family."""
        return self._family

    @property
    def chosen(self) -> Copula:
        """The chosen copula."""
        return self.candidates[self._family]

    @torch.no_grad()
    def choose(self, family: str, parameters: Mapping[str, Tensor] | None = None) -> None:
        """Chooses a family, and sets its parameters to those of a state if there is one."""
        self.choice.zero_()[list(self.candidates).index(family)] = 1
        self._read()
        if parameters is not None:
            self.chosen.load_state_dict(dict(parameters))

    def forward(self, validate_args: bool | None = None) -> CopulaDistribution:
        """The chosen family's distribution."""
        return self.chosen(validate_args)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, family={self.family!r}"

    def _read(self) -> None:
        # kept on the host: a training step may not wait for a device to know its law
        self._family = list(self.candidates)[int(self.choice.argmax())]


def counted(copulas: Sequence[Chosen]) -> dict[str, float]:
    """How many of these copulas have each family, by ``family_gaussian`` and so on; empty for none."""
    names = copulas[0].candidates if copulas else ()
    return {f"family_{name}": float(sum(copula.family == name for copula in copulas)) for name in names}
