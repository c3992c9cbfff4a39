"""Base class of learnable copulas, and the registry of families by name."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.inference.estimation import Fit, fit
from cm2.errors import InputError
from cm2.parts import Registry

FAMILIES: Registry[type["Copula"]] = Registry("copula", "cm2.copulas")
"""Families by name. A class that sets ``name`` registers itself, as does an entry point of the group ``cm2.copulas``. Lists of families
are derived from these by the flags of the class."""


class Copula(nn.Module, ABC):
    """A learnable copula with unconstrained parameters; calling it returns the distribution at their current values.

    A subclass that sets ``name`` becomes a family of that name, available to ``make``, ``select``, vines, the simulator and the command
    line. Its flags restrict where it is used.

    Args:
        dim: number of coordinates, at least 2.

    Raises:
        ValueError: dim below 2 or above `max_dim`.
    """

    name: str
    shown: tuple[str, ...] = ()
    """Names of the attributes that are the natural parameters, as in the literature."""
    max_dim: ClassVar[int | None] = None
    """Largest number of coordinates, for example 2 for a family of pairs; None: any number."""
    selectable: ClassVar[bool] = True
    """Whether ``select`` tries it if no families are named; requires that it can be fitted from its default start."""
    pair: ClassVar[bool] = True
    """Whether ``make(name, 2)`` can be a pair copula of a vine."""
    simulated: ClassVar[bool] = True
    """Whether the simulator can draw cohorts from it; requires that its parameters are numbers."""
    contains: ClassVar[tuple[str, ...]] = ("independence",)
    """Names of other families whose laws are special or limiting cases of this one's: they are not compared by Vuong's test."""
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Range of raw parameters, by name, within which maximum likelihood searches: beyond it a likelihood may grow without end."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        FAMILIES.enter(cls)

    def __init__(self, dim: int) -> None:
        super().__init__()
        if isinstance(dim, bool) or not isinstance(dim, int) or dim < 2:
            raise InputError(f"dim is {dim!r}; a copula needs an integer dim of at least 2")
        if not self.allows(dim):
            raise InputError(f"dim is {dim}; the {self.name} copula has at most {self.max_dim} coordinates; make a vine of pairs instead")
        self.dim = dim

    @classmethod
    def allows(cls, dim: int) -> bool:
        """Whether the family exists for this number of coordinates."""
        return cls.max_dim is None or dim <= cls.max_dim

    @abstractmethod
    def forward(self, validate_args: bool | None = None) -> CopulaDistribution:
        """The distribution at the current parameters."""

    @staticmethod
    def kendall_tau_range(dim: int) -> tuple[float, float]:
        """Smallest and largest Kendall's τ that the family attains."""
        return 0.0, 1.0

    @staticmethod
    def from_kendall_tau(tau: float | Tensor, dim: int) -> dict[str, Tensor]:
        """The parameters, by name, at which Kendall's τ between two coordinates is `tau`.

        Raises:
            ValueError: a value that the family does not attain.
        """
        raise InputError("this copula has no parameter that Kendall's tau would determine; give its parameters by name")

    def fit(self, u: Tensor, method: str = "maximum_likelihood", standard_errors: bool = True, ranks: bool = False) -> Fit:
        """Sets the parameters to their estimate from a sample (n, dim) and returns the report; see `inference.estimation.fit`."""
        return fit(self, u, method, standard_errors, ranks)

    def side_by_side(self, count: int) -> Self:
        """So many copies with parameters of their own, as one copula with a batch dimension in front of the others.

        Raises:
            ValueError: count below 1.
        """
        if count < 1:
            raise InputError(f"side_by_side: expected at least one copy, got {count}")
        copies = deepcopy(self)
        for module in copies.modules():
            for name, value in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(value.detach().expand(count, *value.shape).clone()))
        return copies

    def _start_at(self, u: Tensor) -> None:
        """Sets the start of maximum likelihood for a sample (n, dim), in families without a map from Kendall's τ."""

    def extra_repr(self) -> str:
        values = {name: getattr(self, name).detach() for name in self.shown}
        return ", ".join([f"dim={self.dim}", *(f"{name}={value.tolist()}" for name, value in values.items())])


def parameter(value: object, name: str, lower: float, upper: float, interval: str) -> Tensor:
    """A constrained parameter as a floating tensor, checked against its range.

    Raises:
        ValueError: a value outside `interval`, or NaN.
    """
    tensor = value.detach().clone() if isinstance(value, Tensor) else torch.as_tensor(value)
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.get_default_dtype())
    inside = (tensor >= lower if interval.startswith("[") else tensor > lower) & (tensor < upper)  # False for NaN
    if not inside.all():
        raise InputError(f"{name} is {tensor[~inside].flatten()[0].item():g}; it must lie in {interval}")
    return tensor
