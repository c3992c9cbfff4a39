"""The laws every test of the contract runs through: family x dimension, in float64."""

import pytest
import torch

from cm2.copulas import Copula
from cm2.copulas import make as make_unrotated

STRONG = {"independence": {}, "gumbel": {"alpha": 2.5}, "frank": {"alpha": 5.0}, "clayton": {"alpha": 1.7}, "joe": {"alpha": 3.0}}
ELLIPTICAL = {"gaussian": {}, "student": {"nu": 3.5}}
FAMILIES = [*STRONG, *ELLIPTICAL]
MIXED = ["mixture"]  # laws made of others
LEARNABLE = [name for name in FAMILIES if name != "independence"]
TURNED = ("gumbel", "clayton", "joe", "frank", "gaussian", "student")
ROTATED = [f"{name} {rotation}" for name in TURNED for rotation in (90, 180, 270)]  # dim 2


def make(name: str, dim: int, **parameters: object) -> Copula:
    """`cm2.copulas.make`, also for a family's name with a rotation behind it."""
    family, *rotation = name.split()
    return make_unrotated(family, dim, rotation=int(rotation[0]) if rotation else 0, **parameters)


def strong(name: str, dim: int) -> Copula:
    """A clearly dependent member of a family."""
    family = name.split()[0]
    if family == "mixture":
        return make(name, dim, copulas=[strong(part, dim) for part in ("gumbel", "clayton", "gaussian")], weights=[0.5, 0.3, 0.2])
    if family == "vine":
        return vine(dim)
    if family not in ELLIPTICAL:
        return make(name, dim, **STRONG[family])
    if dim == 2:
        return make(name, dim, rho=0.6, **ELLIPTICAL[family])
    place = torch.arange(dim, dtype=torch.get_default_dtype())
    return make(name, dim, correlation=0.7 ** (place[:, None] - place).abs(), **ELLIPTICAL[name])


PAIRS = [
    [("gumbel", {"alpha": 2.0}), ("student", {"rho": 0.6, "nu": 3.5}), ("clayton", {"alpha": 1.5})],
    [("frank", {"alpha": 3.0}), ("clayton", {"alpha": 0.8})],
    [("gaussian", {"rho": 0.4})],
]


def vine(dim: int, **changes: dict) -> Copula:
    """A D-vine of up to four coordinates with pairs of many families; `changes` replaces parameters of every pair of a family."""
    pairs = [[make(name, 2, **{**values, **changes.get(name, {})}) for name, values in tree[: dim - 1 - t]] for t, tree in enumerate(PAIRS)]
    return make("vine", dim, pair_copulas=pairs[: dim - 1])


def unfitted(name: str, dim: int) -> Copula:
    """A family as it starts; a vine of the pair families of the strong one."""
    if name != "vine":
        return make(name, dim)
    return make(name, dim, pair_copulas=[[make(pair, 2) for pair, _ in tree[: dim - 1 - t]] for t, tree in enumerate(PAIRS[: dim - 1])])


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)
