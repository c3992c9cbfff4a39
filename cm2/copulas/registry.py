"""Construction of copulas by family name; importing this module imports all of ``cm2.copulas.families``, which fills `FAMILIES`."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from cm2.config.names import did_you_mean, import_all
from cm2.copulas import families
from cm2.copulas.families.rotated import Rotated, check_rotation
from cm2.copulas.module import FAMILIES, Copula
from cm2.errors import InputError

__all__ = ["FAMILIES", "make"]

import_all(families.__name__, families.__path__)  # each family registers itself on import


def make(name: str, dim: int, *, rotation: int = 0, kendall_tau: float | Tensor | None = None, **parameters: Any) -> Copula:
    """Makes a learnable copula by family name; without parameters it starts near, but not at, independence.

    Args:
        name: one of `FAMILIES`.
        dim: number of coordinates, at least 2.
        rotation: 0, 90, 180 or 270 degrees, the last three for dim 2 only; see `RotatedDistribution`.
        kendall_tau: Kendall's tau between two coordinates (of the rotated copula), instead of the parameter that it determines.
        **parameters: gumbel, frank, clayton, joe: `alpha`; gaussian, student: `rho` (dim 2) or `correlation` (dim, dim); student: `nu`;
            mixture: `copulas`, a list of modules, and `weights`; vine: `structure`, `pair_copulas`, one list of modules of dim 2 per tree,
            and `truncation`, see `Vine`.

    Raises:
        ValueError: unknown name or parameter, or a value outside its range.
    """
    family = FAMILIES.find(name)
    known = [key for key in inspect.signature(family).parameters if key != "dim"]
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise InputError(
            f"the {name} copula has no parameter {unknown[0]!r}; it takes {', '.join(known) or 'none'}{did_you_mean(unknown[0], known)}"
        )
    if rotation:
        check_rotation(rotation, dim)
        # reflecting one coordinate changes the sign of tau, reflecting both does not
        inner = -kendall_tau if kendall_tau is not None and rotation != 180 else kendall_tau
        return Rotated(make(name, dim, kendall_tau=inner, **parameters), rotation)
    if kendall_tau is not None:
        implied = family.from_kendall_tau(kendall_tau, dim)
        twice = sorted(set(implied) & set(parameters))
        if twice:
            raise InputError(f"both kendall_tau and {twice[0]} are given, and each determines the other; give one of them")
        parameters |= implied
    return family(dim, **parameters)
