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


def check_slopes(function, *inputs: torch.Tensor, rtol: float = 1e-3, atol: float = 1e-5, step: float = 1e-6) -> None:
    """Gradients against central differences, those of all inputs and rows in one call: what `gradcheck` does one number after another.

    Args:
        function: its value, (n,) or (n, m), depends in each row on that row of each input alone.
        inputs: (n,) or (n, d).
        rtol, atol: of a derivative.
        step: to either side.
    """
    inputs = [each.detach().requires_grad_() for each in inputs]
    wide = lambda tensors: torch.cat([each.reshape(len(each), -1) for each in tensors], -1)
    rows = wide(inputs).detach()
    count, width = rows.shape
    steps = step * torch.eye(width)
    moved = (rows + torch.cat([steps, -steps])[:, None]).flatten(0, 1).split([each.numel() // count for each in inputs], -1)
    moved = [part.reshape(-1, *each.shape[1:]).requires_grad_() for part, each in zip(moved, inputs, strict=True)]
    above, below = function(*moved).detach().view(2, width, count, -1)
    values = function(*inputs).view(count, -1).unbind(-1)
    ours = torch.stack([wide(torch.autograd.grad(value.sum(), inputs, retain_graph=True)) for value in values], -1)
    torch.testing.assert_close(ours.transpose(0, 1), (above - below) / (2 * step), rtol=rtol, atol=atol)


def slope(function, place: int):
    """The derivative of a `function` of rows in the column `place` of its inputs, counted through all of them, as a function of rows."""

    def derivative(*inputs: torch.Tensor) -> torch.Tensor:
        grads = torch.autograd.grad(function(*inputs).sum(), inputs, create_graph=True)
        return torch.cat([each.reshape(len(each), -1) for each in grads], -1)[:, place]

    return derivative


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)
